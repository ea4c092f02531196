"""Messages from one queue to an exchange: published with confirms and `mandatory`, acked only when that is confirmed.

    source ─▶ consumer (prefetch) ─▶ publish, mandatory ─▶ confirm ─▶ ack

One channel does both, so the order stays. What is not confirmed when anything breaks goes back to the source: a message
may then be in both places, and is never in none. Bytes are passed on as they came, and so is the routing key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pika

from reconciler.broker.amqp import Channel, Link, parameters, translated
from reconciler.broker.raw import RawConnection, RawProperties, entries, join, short, split, table_of, text_of
from reconciler.errors import Refused, Temporary

PREFETCH = 256  # messages in hand at once
MAX_IN_HAND = 64 * 1024 * 1024  # bytes in hand at once, as far as the average size tells
STALL_SECONDS = 60.0  # without a message, a confirm, or an alarm that explains it

MARKER = "reconciler.marker"  # the `type` of messages that are ours: they are never passed on
LANES = (0, 255)  # their priorities: a queue with priorities keeps the order of each apart
# Headers that the broker adds when it delivers. Passed on, they would be the publisher's words.
ADDED = (b"x-delivery-count", b"x-acquired-count", b"x-stream-offset")
USER_ID = b"x-original-user-id"  # RabbitMQ lets nobody publish in another's name


class TargetFull(Temporary):
    """The new queue is full and takes no more for now (its overflow is reject-publish)."""


@dataclass(frozen=True)
class Message:
    """A message on its way. Bytes as they came over the wire."""

    routing_key: str
    properties: bytes
    body: bytes


@dataclass
class Progress:
    """How far a pass has come."""

    moved: int = 0
    offset: int | None = None  # of a stream: where to go on
    blocked: str | None = None  # the alarm under which the broker takes no messages


Choose = Callable[[Message], "Message | None"]  # what is published instead of it; None: nothing, it is only acked


@dataclass
class Pass:
    """One run over a queue.

    It ends when `count` messages have been taken, when all `markers` were seen, or when `enough` says so; of what was
    delivered by then nothing is left behind.
    """

    source: str
    exchange: str
    count: int | None = None
    markers: set[str] = field(default_factory=set)
    choose: Choose = lambda message: message
    enough: Callable[[Message], bool] = lambda message: False
    prefetch: int = PREFETCH
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the consumer


class Mover:
    """Moves messages at the broker behind `amqp_url`, over a connection of its own."""

    def __init__(self, amqp_url: str) -> None:
        self._link = Link(amqp_url, "mover", kind=RawConnection)
        credentials: Any = parameters(amqp_url, "").credentials
        self._user = str(credentials.username)

    async def mark(self, queue: str, token: str) -> None:
        """Puts a marker behind all that is in `queue`, one in each lane that a queue with priorities may have."""
        for priority in LANES:
            properties = pika.BasicProperties(type=MARKER, message_id=f"{token}/{priority}", priority=priority)
            await self.publish(queue, properties, mandatory=True)

    async def publish(self, queue: str, properties: pika.BasicProperties, *, mandatory: bool) -> None:
        """An empty message through the default exchange. Raises Temporary if it was returned or not taken."""
        async with self._channel() as channel:
            taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            channel.raw.add_on_close_callback(lambda _, reason: settle(taken, reason))
            channel.raw.add_on_return_callback(lambda *_: settle(taken, False))
            await channel.call("confirm_delivery", ack_nack_callback=lambda told: settle(taken, is_ack(told)))
            channel.raw.basic_publish("", queue, b"", properties, mandatory=mandatory)
            answer = await taken
            if isinstance(answer, BaseException):
                raise translated(answer)
            if not answer:
                raise Temporary(f"queue {queue} takes no messages now")

    async def run(self, work: Pass, progress: Progress) -> None:
        """Raises Refused if the target did not take a message, Temporary if the broker goes or nothing moves."""
        async with self._channel() as channel:
            await Run(channel, work, progress, self._user).run()

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        """A channel for one purpose. Closing it gives back what was delivered over it and not acked."""
        async with self._link.channel() as channel:
            try:
                yield channel
            finally:
                channel.drop()

    async def close(self) -> None:
        await self._link.close()


class Run:
    """One pass over one channel."""

    def __init__(self, channel: Channel, work: Pass, progress: Progress, user: str) -> None:
        self._channel = channel
        self._work = work
        self._progress = progress
        self._user = user
        self._loop = asyncio.get_running_loop()
        self._failed: Exception | None = None
        self._moved = asyncio.Event()  # something was taken or confirmed
        self._taken = 0
        self._published = 0
        self._open: deque[tuple[int, int, int | None]] = deque()  # number published, delivery tag, offset
        self._confirmed: set[int] = set()
        self._unacked = 0  # the delivery tag up to which all is settled but not acked yet
        self._flushing = False
        self._tag: str | None = None
        self._ending = False

    async def run(self) -> None:
        channel, work = self._channel, self._work
        connection = channel.raw.connection
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        channel.raw.add_on_close_callback(lambda _, reason: self._fail(translated(reason)))
        channel.raw.add_on_return_callback(self._on_return)
        channel.raw.add_on_cancel_callback(lambda _: self._fail(Temporary(f"queue {work.source} went away")))
        await channel.call("confirm_delivery", ack_nack_callback=self._on_confirm)
        await channel.call("basic_qos", prefetch_count=work.prefetch)
        self._tag = f"mover.{id(self)}"
        await channel.call(
            "basic_consume",
            queue=work.source,
            on_message_callback=self._on_message,
            consumer_tag=self._tag,
            arguments=dict(work.arguments),
        )
        if work.count == 0:
            self._ending = True
        await self._until(lambda: self._ending)
        await channel.call("basic_cancel", consumer_tag=self._tag)
        await self._until(lambda: not self._open)
        self._flush()
        await channel.call("basic_qos", prefetch_count=work.prefetch)  # the acks before it have been read

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._failed is not None:
                raise self._failed
            self._moved.clear()
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                if self._progress.blocked is None:
                    why = f"nothing came out of queue {self._work.source} for {STALL_SECONDS:.0f} s"
                    raise Temporary(why) from None

    def _fail(self, error: Exception) -> None:
        self._failed = self._failed or error
        self._moved.set()

    def _on_message(self, _: Any, method: Any, properties: RawProperties, body: bytes) -> None:
        if self._failed is not None:
            return
        self._taken += 1
        message = Message(method.routing_key, properties.data, body)
        try:
            passed = self._passed_on(message)
        except ValueError as error:
            self._fail(Refused(f"a message of queue {self._work.source} cannot be passed on: {error}"))
            return
        number = 0
        if passed is not None:
            number = self._published = self._published + 1
            raw = RawProperties(passed.properties)
            self._channel.raw.basic_publish(self._work.exchange, passed.routing_key, passed.body, raw, mandatory=True)
        self._open.append((number, method.delivery_tag, offset_of(message)))
        if self._work.enough(message) or self._taken == self._work.count:
            self._ending = True
        self._advance()
        self._moved.set()

    def _passed_on(self, message: Message) -> Message | None:
        if (token := marker_of(message)) is not None:
            self._work.markers.discard(token)
            self._ending = self._ending or (self._work.count is None and not self._work.markers)
            return None
        chosen = self._work.choose(message)
        return chosen and cleaned(chosen, self._user)

    def _on_return(self, *_: Any) -> None:
        self._fail(Refused(f"exchange {self._work.exchange} leads nowhere"))

    def _on_confirm(self, confirm: Any) -> None:
        if not is_ack(confirm):
            self._fail(TargetFull())
        if self._failed is not None:
            return  # what was returned is confirmed as well
        last = confirm.method.delivery_tag
        if confirm.method.multiple:
            self._confirmed.update(number for number, *_ in self._open if 0 < number <= last)
        else:
            self._confirmed.add(last)
        self._advance()
        self._moved.set()

    def _advance(self) -> None:
        """Takes off the front what is settled; it is acked once for all that come together."""
        while self._open and (self._open[0][0] in self._confirmed or self._open[0][0] == 0):
            number, self._unacked, offset = self._open.popleft()
            self._confirmed.discard(number)
            self._progress.moved += number != 0
            self._progress.offset = self._progress.offset if offset is None else offset + 1
        if self._unacked and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._unacked and self._channel.raw.is_open:
            self._channel.raw.basic_ack(self._unacked, multiple=True)
        self._unacked = 0

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self._progress.blocked = str(frame.method.reason)

    def _on_unblocked(self, *_: Any) -> None:
        self._progress.blocked = None
        self._moved.set()


def settle(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def is_ack(confirm: Any) -> bool:
    return isinstance(confirm.method, pika.spec.Basic.Ack)


def prefetch_for(average: float) -> int:
    """How many messages of `average` bytes may be in hand at once."""
    return max(1, min(PREFETCH, int(MAX_IN_HAND // max(1.0, average))))


def marker_of(message: Message) -> str | None:
    """The token of a marker; None for everybody else's messages."""
    if len(message.properties) < 2 or not message.properties[1] & 0x20 or MARKER.encode() not in message.properties:
        return None
    fields = split(message.properties)
    return text_of(fields.get("message_id")) if text_of(fields.get("type")) == MARKER else None


def offset_of(message: Message) -> int | None:
    if b"x-stream-offset" not in message.properties:
        return None
    headers = split(message.properties).get("headers", b"\0\0\0\0")
    return next(
        (int.from_bytes(value, "big") for name, _, value in entries(headers) if name == b"x-stream-offset"), None
    )


def cleaned(message: Message, user: str) -> Message:
    """The message without what the broker added to it, and without another's name in `user_id`."""
    data = message.properties
    if not (any(name in data for name in ADDED) or data[1] & 0x10):
        return message
    fields = split(data)
    headers = [entry for entry in entries(fields.get("headers", b"\0\0\0\0")) if entry[0] not in ADDED]
    if text_of(fields.get("user_id")) not in ("", user):
        name = fields.pop("user_id")[1:]
        headers.append((USER_ID, b"S", len(name).to_bytes(4, "big") + name))
    fields.pop("headers", None)
    if headers:
        fields["headers"] = table_of(headers)
    return Message(message.routing_key, join(fields), message.body)


def caught_for(queue: str) -> Choose:
    """Unpacks what the firehose saw: the original of each message that the default exchange was to bring to `queue`."""

    def choose(message: Message) -> Message | None:
        told = {name: value for name, _, value in entries(split(message.properties)["headers"])}
        keys = list(texts(told[b"routing_keys"]))
        if queue not in keys:
            return None
        original = Message(keys[0], join(dict(fields_of(told[b"properties"]))), message.body)
        return None if marker_of(original) is not None else original

    return choose


def texts(array: bytes) -> list[str]:
    """The texts in an AMQP array, its length in front."""
    found, at = [], 4
    while at < len(array):
        end = at + 5 + int.from_bytes(array[at + 1 : at + 5], "big")
        found.append(array[at + 5 : end].decode(errors="surrogateescape"))
        at = end
    return found


def fields_of(table: bytes) -> dict[str, bytes]:
    """The properties that the firehose shows as a table, laid out as properties again."""
    fields = {}
    for name, kind, value in entries(table):
        key = name.decode()
        if key in ("delivery_mode", "priority"):
            fields[key] = value[-1:]
        elif key == "timestamp":
            fields[key] = value.rjust(8, b"\0")
        else:
            fields[key] = value if kind == b"F" else short(value[4:])
    return fields
