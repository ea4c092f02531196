"""Process groups that were killed, and take a moment to vanish."""

from __future__ import annotations

import asyncio

from reconciler.supervisor import proc
from reconciler.supervisor.process import Process

PATIENCE = 10.0  # seconds for the kernel to end what was killed
EVERY = 0.02  # seconds between looks


class Lingering:
    """Sees them off. With none there, nothing is scheduled."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left: list[tuple[Process, float]] = []  # and until when to look
        self._timer: asyncio.TimerHandle | None = None

    def add(self, process: Process) -> None:
        """One that has ended; nothing if nobody of its group is left."""
        if process.group_lingers():
            self._left.append((process, self._loop.time() + PATIENCE))
            self._look_soon()

    async def until_gone(self) -> None:
        while self._left:
            await asyncio.sleep(EVERY / 2)

    def close(self) -> None:
        """Looks no more."""
        if self._timer:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now, groups = self._loop.time(), proc.groups()
        self._left = [
            (process, until)
            for process, until in self._left
            if process.group_lingers() and process.pid in groups and now < until
        ]
        self._look_soon()

    def _look_soon(self) -> None:
        if self._left and not self._timer:
            self._timer = self._loop.call_later(EVERY, self._look)
