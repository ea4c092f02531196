"""Wanted × there → differences. Pure: the second station of the line, after the file and the world were read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.diff.pools import NO_WISHES, PoolDiffers, RestartWish, Wishes, diff_pools, has_terms
from reconciler.diff.queues import (
    Difference,
    OwnershipDiffers,
    Properties,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
    compare,
    diff_queues,
    same,
)
from state.desired import Desired
from state.ledger import Owned
from state.observed import ObservedQueue
from state.processes import ObservedWorker, Pool, WorkerSpec

__all__ = ["Change", "Difference", "OwnershipDiffers", "PoolDiffers", "Properties", "QueueDiffers", "QueueMissing"]
__all__ += ["QueueUnverified", "QueueUnwanted", "RestartWish", "Wishes", "compare", "diff", "diff_pools", "diff_queues"]
__all__ += ["has_terms", "same"]

Change = QueueMissing | QueueUnverified | QueueDiffers | QueueUnwanted | OwnershipDiffers | PoolDiffers


def diff(
    desired: Desired,
    queues: Mapping[str, ObservedQueue] | None,
    owned: Mapping[str, Owned],
    specs: Mapping[Pool, WorkerSpec],
    workers: Iterable[ObservedWorker],
    wishes: Wishes = NO_WISHES,
) -> list[Change]:
    """All differences, queues first. `queues` is None while the broker cannot be seen: then only pools are compared."""
    changes = list(diff_queues(desired.all_queues(), queues, owned)) if queues is not None else []
    return changes + list(diff_pools(desired, specs, workers, wishes))
