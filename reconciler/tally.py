"""What workers have done since this daemon runs, also those that have ended: counters that never go back. Pure.

A process counts from zero, and its slot gets another one; here the sums of all that a slot has held are kept. One that
an earlier daemon started had counted before: what it tells first is where its counting begins here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import NamedTuple

from state.processes import ObservedWorker, Pool


class Counts(NamedTuple):
    """What one process, slot or pool has done. Seconds are seconds."""

    processed: float = 0
    failed: float = 0
    redelivered: float = 0
    busy_seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def of(cls, worker: ObservedWorker, cpu_seconds: float) -> Counts:
        return cls(worker.processed, worker.failed, worker.redelivered, worker.busy_seconds, cpu_seconds)

    def plus(self, other: Counts) -> Counts:
        return Counts(*map(add, self, other))

    def above(self, base: Counts) -> Counts:
        return Counts(*(max(0, a - b) for a, b in zip(self, base, strict=True)))

    def at_least(self, other: Counts) -> Counts:
        return Counts(*map(max, self, other))


NONE = Counts()


@dataclass
class Tally:
    """The sums of one slot."""

    process: tuple[int, float] | None = None  # pid and start of the one it holds, or held last
    base: Counts | None = None  # where that one's counting begins; None: it has not told yet
    now: Counts = NONE  # of that one
    before: Counts = NONE  # of all before it
    restarts: int = 0
    restarts_before: int = 0  # of the slots that had its number before

    @property
    def counts(self) -> Counts:
        return self.before.plus(self.now)

    @property
    def all_restarts(self) -> int:
        return self.restarts_before + self.restarts

    def take(self, worker: ObservedWorker, cpu_seconds: float, since: float) -> None:
        """Adds what is seen of a worker now, or of one that has ended."""
        if worker.restarts < self.restarts:
            self.restarts_before += self.restarts
        self.restarts = worker.restarts
        if worker.pid is None:
            return
        if self.process != (worker.pid, worker.started_at):
            self.process, self.before = (worker.pid, worker.started_at), self.counts
            self.base, self.now = NONE if worker.started_at >= since else None, NONE
        seen = Counts.of(worker, cpu_seconds)
        if self.base is None and worker.heartbeat_at is not None:
            self.base = seen
        if self.base is not None:
            self.now = self.now.at_least(seen.above(self.base))


@dataclass
class Tallies:
    """Those of all slots. `since` is when this daemon began to count, in seconds since the epoch."""

    since: float
    _slots: dict[Pool, dict[int, Tally]] = field(default_factory=dict)

    def take(self, worker: ObservedWorker, cpu_seconds: float = 0.0) -> Tally:
        tally = self._slots.setdefault(worker.pool, {}).setdefault(worker.slot, Tally())
        tally.take(worker, cpu_seconds, self.since)
        return tally

    def pools(self, wanted: Iterable[Pool]) -> Iterator[tuple[Pool, Counts, int]]:
        """The sums and restarts of each pool that is wanted; the others are forgotten."""
        kept = set(wanted)
        self._slots = {pool: slots for pool, slots in self._slots.items() if pool in kept}
        for pool in sorted(kept, key=str):
            slots = self._slots.get(pool, {}).values()
            total = reduce(Counts.plus, (tally.counts for tally in slots), NONE)
            yield pool, total, sum(tally.all_restarts for tally in slots)
