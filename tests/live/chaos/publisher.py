"""Publishes to all queues without end, and remembers only what the broker has confirmed."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

import pika
from pika.exceptions import AMQPError

EVERY = 0.004  # seconds between two messages


class Publisher:
    """Reconnects until told to stop. What was not confirmed may or may not have arrived: it is not counted."""

    def __init__(self, amqp_url: str, queues: Sequence[str]) -> None:
        self.confirmed: list[str] = []
        self._url = amqp_url
        self._queues = queues
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the last message is confirmed or given up."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(90)
            assert not self._thread.is_alive(), "the publisher hangs"

    def _run(self) -> None:
        names = (f"{queue}-{number}" for number in itertools.count() for queue in self._queues)
        while not self._stop.is_set():
            with contextlib.suppress(AMQPError, OSError):
                self._publish(names)
            self._stop.wait(0.1)

    def _publish(self, names: Iterator[str]) -> None:
        parameters = pika.URLParameters(self._url)
        parameters.heartbeat, parameters.blocked_connection_timeout = 10, 10
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.confirm_delivery()
        persistent = pika.BasicProperties(delivery_mode=2)
        try:
            while not self._stop.is_set():
                name = next(names)
                channel.basic_publish("", name.partition("-")[0], name.encode(), persistent, mandatory=True)
                self.confirmed.append(name)
                self._stop.wait(EVERY)
        finally:
            with contextlib.suppress(AMQPError, OSError):
                connection.close()
