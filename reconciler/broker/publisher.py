"""Messages to the broker: confirmed, mandatory, many in flight, on a connection of their own.

A connection that publishes is blocked by the broker while a memory or disk alarm is on; the topology's is not.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pika
from pika.exceptions import AMQPError

from reconciler.broker.amqp import Channel, Link, translated
from reconciler.errors import Blocked, BrokerUnreachable, NoSuchQueue, ReconcilerError, Refused, Unconfirmed

CONFIRM_SECONDS = 4.5  # from the call to the broker's word; the contract promises an answer within five


class Publisher:
    """Publishes to queues through the default exchange."""

    def __init__(self, url: str) -> None:
        self._link = Link(url, "publisher", on_lost=self._lost)
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._next_tag = 1
        self._waiting: dict[int, tuple[str, asyncio.Future[ReconcilerError | None]]] = {}
        self._returned: set[str] = set()
        self._blocked: str | None = None

    async def publish(self, queue: str, body: bytes, properties: pika.BasicProperties) -> None:
        """Returns once the broker has confirmed the message, which needs a `message_id` of its own.

        Raises NoSuchQueue if it could not be routed, Refused if the queue did not take it, Blocked under an alarm,
        BrokerUnreachable or Unconfirmed if there is no word within CONFIRM_SECONDS.
        """
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                error = await self._send(queue, body, properties)
        except TimeoutError:
            raise Unconfirmed from None
        if error is not None:
            raise error

    async def _send(self, queue: str, body: bytes, properties: pika.BasicProperties) -> ReconcilerError | None:
        channel = await self._ready()
        if self._blocked is not None:
            return Blocked(f"the broker takes no messages now ({self._blocked}); free memory or disk and send it again")
        try:
            channel.raw.basic_publish("", queue, body, properties, mandatory=True)
        except AMQPError as error:
            return translated(error)
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        confirmed: asyncio.Future[ReconcilerError | None] = asyncio.get_running_loop().create_future()
        self._waiting[tag] = (str(properties.message_id), confirmed)
        try:
            return await confirmed
        finally:
            self._waiting.pop(tag, None)

    async def _ready(self) -> Channel:
        async with self._opening:
            if self._channel is not None and self._channel.raw.is_open:
                return self._channel
            connection = await self._link.connection()
            connection.add_on_connection_blocked_callback(self._on_blocked)
            connection.add_on_connection_unblocked_callback(self._on_unblocked)
            channel = await Channel.open(connection)
            channel.raw.add_on_return_callback(self._on_return)
            channel.raw.add_on_close_callback(lambda *_: self._fail_all(Unconfirmed()))
            self._next_tag = 1
            await channel.call("confirm_delivery", ack_nack_callback=self._on_confirm)
            self._channel = channel
            return channel

    def _on_return(self, _: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
        self._returned.add(str(properties.message_id))  # the broker's ack of it follows

    def _on_confirm(self, frame: Any) -> None:
        taken = isinstance(frame.method, pika.spec.Basic.Ack)
        last = frame.method.delivery_tag
        tags = [t for t in self._waiting if t <= last] if frame.method.multiple else [last]
        for tag in tags:
            if tag in self._waiting:
                self._settle(*self._waiting[tag], taken)

    def _settle(self, message_id: str, confirmed: asyncio.Future[ReconcilerError | None], taken: bool) -> None:
        result: ReconcilerError | None = None
        if message_id in self._returned:
            self._returned.discard(message_id)
            result = NoSuchQueue()
        elif not taken:
            result = Refused("the queue did not take the message (it is full: x-overflow is reject-publish)")
        if not confirmed.done():
            confirmed.set_result(result)

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self._blocked = str(frame.method.reason)
        reason = f"the broker takes no messages now ({self._blocked}); it was not confirmed, and may still arrive"
        self._fail_all(Blocked(reason))

    def _on_unblocked(self, _: Any, frame: Any) -> None:
        self._blocked = None

    def _lost(self) -> None:
        self._channel, self._blocked = None, None
        self._fail_all(BrokerUnreachable("the connection was lost before the broker confirmed the message"))

    def _fail_all(self, error: ReconcilerError) -> None:
        for _, confirmed in self._waiting.values():
            if not confirmed.done():
                confirmed.set_result(error)
        self._returned.clear()

    async def close(self) -> None:
        await self._link.close()
