"""AMQP with `await`: one connection that opens when it is needed, and calls on channels that may be thrown away."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel as PikaChannel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    UnsupportedAMQPFieldException,
)

from reconciler.errors import BrokerUnreachable, NoSuchQueue, ReconcilerError, Refused, Temporary

CONNECT_SECONDS = 4.0
CALL_SECONDS = 30.0
CHANNELS = 16  # calls under way at once on one connection
DEFAULT_HEARTBEAT = 20

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


class Link:
    """One AMQP connection. It is opened by the first that needs it and again after it was lost."""

    def __init__(self, url: str, name: str, on_lost: Callable[[], None] = lambda: None) -> None:
        self.parameters = parameters(url, name)
        self._on_lost = on_lost
        self._connection: AsyncioConnection | None = None
        self._opening: asyncio.Task[AsyncioConnection] | None = None
        self._slots = asyncio.Semaphore(CHANNELS)
        self._idle: list[Channel] = []

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    async def connection(self) -> AsyncioConnection:
        """The open connection. Raises BrokerUnreachable after at most CONNECT_SECONDS."""
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> AsyncioConnection:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection = AsyncioConnection(
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
        return connection

    def _lost(self, _: Any, reason: BaseException) -> None:
        self._connection, self._idle = None, []
        self._on_lost()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """A channel for one call at a time; one that the broker closed is not used again."""
        async with self._slots:
            connection = await self.connection()
            channel = self._idle.pop() if self._idle else await Channel.open(connection)
            try:
                yield channel
            finally:
                if channel.raw.is_open and connection is self._connection:
                    self._idle.append(channel)

    async def call(self, method: str, **arguments: Any) -> Any:
        """Calls `method` of a pika channel and returns the method frame that answers it."""
        async with self.channel() as channel:
            return await channel.call(method, **arguments)

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
    """A pika channel whose calls can be awaited; what closes it fails the call under way."""

    def __init__(self, raw: PikaChannel) -> None:
        self.raw = raw
        self.closed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        raw.add_on_close_callback(lambda _, reason: _settle(self.closed, reason))

    @classmethod
    async def open(cls, connection: AsyncioConnection) -> Channel:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            raw = connection.channel(on_open_callback=lambda c: _settle(opened, c))
        except AMQPError as error:
            raise BrokerUnreachable(f"the connection to the broker was lost: {text_of(error)}") from None
        channel = cls(raw)
        await channel.wait(opened)
        return channel

    async def call(self, method: str, **arguments: Any) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            getattr(self.raw, method)(callback=lambda frame: _settle(answer, frame), **arguments)
        except AMQPError as error:
            raise translated(error) from None
        return await self.wait(answer)

    async def wait(self, answer: asyncio.Future[Any]) -> Any:
        waiting: set[asyncio.Future[Any]] = {answer, self.closed}
        await asyncio.wait(waiting, timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if self.closed.done():
            raise translated(self.closed.result())
        raise Temporary(f"the broker did not answer within {CALL_SECONDS:.0f} s (it may be blocked or overloaded)")


def translated(reason: BaseException) -> ReconcilerError:
    """What the broker or the network said, as one of our errors."""
    if isinstance(reason, ChannelClosedByBroker):
        text = reason.reply_text
        match reason.reply_code:
            case 404:
                return NoSuchQueue(text)
            case 403 | 405 | 406 | 540:
                return Refused(text)
            case _:
                return Temporary(text)
    if isinstance(reason, UnsupportedAMQPFieldException):
        return Refused(f"AMQP does not carry the value {reason.args[-1]!r:.60} (send it as text)")
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
