"""Cold starts, a few at a time: who is spawned next, and when.

Starting Python takes a core for a while; two hundred at once would starve the workers that are working.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

WARM_UP = 2.0  # seconds after which a process that has said nothing no longer counts as starting


class Startable(Protocol):
    """Anything that can be spawned."""

    def spawn(self) -> None: ...


class Turn:
    """A place in the queue for whoever can await it."""

    def __init__(self) -> None:
        self._come = asyncio.Event()

    def spawn(self) -> None:
        self._come.set()

    async def wait(self) -> None:
        await self._come.wait()


class StartQueue:
    """First come, first served; those that failed before wait behind those that did not.

    So a pool in a crash loop starves nobody. `settled` gives a place back early.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int | None = None) -> None:
        self._loop = loop
        self._limit = limit or max(2, len(os.sched_getaffinity(0)))
        self._first: dict[Startable, None] = {}
        self._again: dict[Startable, None] = {}
        self._cold: dict[Startable, float] = {}
        self._next: asyncio.Handle | None = None

    def add(self, start: Startable, *, failed_before: bool) -> None:
        """Puts it at the end of its lane; nothing if it waits already."""
        if start not in self:
            (self._again if failed_before else self._first)[start] = None
            self._schedule()

    def remove(self, start: Startable) -> None:
        """Forgets it, wherever it is."""
        self._first.pop(start, None)
        self._again.pop(start, None)
        self.settled(start)

    def settled(self, start: Startable) -> None:
        """It has come up, or ended: its place is free."""
        if self._cold.pop(start, None) is not None:
            self._schedule()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a place, and gives it back at the end."""
        turn = Turn()
        self.add(turn, failed_before=False)
        try:
            await turn.wait()
            yield
        finally:
            self.remove(turn)

    def __contains__(self, start: Startable) -> bool:
        return start in self._first or start in self._again

    def _schedule(self) -> None:
        if self._next:
            self._next.cancel()
            self._next = None
        if not (self._first or self._again):
            return
        if len(self._cold) < self._limit:
            self._next = self._loop.call_soon(self._start_one)
        else:
            self._next = self._loop.call_at(min(self._cold.values()) + WARM_UP, self._start_one)

    def _start_one(self) -> None:
        # One for each turn of the asyncio loop: a spawn blocks it for a millisecond.
        self._next = None
        now = self._loop.time()
        self._cold = {start: since for start, since in self._cold.items() if now - since < WARM_UP}
        if len(self._cold) < self._limit and (lane := self._first or self._again):
            start = next(iter(lane))
            del lane[start]
            self._cold[start] = now
            start.spawn()
        self._schedule()
