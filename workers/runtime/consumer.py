"""Keeps one consumer registered at the broker, and puts what it delivers into the inbox. Runs on the I/O thread.

It never declares: a worker that declares would bring a deleted queue back, and trip over arguments.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from queue import SimpleQueue

from loguru import logger
from pika import SelectConnection
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel as PikaChannel
from pika.spec import Basic, BasicProperties

from . import log
from .detour import Delivery
from .link import Backoff, Link, channel_words
from .notify import Reporter
from .settings import Settings, parsed
from .settle import Settler

PYTHON = platform.python_version()
Inbox = SimpleQueue[Delivery | None]  # None: stop


class Consumer:
    """The consumer of one worker process."""

    def __init__(self, loop: IOLoop, settings: Settings, settler: Settler, inbox: Inbox, reporter: Reporter) -> None:
        self._loop = loop
        self._settings = settings
        self._settler = settler
        self._inbox = inbox
        self._reporter = reporter
        self._link = Link(loop, settings.parameters, self._connected, self._disconnected)
        self._backoff = Backoff()
        self._channel: PikaChannel | None = None
        self._retry: object = None
        self._cancelled_by_broker = False
        self._stopping = False
        self._said = ""

    def start(self) -> None:
        """Once the loop runs."""
        self._link.open()

    def introduce(self) -> None:
        """Before the loop runs: the settings are this process's own now."""
        self._link.introduce()

    def cancel(self) -> None:
        """Take no more messages; what is in hand can still be settled."""
        self._stopping = True
        if self._channel is not None and self._channel.is_open and self._settler.is_open:
            self._channel.basic_cancel(self._settings.consumer_tag)

    def close(self, closed: Callable[[], None]) -> None:
        """Close the connection; the broker takes back what is not settled."""
        self._link.close(closed)

    def _connected(self, connection: SelectConnection) -> None:
        self._open_channel()

    def _disconnected(self, why: str) -> None:
        if self._retry is not None:
            self._loop.remove_timeout(self._retry)
            self._retry = None
        self._lost(why)

    def _open_channel(self) -> None:
        self._retry = None
        if not self._stopping:
            self._link.connection.channel(on_open_callback=self._subscribe)

    def _subscribe(self, channel: PikaChannel) -> None:
        if self._stopping:
            return
        self._channel = channel
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_cancel_callback(self._cancelled)
        channel.basic_qos(prefetch_count=self._settings.prefetch)
        channel.basic_consume(
            self._settings.queue,
            self._delivered,
            consumer_tag=self._settings.consumer_tag,
            callback=lambda _: self._consuming(channel),
        )

    def _consuming(self, channel: PikaChannel) -> None:
        self._settler.attach(channel)
        self._backoff.reset()
        self._link.backoff.reset()
        self._said = ""
        status = f"consuming from {self._settings.queue}"
        log.say(f"{status} as {self._settings.consumer_tag}: {self._terms}")
        self._reporter.ready(status)
        if self._stopping:
            self.cancel()

    @property
    def _terms(self) -> str:
        at = parsed(self._settings.url)
        there = f"broker {at.host}:{at.port}, prefetch {self._settings.prefetch}, heartbeat {at.heartbeat} s"
        return f"{there}, Python {PYTHON}"

    def _delivered(self, _: PikaChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        self._settler.delivered(method)
        self._inbox.put((method, properties, body))

    def _cancelled(self, _: object) -> None:
        """The queue is gone, or moved. On a new channel no tag of the old one can be mistaken."""
        self._cancelled_by_broker = True
        self._settler.detach()
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _channel_closed(self, _: PikaChannel, error: BaseException) -> None:
        self._channel = None
        self._settler.detach()
        gone, self._cancelled_by_broker = self._cancelled_by_broker, False
        if self._stopping or not self._link.is_open:
            return
        queue = self._settings.queue
        self._lost(f"queue {queue} was deleted" if gone else channel_words(error, queue))
        self._retry = self._loop.call_later(self._backoff.next(), self._open_channel)

    def _lost(self, why: str) -> None:
        if why == self._said or self._stopping:
            return
        self._said = why
        logger.warning("not consuming: {}", why)
        self._reporter.lost(why)
