"""Publishes for the handler and for `detour`, with confirms, on a connection of its own, opened at the first use.

Of its own, because in a memory or disk alarm the broker stops reading from connections that publish: acks must not
stand behind that. One message is on the way at a time, so a return or a confirm always means that one.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger
from pika import BasicProperties, SelectConnection
from pika.adapters.blocking_connection import ReturnedMessage
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel as PikaChannel
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, NackError, UnroutableError
from pika.frame import Method
from pika.spec import Basic

from .failure import size_of
from .link import Link
from .settings import Settings

LAST_CALL = 5.0  # seconds that a publish may still wait for the broker once the worker is told to stop


@dataclass(eq=False)
class Publication:
    """One message on its way. `ended` is told how it went; one that is not `wanted` any more is not sent again."""

    exchange: str
    routing_key: str
    body: bytes | str
    properties: BasicProperties | None
    mandatory: bool
    ended: Callable[[BaseException | None], None]
    wanted: Callable[[], bool] = lambda: True
    error: BaseException | None = None

    def end(self, error: BaseException | None = None) -> None:
        self.ended(self.error or error)


class Outcome:
    """What a thread waits for."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None

    def ended(self, error: BaseException | None) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> None:
        """Raises what went wrong."""
        self._done.wait()
        if self._error is not None:
            raise self._error


class Publisher:
    """`publish` is for any thread; the rest runs on the I/O thread."""

    def __init__(self, loop: IOLoop, settings: Settings) -> None:
        self._loop = loop
        self._settings = settings
        self._link: Link | None = None
        self._channel: PikaChannel | None = None
        self._waiting: deque[Publication] = deque()  # the first one is on the way, if the channel is open
        self._sent = 0  # on this channel, so the tag of the last one
        self._given_up = False
        self._blocked = False
        self._said = ""

    def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes | str,
        properties: BasicProperties | None,
        mandatory: bool,
    ) -> None:
        """Publish and wait for the confirm. Raises what `Channel.basic_publish` names."""
        outcome = Outcome()
        publication = Publication(exchange, routing_key, body, properties, mandatory, outcome.ended)
        self._loop.add_callback_threadsafe(lambda: self.send(publication))
        outcome.wait()

    def last_call(self) -> None:
        """The worker stops: whoever still waits for the broker in `LAST_CALL` seconds is told that it is away."""
        self._loop.call_later(LAST_CALL, self._give_up)

    def close(self, closed: Callable[[], None]) -> None:
        """Close the connection, if there is one, then call `closed`. In an alarm the broker would not hear us."""
        self._give_up()
        if self._link is None or self._blocked:
            closed()
        else:
            self._link.close(closed)

    def send(self, publication: Publication) -> None:
        """As `publish`, without waiting."""
        self._waiting.append(publication)
        if self._link is None:
            parameters = functools.partial(self._settings.parameters, "publisher")
            self._link = Link(self._loop, parameters, self._connected, self._disconnected)
            self._link.open()
        elif self._given_up and self._is_stuck:
            self._give_up()
        elif len(self._waiting) == 1:
            self._send_first()

    def _connected(self, connection: SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._block())
        connection.add_on_connection_unblocked_callback(lambda *_: self._unblock())
        self._open_channel()

    def _open_channel(self) -> None:
        if self._link is not None and self._link.is_open:
            self._link.connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: PikaChannel) -> None:
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _: self._ready(channel))

    def _ready(self, channel: PikaChannel) -> None:
        assert self._link is not None
        self._channel = channel
        self._sent = 0
        self._link.backoff.reset()
        self._said = ""
        self._send_first()

    def _send_first(self) -> None:
        """Send the next message; one that cannot even be encoded goes back to its handler."""
        while self._waiting and self._channel is not None:
            first = self._waiting[0]
            if not first.wanted():
                self._waiting.popleft()
                continue
            first.error = None
            try:
                self._refuse_too_large(first.properties)
                self._channel.basic_publish(
                    first.exchange, first.routing_key, first.body, first.properties, first.mandatory
                )
                self._sent += 1
                return
            except Exception as error:
                self._end_first(error)

    def _refuse_too_large(self, properties: BasicProperties | None) -> None:
        """They travel in one frame. Over one that is larger the broker closes the connection, over and over."""
        if properties is None or not properties.headers or self._link is None:
            return
        size, most = size_of(properties), self._link.connection.params.frame_max - 20
        if size > most:
            raise ValueError(f"the message's headers and properties have {size:,} bytes (RabbitMQ takes {most:,} here)")

    def _end_first(self, error: BaseException | None = None) -> None:
        if self._waiting:
            self._waiting.popleft().end(error)

    def _returned(self, _: PikaChannel, method: Basic.Return, properties: BasicProperties, body: bytes) -> None:
        if self._waiting:
            self._waiting[0].error = UnroutableError([ReturnedMessage(method, properties, body)])

    def _confirmed(self, frame: Method) -> None:
        if frame.method.delivery_tag < self._sent:
            return  # of one that was given up
        self._end_first(NackError([]) if isinstance(frame.method, Basic.Nack) else None)
        self._send_first()

    def _channel_closed(self, _: PikaChannel, error: BaseException) -> None:
        self._channel = None
        if isinstance(error, ChannelClosedByBroker):
            self._end_first(error)
            self._open_channel()

    def _disconnected(self, why: str) -> None:
        self._channel = None
        self._blocked = False
        if why != self._said and self._waiting:
            self._said = why
            logger.warning("publishing waits: {}", why)
        if self._given_up:
            self._give_up()

    def _block(self) -> None:
        self._blocked = True
        logger.warning("publishing waits: the broker is in a memory or disk alarm")
        if self._given_up:
            self._give_up()

    def _unblock(self) -> None:
        self._blocked = False
        logger.info("publishing goes on: the broker's alarm is over")

    @property
    def _is_stuck(self) -> bool:
        return self._channel is None or self._blocked

    def _give_up(self) -> None:
        """No more waiting for a broker that is away or in an alarm: the message in hand goes back to its queue."""
        self._given_up = True
        if self._is_stuck:
            while self._waiting:
                self._end_first(AMQPConnectionError("the broker takes nothing, and this worker is told to stop"))
