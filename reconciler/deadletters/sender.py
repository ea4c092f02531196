"""Publishes to queues, mandatory and confirmed, many at a time, and tells of each whether it is safely there."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from pika.exceptions import AMQPError
from pika.spec import Basic

from reconciler.broker.amqp import Channel, Link, translated
from reconciler.errors import NoSuchQueue, ReconcilerError, Refused

FULL = "it takes nothing now (it is full, or a node is down)"


class Sender:
    """Over a channel of its own: see `open`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._next = 1
        self._waiting: dict[int, tuple[str, asyncio.Future[ReconcilerError | None]]] = {}
        self._missing: set[str] = set()

    @classmethod
    async def open(cls, link: Link) -> Sender:
        """Raises BrokerUnreachable."""
        channel = await Channel.open(await link.connection())
        sender = cls(channel)
        channel.raw.add_on_return_callback(lambda _, method, *__: sender._missing.add(method.routing_key))
        channel.raw.add_on_close_callback(lambda _, reason: sender._fail_all(translated(reason)))
        await channel.call("confirm_delivery", ack_nack_callback=sender._told)
        return sender

    @property
    def is_open(self) -> bool:
        return self._channel.raw.is_open

    def send(self, queue: str, body: bytes, properties: Any) -> asyncio.Future[ReconcilerError | None]:
        """The future has None once the message is safely in `queue`, else why it is not (or not surely)."""
        safe: asyncio.Future[ReconcilerError | None] = asyncio.get_running_loop().create_future()
        try:
            self._channel.raw.basic_publish("", queue, body, properties, mandatory=True)
        except AMQPError as error:
            safe.set_result(translated(error))
            return safe
        except (
            ValueError,
            TypeError,
            struct.error,
            ArithmeticError,
        ) as error:  # what came in a way that pika cannot send
            safe.set_result(Refused(f"it cannot be sent again as it is: {error}"))
            return safe
        self._waiting[self._next] = queue, safe
        self._next += 1
        return safe

    def close(self) -> None:
        self._channel.drop()

    def _told(self, frame: Any) -> None:
        last, multiple = frame.method.delivery_tag, frame.method.multiple
        for tag in [t for t in self._waiting if t <= last] if multiple else [last]:
            if tag not in self._waiting:
                continue
            queue, safe = self._waiting.pop(tag)
            # A message that was returned is confirmed, too, and a return does not say which one it was.
            if queue in self._missing:
                _settle(safe, NoSuchQueue(f"queue {queue} does not exist"))
            else:
                _settle(safe, None if isinstance(frame.method, Basic.Ack) else Refused(f"queue {queue}: {FULL}"))
        self._missing &= {queue for queue, _ in self._waiting.values()}

    def _fail_all(self, error: ReconcilerError) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, safe in waiting.values():
            _settle(safe, error)


def _settle(safe: asyncio.Future[ReconcilerError | None], result: ReconcilerError | None) -> None:
    if not safe.done():
        safe.set_result(result)
