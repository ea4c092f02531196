"""AMQP with `await`: one connection that opens when it is needed, and calls on channels that may be thrown away."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pika
from pika import spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel as PikaChannel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ChannelWrongStateError,
    ConnectionClosedByBroker,
    UnsupportedAMQPFieldException,
)

from reconciler.errors import BrokerUnreachable, NoSuchExchange, NoSuchQueue, ReconcilerError, Refused, Temporary

CONNECT_SECONDS = 4.0
CALL_SECONDS = 30.0
CHANNELS = 128  # calls under way at once on one connection, if the broker allows so many
DEFAULT_HEARTBEAT = 20
HARD_ERRORS = range(500, 600)  # the codes with which a broker closes a connection over something it was asked to do

# pika logs each failed attempt with tracebacks; what matters of them is in the errors raised here.
logging.getLogger("pika").setLevel(logging.CRITICAL)


def parameters(url: str, name: str) -> pika.URLParameters:
    """Connection parameters for `url`. Raises ValueError if it is not an AMQP URL."""
    if not url.startswith(("amqp://", "amqps://")):
        raise ValueError("it must begin with amqp:// or amqps://")
    found = pika.URLParameters(url)
    if not found.host:
        raise ValueError("it names no host")
    found.socket_timeout = found.stack_timeout = CONNECT_SECONDS
    found.connection_attempts = 1
    if found.heartbeat is None:
        found.heartbeat = DEFAULT_HEARTBEAT
    found.client_properties = {"connection_name": f"reconciler {name}"}
    return found


class Connection(AsyncioConnection):
    """Frames that are written in one go of the loop leave in one `send`: the system call costs more than a frame.

    Declarations, of which there may be 10,000, go past pika's registry of callbacks, which costs as much as the rest.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._outgoing: list[bytes] = []
        self._declaring: dict[int, asyncio.Future[Any]] = {}  # by channel
        super().__init__(*arguments, **named)  # begins to connect

    def _adapter_emit_data(self, data: bytes) -> None:
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._send_together)
        self._outgoing.append(data)

    def _send_together(self) -> None:
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        if self._transport is not None:
            super()._adapter_emit_data(data)

    def declare(self, channel: int, queue: spec.Queue.Declare, answer: asyncio.Future[Any]) -> None:
        """Sends it on an open channel. `answer` gets the frame with the queue's counts."""
        self._send_method(channel, queue)
        self._declaring[channel] = answer

    def forget(self, channel: int) -> None:
        """It is closed, and its number may be another's next."""
        self._declaring.pop(channel, None)

    def _process_frame(self, frame_value: Any) -> None:
        is_answer = type(getattr(frame_value, "method", None)) is spec.Queue.DeclareOk
        answer = self._declaring.pop(frame_value.channel_number, None) if is_answer else None
        if answer is None:
            super()._process_frame(frame_value)
        else:
            self.frames_received += 1
            _settle(answer, frame_value)


class Link:
    """One AMQP connection. It is opened by the first that needs it and again after it was lost."""

    def __init__(
        self,
        url: str,
        name: str,
        on_lost: Callable[[], None] = lambda: None,
        kind: type[Connection] = Connection,
    ) -> None:
        self.parameters = parameters(url, name)
        self._url, self._name = url, name
        self._on_lost = on_lost
        self._kind = kind
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._slots = asyncio.Semaphore(CHANNELS)
        self._idle: list[Channel] = []
        self._one_alone = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    async def connection(self) -> Connection:
        """The open connection. Raises BrokerUnreachable after at most CONNECT_SECONDS."""
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Connection:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection = self._kind(
            self.parameters,
            on_open_callback=lambda c: _settle(opened, c),
            on_open_error_callback=lambda _, error: _settle(opened, error),
            on_close_callback=self._lost,
            custom_ioloop=asyncio.get_running_loop(),
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS + 1):
                result = await opened
        except TimeoutError:
            result = TimeoutError("no answer")
            _abandon(connection)
        if isinstance(result, BaseException):
            raise unreachable(self.parameters, result)
        self._connection, self._idle = connection, []
        self._slots = asyncio.Semaphore(min(CHANNELS, connection.params.channel_max or CHANNELS))
        return connection

    def _lost(self, _: Any, reason: BaseException) -> None:
        self._connection, self._idle = None, []
        self._on_lost()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel for one call at a time; one that was closed, or left in the middle of a call, is not used again."""
        await self.connection()  # which knows how many channels there may be
        async with self._slots:
            connection = await self.connection()
            channel = self._idle.pop() if self._idle else await Channel.open(connection)
            try:
                yield channel
            finally:
                if channel.is_idle and connection is self._connection:
                    self._idle.append(channel)
                else:
                    channel.drop()

    async def call(self, method: str, **arguments: Any) -> Any:
        """Calls `method` of a pika channel, one that may be repeated, and returns the method frame that answers it.

        Many calls are under way at once on one connection, each on a channel of its own.
        """
        try:
            async with self.channel() as channel:
                return await channel.call(method, **arguments)
        except ConnectionClosedOverCall:
            return await self._call_alone(method, arguments)

    async def _call_alone(self, method: str, arguments: dict[str, Any]) -> Any:
        """The broker closed the connection over one of the calls on it: done alone, each gets its own answer."""
        async with self._one_alone:
            alone = Link(self._url, f"{self._name}, one call")
            try:
                async with alone.channel() as channel:
                    return await channel.call(method, **arguments)
            except ConnectionClosedOverCall as closed:
                raise closed.as_answer() from None
            finally:
                await alone.close()

    async def close(self) -> None:
        connection, self._on_lost = self._connection, lambda: None
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        if connection is None or not connection.is_open:
            return
        closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection.add_on_close_callback(lambda *_: _settle(closed, None))
        connection.close()
        await asyncio.wait({closed}, timeout=2)


class Channel:
    """A pika channel with one call at a time that can be awaited; what closes it fails the call under way."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.raw: PikaChannel
        self._answer: asyncio.Future[Any] | None = None
        self._closed: BaseException | None = None  # why

    @classmethod
    async def open(cls, connection: Connection) -> Channel:
        channel = cls(connection)
        try:
            channel.raw = connection.channel(on_open_callback=partial(_settle, channel._expect()))
        except AMQPError as error:
            raise BrokerUnreachable(f"the connection to the broker was lost: {text_of(error)}") from None
        channel.raw.add_on_close_callback(channel._on_close)
        await channel._wait()
        return channel

    @property
    def is_idle(self) -> bool:
        """Is it open, with no call on its way?"""
        return self._answer is None and self.raw.is_open

    async def call(self, method: str, **arguments: Any) -> Any:
        """The method frame that answers. Raises one of our errors."""
        answer = self._expect()
        try:
            if method == "queue_declare":
                self._declare(answer, **arguments)
            else:
                getattr(self.raw, method)(callback=partial(_settle, answer), **arguments)
        except AMQPError as error:
            self._answer = None
            raise translated(self._closed or error) from None
        return await self._wait()

    def _declare(
        self,
        answer: asyncio.Future[Any],
        queue: str,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if not self.raw.is_open:
            raise ChannelWrongStateError("the channel is closed")
        declare = spec.Queue.Declare(0, queue, passive, durable, exclusive, False, False, dict(arguments or {}))
        self.connection.declare(self.raw.channel_number, declare, answer)

    def _expect(self) -> asyncio.Future[Any]:
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    async def _wait(self) -> Any:
        """The answer. Without one in time the channel stays in the middle of its call."""
        assert self._answer is not None
        late = asyncio.get_running_loop().call_later(CALL_SECONDS, _settle, self._answer, None)
        try:
            answer = await self._answer
        finally:
            late.cancel()
        if answer is None:
            raise Temporary(f"the broker did not answer within {CALL_SECONDS:.0f} s (it may be blocked or overloaded)")
        self._answer = None
        if isinstance(answer, BaseException):
            raise translated(answer)
        return answer

    def _on_close(self, _: Any, reason: BaseException) -> None:
        self._closed = reason
        self.connection.forget(self.raw.channel_number)
        if self._answer is not None:
            _settle(self._answer, reason)

    def drop(self) -> None:
        """Closes what nobody will use again."""
        if self.raw.is_open:
            self.raw.close()


class ConnectionClosedOverCall(BrokerUnreachable):
    """The broker closed the connection over something it was asked to do."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"the connection to the broker was lost: {text}")
        self.code, self.text = code, text

    def as_answer(self) -> ReconcilerError:
        """What it says if it was the only call. An internal error (541) may pass, such as nodes that are missing."""
        lasting = self.code != 541 or "deprecated" in self.text or "not permitted" in self.text
        return Refused(self.text) if lasting else Temporary(self.text)


def translated(reason: BaseException) -> ReconcilerError:
    """What the broker or the network said, as one of our errors."""
    if isinstance(reason, ChannelClosedByBroker):
        text = reason.reply_text
        match reason.reply_code:
            case 404 if "no exchange" in text:
                return NoSuchExchange(text)
            case 404:
                return NoSuchQueue(text)
            case 403 | 405 | 406 | 540:
                return Refused(text)
            case _:
                return Temporary(text)
    if isinstance(reason, UnsupportedAMQPFieldException):
        return Refused(f"AMQP does not carry the value {reason.args[-1]!r:.60} (send it as text)")
    if isinstance(reason, ConnectionClosedByBroker) and reason.reply_code in HARD_ERRORS:
        return ConnectionClosedOverCall(reason.reply_code, reason.reply_text)
    return BrokerUnreachable(f"the connection to the broker was lost: {text_of(reason)}")


def unreachable(to: pika.ConnectionParameters, reason: BaseException) -> BrokerUnreachable:
    return BrokerUnreachable(f"the broker at {to.host}:{to.port} cannot be reached: {text_of(reason)}")


def text_of(reason: BaseException) -> str:
    """The innermost cause of a pika error in words; pika nests them in `exceptions`, `exception` and `args`."""
    for _ in range(8):
        inner = [*getattr(reason, "exceptions", ()), getattr(reason, "exception", None), *reason.args]
        causes = [cause for cause in inner if isinstance(cause, BaseException)]
        if not causes:
            break
        reason = causes[-1]
    if isinstance(reason, ConnectionClosedByBroker | ChannelClosedByBroker):
        return reason.reply_text
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    text = str(reason) or type(reason).__name__
    said = re.fullmatch(r"ConnectionClosedByBroker: \(\d+\) '(.*)'", text)
    return said[1] if said else text


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _abandon(connection: AsyncioConnection) -> None:
    try:
        connection.close()
    except AMQPError:
        pass
