"""Hears what happens at the broker at the moment it happens, where its plugin rabbitmq_event_exchange is on.

Nothing depends on it: without the plugin, or where this user may not, everything else goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from loguru import logger as log

from reconciler.broker.amqp import Channel, Link
from reconciler.broker.views import EVENTS_QUEUE
from reconciler.errors import NoSuchExchange, ReconcilerError, Refused

EXCHANGE, VHOST = "amq.rabbitmq.event", "%2F"  # where the plugin declares it unless it is told otherwise
KEYS = ("queue.*", "exchange.*", "binding.*", "policy.*", "connection.*")
FIRST_PAUSE = 2.0  # seconds, doubled with each failure
LONGEST_PAUSE = 300.0  # and while there is no such exchange
MOST = 10_000  # events that may wait for us


class Listener:
    """`heard` is told of each event: its routing key, when (seconds since the epoch), and its headers."""

    def __init__(self, amqp_url: str, heard: Callable[[str, float, dict[str, Any]], None]) -> None:
        self._link = Link(urlsplit(amqp_url)._replace(path=f"/{VHOST}").geturl(), "events")
        self._heard = heard
        self._pause = FIRST_PAUSE

    async def run(self) -> None:
        while True:
            try:
                await self._listen()
            except (NoSuchExchange, Refused):
                self._pause = LONGEST_PAUSE
            except ReconcilerError:
                pass
            except Exception as error:  # an event that nobody thought of must not end the daemon
                log.exception("listening to the broker's events broke: {}", error)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    async def _listen(self) -> None:
        """Until the channel is closed. Raises NoSuchExchange where the plugin is not on."""
        channel = await Channel.open(await self._link.connection())
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(*_: Any) -> None:
            if not ended.done():
                ended.set_result(None)

        channel.raw.add_on_close_callback(end)
        channel.raw.add_on_cancel_callback(end)
        try:
            await channel.call("exchange_declare", exchange=EXCHANGE, passive=True)
            limit = {"x-max-length": MOST}
            queue = f"{EVENTS_QUEUE}{secrets.token_hex(8)}"
            await channel.call("queue_declare", queue=queue, exclusive=True, arguments=limit)
            for key in KEYS:
                await channel.call("queue_bind", queue=queue, exchange=EXCHANGE, routing_key=key)
            await channel.call("basic_consume", queue=queue, on_message_callback=self._on_event, auto_ack=True)
            self._pause = FIRST_PAUSE
            log.info("listening to {}: what others change is seen at once", EXCHANGE)
            await ended
        finally:
            channel.drop()
            await self._link.close()

    def _on_event(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        headers = dict(properties.headers or {})
        at = headers.get("timestamp_in_ms")
        self._heard(method.routing_key, at / 1000 if isinstance(at, int) else time.time(), headers)
