"""The queue and its processes, simulated in steps: first in, first out; a failed message comes back later."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from bench.autoscale.loads import Load
from bench.autoscale.rules import Rule

STEP = 0.5  # seconds


@dataclass(frozen=True)
class Workers:
    """Seconds a message takes, seconds from the decision to a process that consumes, messages one holds."""

    service: float = 0.2
    start: float = 2.0
    prefetch: int = 10


@dataclass
class Batch:
    """Messages that arrived together and will fail as many times more."""

    born: float
    count: int
    failures: int = 0


@dataclass
class Outcome:
    """What became of one load under one rule."""

    drains: list[float] = field(default_factory=list)  # seconds from each surge until the queue was empty
    waits: list[tuple[float, int]] = field(default_factory=list)  # seconds, and how many messages waited that long
    changes: int = 0
    worker_seconds: float = 0.0
    hours: float = 0.0
    most: int = 0

    def waited(self, share: float) -> float:
        """The seconds that this share of all messages did not wait longer than."""
        left = share * sum(count for _, count in self.waits)
        for seconds, count in sorted(self.waits):
            left -= count
            if left <= 0:
                return seconds
        return 0.0


class Site:
    def __init__(self, load: Load, rule: Rule, workers: Workers, dice: random.Random) -> None:
        self.load, self.rule, self.workers, self.dice = load, rule, workers, dice
        self.now = 0.0
        self.queue: deque[Batch] = deque()
        self.later: deque[tuple[float, Batch]] = deque()  # failed ones on their way back
        self.messages = 0  # in the queue or with a worker
        self.ready_at: list[float] = []  # of each process
        self.credit = 0.0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        surges = deque(self.load.surges)
        draining: float | None = None
        while self.now < len(self.load.arrivals) or self.messages or self.later or draining is not None or surges:
            if surges and self.now >= surges[0]:
                draining = float(surges.popleft())
            self._arrive()
            self._work()
            if draining is not None and not self.messages and not self.later and not self._arriving():
                self.outcome.drains.append(self.now - draining)
                draining = None
            self._scale()
            self.now += STEP
        self.outcome.hours = self.now / 3600
        return self.outcome

    def _arriving(self) -> bool:
        second = int(self.now)
        return any(self.load.arrivals[second : second + 2])

    def _arrive(self) -> None:
        if self.now == int(self.now) < len(self.load.arrivals):
            count = self.load.arrivals[int(self.now)]
            bad = sum(self.dice.random() < self.load.poisoned for _ in range(count)) if self.load.poisoned else 0
            self._enqueue(Batch(self.now, count - bad))
            self._enqueue(Batch(self.now, bad, self.load.attempts))
        while self.later and self.later[0][0] <= self.now:
            self._enqueue(self.later.popleft()[1])

    def _enqueue(self, batch: Batch) -> None:
        if batch.count:
            self.queue.append(batch)
            self.messages += batch.count

    def _work(self) -> None:
        running = sum(at <= self.now for at in self.ready_at)
        self.credit += running * STEP / self.workers.service
        while self.queue and self.credit >= 1:
            batch = self.queue[0]
            done = min(batch.count, int(self.credit))
            self.credit -= done
            self.messages -= done
            batch.count -= done
            self._settle(batch, done)
            if not batch.count:
                self.queue.popleft()
        if not self.queue:
            self.credit = 0.0

    def _settle(self, batch: Batch, done: int) -> None:
        if batch.failures:
            self.later.append((self.now + self.load.delay, Batch(batch.born, done, batch.failures - 1)))
        elif not self.load.attempts or batch.failures == 0:
            self.outcome.waits.append((self.now - batch.born, done))

    def _scale(self) -> None:
        current = len(self.ready_at)
        held = min(self.messages, sum(at <= self.now for at in self.ready_at) * self.workers.prefetch)
        wanted = self.rule.count(self.now, self.messages - held, held, current)
        if wanted != current:
            self.outcome.changes += 1
        self.ready_at = [*self.ready_at[:wanted], *[self.now + self.workers.start] * (wanted - current)]
        self.outcome.most = max(self.outcome.most, wanted)
        self.outcome.worker_seconds += wanted * STEP
