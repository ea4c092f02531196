"""Where things stand, from what one turn saw, planned and did, as the bodies of `/status` and `/plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.plan import Action, Delete, Held, Plan
from state.desired import Desired, Queue
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker, Pool, WorkerState

Pools = dict[Pool, list[ObservedWorker]]

BLIND = ["unmanaged queues", "drift of bindings", "rates", "messages in flight"]


@dataclass(frozen=True)
class Seen:
    """What a turn found: the inputs of `assess`."""

    desired: Desired
    revision: str
    faults: tuple[str, ...]
    broker: ObservedBroker | None
    broker_error: str | None
    management_error: str | None
    workers: tuple[ObservedWorker, ...]
    waiting: tuple[str, ...] = ()  # what the file's reading waits for


def assess(seen: Seen, plan: Plan, last: Mapping[str, Any], commit: str | None) -> dict[str, Any]:
    """The body of `/status`."""
    held = {h.queue: h.reason for h in plan.held}
    pools = by_pool(seen.workers)
    queues = {n: queue_status(n, q, seen, held.get(n), pools) for n, q in seen.desired.all_queues().items()}
    synced = not (plan.actions or plan.held or seen.faults or seen.waiting) and seen.broker is not None
    return {
        "revision": seen.revision,
        "commit": commit,
        "file_error": "\n".join(seen.faults) or None,
        "synced": synced and all(q["synced"] for q in queues.values()),
        "healthy": seen.broker is not None and all(q["healthy"] for q in queues.values()),
        "broker": broker_status(seen),
        "last_reconcile": dict(last),
        "pending": [*seen.waiting, *map(str, plan.actions)],
        "held": held_status(plan.held, seen.revision),
        "queues": queues,
    }


def by_pool(workers: Iterable[ObservedWorker]) -> Pools:
    pools: Pools = {}
    for worker in workers:
        pools.setdefault(worker.pool, []).append(worker)
    return pools


def broker_status(seen: Seen) -> dict[str, Any]:
    status: dict[str, Any] = {
        "connected": seen.broker is not None,
        "version": seen.broker.version if seen.broker else None,
        "management": bool(seen.broker and seen.broker.management),
        "error": seen.broker_error,
    }
    if seen.broker and not seen.broker.management:
        status |= {"cannot_see": BLIND, "management_error": seen.management_error}
    return status


def held_status(held: tuple[Held, ...], revision: str) -> dict[str, Any] | None:
    if not held:
        return None
    actions = [
        {"queue": h.queue, "reason": h.reason, "messages": h.messages, "needs_confirmation": h.needs_confirmation}
        for h in held
    ]
    needs = any(h.needs_confirmation for h in held)
    return {"revision": revision, "needs_confirmation": needs, "reason": held[0].reason, "actions": actions}


def queue_status(name: str, queue: Queue, seen: Seen, held: str | None, pools: Pools) -> dict[str, Any]:
    there = seen.broker.queues.get(name) if seen.broker else None
    workers = [pool_status(w, wanted.count, pools.get(Pool(name, w), [])) for w, wanted in queue.workers.items()]
    missing = why_not_synced(there, seen, held)
    unwell = next((w.reason for w in workers if w.reason), None) or why_unwell(there)
    return {
        "synced": missing is None and all(w.settled for w in workers),
        "healthy": missing is None and unwell is None,
        "messages": there.messages if there else None,
        "reason": missing or unwell,
        "workers": {w.name: {"desired": w.desired, "ready": w.ready, "restarts": w.restarts} for w in workers},
    }


def why_not_synced(there: ObservedQueue | None, seen: Seen, held: str | None) -> str | None:
    if seen.broker is None:
        return f"the broker cannot be seen: {seen.broker_error or 'not connected yet'}"
    if held is not None:
        return held
    return None if there else "the queue is not at the broker yet"


def why_unwell(there: ObservedQueue | None) -> str | None:
    if there is not None and there.state not in ("running", "idle", "flow", ""):
        return f"the broker says that the queue is {there.state}"
    return None


@dataclass(frozen=True)
class PoolStatus:
    name: str
    desired: int
    ready: int
    restarts: int
    settled: bool  # as many slots as wanted, none on its way out
    reason: str | None  # why not all are ready


def pool_status(name: str, desired: int, workers: list[ObservedWorker]) -> PoolStatus:
    ready = sum(w.state == WorkerState.READY for w in workers)
    kept = [w for w in workers if w.state != WorkerState.STOPPING]
    return PoolStatus(
        name=name,
        desired=desired,
        ready=ready,
        restarts=sum(w.restarts for w in workers),
        settled=len(workers) == len(kept) == desired,
        reason=None if ready == desired else f"{name}: {ready} of {desired} ready{worst_of(kept)}",
    )


def worst_of(workers: list[ObservedWorker]) -> str:
    """What the one that is worst off says, worst first."""
    for state in (WorkerState.FATAL, WorkerState.BACKOFF, WorkerState.STARTING):
        for worker in workers:
            if worker.state == state:
                return f"; one is in {state}" + (f": {worker.reason}" if worker.reason else "")
    return ""


def plan_body(revision: str, plan: Plan) -> dict[str, Any]:
    """The body of `/plan`."""
    actions = [action_view(action) for action in plan.actions]
    return {"revision": revision, "actions": actions, "held": held_status(plan.held, revision)}


def action_view(action: Action) -> dict[str, Any]:
    messages = action.messages if isinstance(action, Delete) else 0
    kind = type(action).__name__.lower()
    return {"action": kind, "subject": action.name, "text": str(action), "cost": action.cost, "messages": messages}
