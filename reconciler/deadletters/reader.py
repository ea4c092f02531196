"""Takes messages from a queue one after the other, and settles none of them by itself.

What is not acked goes back to its own place in the queue, in its old order, when the reader is closed or its connection
is lost. A consumer gets no more than its prefetch, so while messages are kept in hand, further consumers are added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reconciler.broker.amqp import Channel, Link, translated
from reconciler.errors import BrokerUnreachable, ReconcilerError

FIRST_WINDOW, LARGEST_WINDOW = 10, 2000  # messages that the broker sends ahead
WINDOW_BYTES = 4 * 1024 * 1024  # as far as the average so far tells


@dataclass(frozen=True)
class Taken:
    """A message in hand."""

    tag: int
    properties: Any
    body: bytes


class Reader:
    """Of one queue, over a channel of its own: see `open`."""

    def __init__(self, channel: Channel, queue: str, arguments: dict[str, Any], window: int) -> None:
        self._channel = channel
        self._queue = queue
        self._arguments = arguments
        self._window = window
        self._inbox: asyncio.Queue[Taken | BaseException] = asyncio.Queue()
        self._room = 0  # messages that all consumers together may hold
        self._in_hand: dict[int, str] = {}  # tag: by which consumer; taken or on their way, and not acked
        self.seen = 0
        self.bytes = 0

    @classmethod
    async def open(cls, link: Link, queue: str, *, stream: bool = False, window: int = FIRST_WINDOW) -> Reader:
        """Raises NoSuchQueue, Refused, BrokerUnreachable."""
        channel = await Channel.open(await link.connection())
        reader = cls(channel, queue, {"x-stream-offset": "first"} if stream else {}, window)
        channel.raw.add_on_close_callback(lambda _, reason: reader._inbox.put_nowait(translated(reason)))
        channel.raw.add_on_cancel_callback(lambda _: reader._inbox.put_nowait(BrokerUnreachable("the queue is gone")))
        await reader._ask_for_more()
        return reader

    @property
    def held(self) -> int:
        """How many are taken or on their way, and not acked."""
        return len(self._in_hand)

    async def next(self, seconds: float) -> Taken | None:
        """The next message, None if none came for so long. Raises what ended the channel."""
        if self._inbox.empty() and self.held >= self._room:
            await self._ask_for_more()
        try:
            async with asyncio.timeout(seconds):
                found = await self._inbox.get()
        except TimeoutError:
            return None
        if isinstance(found, BaseException):
            raise found
        return found

    def ack(self, taken: Taken) -> None:
        """The broker forgets it."""
        if self._channel.raw.is_open:
            self._channel.raw.basic_ack(taken.tag)
            self._in_hand.pop(taken.tag, None)

    async def close(self) -> None:
        """Gives back what is in hand. It is back in the queue when this returns."""
        raw = self._channel.raw
        with suppress(ReconcilerError):
            for tag in list(raw.consumer_tags):  # or what is given back would be sent to us again at once
                await self._channel.call("basic_cancel", consumer_tag=tag)
        if raw.is_open:
            for last in [] if self._arguments else self._runs():  # since 4.3 no delivery, which a closed channel is
                raw.basic_nack(last, multiple=True, requeue=True)
            closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            raw.add_on_close_callback(lambda *_: closed.set_result(None))
            raw.close()
            await asyncio.wait({closed}, timeout=10)

    def _runs(self) -> Iterator[int]:
        """The last tag of each run that one consumer has got. A quorum queue takes back what is given back together
        consumer by consumer, in an order of its own."""
        before: tuple[int, str] | None = None
        for tag, consumer in self._in_hand.items():
            if before is not None and before[1] != consumer:
                yield before[0]
            before = tag, consumer
        if before is not None:
            yield before[0]

    async def _ask_for_more(self) -> None:
        if self.seen:
            fits = WINDOW_BYTES * self.seen // max(self.bytes, 1)
            self._window = max(1, min(self._window * 2, LARGEST_WINDOW, fits))
        await self._channel.call("basic_qos", prefetch_count=self._window)
        self._room += self._window
        await self._channel.call(
            "basic_consume", queue=self._queue, on_message_callback=self._deliver, arguments=self._arguments
        )

    def _deliver(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        self._in_hand[method.delivery_tag] = method.consumer_tag
        self.seen += 1
        self.bytes += len(body)
        self._inbox.put_nowait(Taken(method.delivery_tag, properties, body))
