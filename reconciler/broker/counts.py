"""The messages of a large virtual host, counted beside the turns.

RabbitMQ asks each queue for its counts: with 10,000 of them that takes it three to five times as long as to list
them, and a turn with nothing to do has no use for it. What is deleted, purged or moved is counted by itself, live.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from reconciler.broker.management import ManagementUnavailable

FIRST_SECONDS = 1.0
SECONDS = 10.0  # how old counts may be before a turn has them taken again
KEYS = ("messages", "messages_ready", "messages_unacknowledged")

Queues = list[dict[str, Any]]


class Counts:
    def __init__(self, take: Callable[[], Awaitable[Queues]]) -> None:
        """`take` lists all queues with their counts. It may raise ManagementUnavailable."""
        self._take = take
        self._known: dict[str, dict[str, int]] = {}
        self._taken = -SECONDS
        self._taking: asyncio.Task[None] | None = None

    async def added_to(self, queues: Queues) -> Queues:
        """`queues` with the counts of a moment ago; the first time it waits for them, though not for long."""
        if time.monotonic() - self._taken >= SECONDS and (self._taking is None or self._taking.done()):
            self._taking = asyncio.create_task(self._refresh())
        if not self._known and self._taking is not None:
            await asyncio.wait({self._taking}, timeout=FIRST_SECONDS)
        nothing: dict[str, int] = {}
        return [queue | self._known.get(queue["name"], nothing) for queue in queues]

    async def _refresh(self) -> None:
        with suppress(ManagementUnavailable):  # the next turn says so
            found = await self._take()
            self._known = {queue["name"]: {key: queue.get(key) or 0 for key in KEYS} for queue in found}
        self._taken = time.monotonic()

    async def close(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.wait({self._taking})
