"""The numbers of autoscaled pools, and what was seen of their queues: memory between turns, bounded, never on disk.

A daemon that starts knows nothing of before: it goes on with as many processes as it finds, and takes none until it
has seen for long enough what would take one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from reconciler.autoscale import Decision, decide, remember
from state.autoscale import Policy, Sample
from state.processes import ObservedWorker, Pool


@dataclass(frozen=True)
class Depth:
    """A queue's messages now. Of the unacknowledged ones only the last turn knows, and only over the management API."""

    ready: int
    unacknowledged: int | None = None


class Scaler:
    """`decisions` are the numbers in force. `wanted` is set while there is a pool to look at."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.decisions: Mapping[Pool, Decision] = {}
        self.policies: Mapping[Pool, Policy] = {}
        self.wanted = asyncio.Event()
        self._samples: dict[Pool, tuple[Sample, ...]] = {}
        self._clock = clock

    def follow(self, policies: Mapping[Pool, Policy], workers: Iterable[ObservedWorker]) -> None:
        """From now on these pools are autoscaled, in these ways."""
        self.policies = policies
        self._samples = {pool: samples for pool, samples in self._samples.items() if pool in policies}
        self.decisions = self.decide(policies, workers)
        if policies:
            self.wanted.set()
        else:
            self.wanted.clear()

    def decide(self, policies: Mapping[Pool, Policy], workers: Iterable[ObservedWorker]) -> dict[Pool, Decision]:
        """What the numbers would be now. A pool without one begins with the processes that it has."""
        there = [worker.pool for worker in workers if not worker.leaves]
        now = self._clock()
        found = {}
        for pool, policy in policies.items():
            known = self.decisions.get(pool)
            current = known.count if known else there.count(pool)
            found[pool] = decide(policy, self._samples.get(pool, ()), current, now)
        return found

    def look(self, depths: Mapping[str, Depth | None], workers: Iterable[ObservedWorker]) -> dict[Pool, Decision]:
        """Takes in what the queues hold, None where nobody knows; returns the decisions that changed a number."""
        seen, now = list(workers), self._clock()
        busy = [worker.pool.queue for worker in seen if worker.busy]
        for pool, policy in self.policies.items():
            new = sample(now, depths.get(pool.queue), busy.count(pool.queue))
            self._samples[pool] = remember(self._samples.get(pool, ()), new, policy.horizon)
        before, self.decisions = self.decisions, self.decide(self.policies, seen)
        return {pool: d for pool, d in self.decisions.items() if pool not in before or before[pool].count != d.count}

    @property
    def at_zero(self) -> bool:
        return any(decision.count == 0 for decision in self.decisions.values())

    @property
    def has_messages(self) -> bool:
        return any(samples[-1].messages for samples in self._samples.values() if samples)


def sample(now: float, depth: Depth | None, busy: int) -> Sample:
    """A worker that is busy holds a message, whatever the broker's statistics have heard of it so far."""
    return Sample(now, None) if depth is None else Sample(now, depth.ready, max(depth.unacknowledged or 0, busy))
