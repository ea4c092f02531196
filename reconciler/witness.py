"""Who was there when something drifted: asked of the broker a few times, because its statistics are seconds late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from reconciler.drift import Drift, DriftHistory, suspects
from reconciler.trail import Trail
from state.observed import ObservedConnection

LOOKS = (0.0, 1.0, 2.0, 3.0)  # seconds before each look


class Witness:
    """Adds to the drifts in `history` by whom they were made, as far as events and open connections tell."""

    def __init__(
        self, history: DriftHistory, connections: Callable[[], Awaitable[Sequence[ObservedConnection]]], trail: Trail
    ) -> None:
        self.history = history
        self._connections = connections
        self._trail = trail
        self._looking: set[asyncio.Task[None]] = set()

    def saw(self, drifts: Sequence[Drift]) -> None:
        """Remembers `drifts`, all of one moment, and looks around."""
        for drift in drifts:
            self.history.saw(drift)
        if drifts:
            task = asyncio.get_running_loop().create_task(self._look(drifts))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look(self, drifts: Sequence[Drift]) -> None:
        seen: set[ObservedConnection] = set()
        for delay in LOOKS:
            await asyncio.sleep(delay)
            seen |= {one for one in await self._connections() if one.since <= drifts[0].at}
            for drift in drifts:
                if by := self._trail.author(drift, seen) or suspects(seen):
                    self.history.blame(drift, by)
