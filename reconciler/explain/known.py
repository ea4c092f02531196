"""What is known of a queue that somebody asks about."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.drift import Drift
from reconciler.plan import Plan
from state.desired import Desired, Queue
from state.ledger import Owned
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker


@dataclass(frozen=True)
class Known:
    """What is known of a queue at `now`, in seconds since the epoch. `status` is the body of `/status`."""

    name: str
    desired: Desired
    broker: ObservedBroker | None
    plan: Plan
    status: Mapping[str, Any]
    now: float
    owned: Mapping[str, Owned] = field(default_factory=dict)
    workers: Sequence[ObservedWorker] = ()
    drifts: Sequence[Drift] = ()

    @property
    def queue(self) -> Queue | None:
        return self.desired.all_queues().get(self.name)

    @property
    def seen(self) -> ObservedQueue | None:
        return self.broker.queues.get(self.name) if self.broker else None


def is_known(known: Known) -> bool:
    """Is it in the file, at the broker or in the ledger, or are there workers on it?"""
    return bool(known.queue or known.seen or known.name in known.owned or known.workers)


def near(known: Known) -> list[str]:
    """The names that somebody may have meant, nearest first."""
    names = {*known.desired.all_queues(), *(known.broker.queues if known.broker else ()), *known.owned}
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(known.name.casefold(), folded, n=3, cutoff=0.5)
    return [folded[name] for name in found]
