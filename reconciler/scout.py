"""Looks at the queues of autoscaled pools between turns, and wakes the loop when a number changes.

A look costs one passive declare a queue; without such pools it sleeps.
"""

from __future__ import annotations

import asyncio
import time

from loguru import logger as log

from reconciler.errors import ReconcilerError
from reconciler.events import Events
from reconciler.loop import Loop
from reconciler.scaler import Depth

AT_ZERO_SECONDS = 0.4  # so that the first worker is there within a second of the first message
SECONDS = 1.0
TURN_SECONDS = 5.0  # how often, while there are messages, a turn asks how many of them are unacknowledged


class Scout:
    def __init__(self, loop: Loop, events: Events) -> None:
        self._loop = loop
        self._events = events
        self._woken_at = 0.0

    async def run(self) -> None:
        scaler = self._loop.scaler
        while True:
            await scaler.wanted.wait()
            try:
                await self.look()
            except Exception as error:  # a look that breaks must not end the daemon: the next one follows
                log.exception("this look at autoscaled queues broke: {}", error)
            await asyncio.sleep(AT_ZERO_SECONDS if scaler.at_zero else SECONDS)

    async def look(self) -> None:
        scaler = self._loop.scaler
        names = sorted({pool.queue for pool in scaler.policies})
        depths = await asyncio.gather(*(self._depth(name) for name in names))
        before = dict(scaler.decisions)
        changed = scaler.look(dict(zip(names, depths, strict=True)), self._loop.supervisor.observe())
        for pool, decision in changed.items():
            text = f"{pool}: {before[pool].count if pool in before else 0} → {decision.count} ({decision.reason})"
            log.info("autoscale {}", text)
            self._events.tell("plan", f"autoscale {text}", queue=pool.queue, worker=pool.worker)
        overdue = scaler.has_messages and time.monotonic() - self._woken_at >= TURN_SECONDS
        if changed or overdue:
            self._woken_at = time.monotonic()
            self._loop.wake("resync")

    async def _depth(self, name: str) -> Depth | None:
        if not self._loop.broker.connected:
            return None  # connecting again is the turn's business
        try:
            ready = await self._loop.broker.ready(name)
        except ReconcilerError:
            return None
        turn = self._loop.last
        seen = turn.queues.get(name) if turn else None
        return None if ready is None else Depth(ready, seen.unacknowledged if seen else None)
