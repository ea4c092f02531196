"""Publishers that do all that a publisher can do: confirms, `mandatory`, and again what was returned or not taken."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from typing import Any

import pika
from pika.adapters.select_connection import SelectConnection

logging.getLogger("pika").setLevel(logging.CRITICAL)

WINDOW = 50  # messages without a confirm at once


class Publisher:
    """One connection that publishes `NAME:NUMBER`, numbered from 1, `rate` times a second until it is told to stop."""

    def __init__(self, amqp_url: str, name: str, exchange: str, routing_key: str, rate: float) -> None:
        self.confirmed: list[bytes] = []
        self.returned = self.refused = 0
        self._url = amqp_url
        self._name = name
        self._to = exchange, routing_key
        self._rate = rate
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._sent = 0
        self._tag = 0
        self._open: dict[int, bytes] = {}
        self._came_back: set[bytes] = set()
        self._channel: Any = None

    def start(self) -> Publisher:
        self._thread.start()
        return self

    def stop(self) -> set[bytes]:
        """Every message that the broker has confirmed."""
        self._stopping.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the broker confirms nothing any more"
        return set(self.confirmed)

    def _run(self) -> None:
        """A connection that is lost is opened again, and what was not confirmed is sent again."""
        while not (self._stopping.is_set() and not self._open):
            self._began = time.monotonic() - self._sent / self._rate
            connection = SelectConnection(
                pika.URLParameters(self._url),
                on_open_callback=lambda c: c.channel(on_open_callback=self._on_channel),
                on_open_error_callback=lambda c, _: c.ioloop.call_later(0.1, c.ioloop.stop),
                on_close_callback=lambda c, _: c.ioloop.call_later(0.1, c.ioloop.stop),
            )
            connection.ioloop.start()
            connection.ioloop.close()

    def _on_channel(self, channel: Any) -> None:
        self._channel, again = channel, list(self._open.values())
        self._open, self._tag = {}, 0
        self._came_back.clear()
        channel.add_on_return_callback(lambda _, __, ___, body: self._came_back.add(body))

        def begin(_: Any) -> None:
            for body in again:
                self._send(body)
            self._tick()

        channel.confirm_delivery(self._on_confirm, callback=begin)

    def _tick(self) -> None:
        if not self._channel.is_open:
            return
        due = (time.monotonic() - self._began) * self._rate
        while len(self._open) < WINDOW and self._sent < due and not self._stopping.is_set():
            self._sent += 1
            self._send(f"{self._name}:{self._sent}".encode())
        if self._stopping.is_set() and not self._open:
            self._channel.connection.close()
        else:
            self._channel.connection.ioloop.call_later(0.005, self._tick)

    def _send(self, body: bytes) -> None:
        self._tag += 1
        self._open[self._tag] = body
        properties = pika.BasicProperties(delivery_mode=2, headers={"from": self._name})
        self._channel.basic_publish(*self._to, body, properties, mandatory=True)

    def _on_confirm(self, frame: Any) -> None:
        last, taken = frame.method.delivery_tag, isinstance(frame.method, pika.spec.Basic.Ack)
        for tag in [t for t in self._open if t <= last] if frame.method.multiple else [last]:
            body = self._open.pop(tag)
            if body in self._came_back:
                self._came_back.discard(body)
                self.returned += 1
                self._send(body)
            elif taken:
                self.confirmed.append(body)
            else:
                self.refused += 1
                self._send(body)


def publishers(amqp_url: str, queue: str, exchange: str, routing_key: str, rate: float) -> list[Publisher]:
    """One through the default exchange and one through `exchange`, both under way."""
    both = [Publisher(amqp_url, "default", "", queue, rate), Publisher(amqp_url, "routed", exchange, routing_key, rate)]
    return [one.start() for one in both]


def take_all(amqp_url: str, queue: str) -> list[bytes]:
    """Consumes the queue until it is empty: the bodies in their order."""
    found: list[bytes] = []
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=500)
        while True:
            for method, _, body in channel.consume(queue, inactivity_timeout=1):
                if method is None:
                    break
                found.append(body)
                channel.basic_ack(method.delivery_tag)
            channel.cancel()  # which gives back what is on its way
            # A busy broker may pause for longer, a large message takes longer: the broker says whether there are more.
            method, _, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append(body)


def first_seen(bodies: list[bytes], name: str) -> list[int]:
    """The numbers of a publisher's messages in the order in which each was first seen."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for body in dict.fromkeys(bodies):
        who, _, number = body.decode().partition(":")
        numbers[who].append(int(number))
    return numbers[name]
