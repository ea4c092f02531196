"""What one turn of the loop came to. Whoever shows or waits for something looks at the last one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.intake import Reading
from reconciler.plan import Plan
from reconciler.status import Seen, with_workers
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker


@dataclass(frozen=True)
class Turn:
    """What one turn saw and decided. Turns are numbered by their start."""

    number: int
    reading: Reading
    plan: Plan
    seen: Seen
    status: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        """What it took."""
        return float(self.status["last_reconcile"]["seconds"])

    @property
    def trigger(self) -> str:
        return str(self.status["last_reconcile"]["trigger"])

    @property
    def broker(self) -> ObservedBroker | None:
        return self.seen.broker

    @property
    def broker_error(self) -> str | None:
        return self.seen.broker_error

    @property
    def queues(self) -> Mapping[str, ObservedQueue]:
        return self.broker.queues if self.broker else {}

    def status_with(self, workers: Iterable[ObservedWorker]) -> Mapping[str, Any]:
        """`status`, had the turn seen these workers: they come and go between turns."""
        return with_workers(self.status, self.seen, self.plan, workers)
