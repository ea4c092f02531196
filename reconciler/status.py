"""Where things stand, from what one turn saw, planned and did, as the bodies of `/status` and `/plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.autoscale import Decision
from reconciler.plan import Held, Plan
from state.desired import Desired, Pause, Queue, Worker
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker, Pool, WorkerState
from state.units import iso

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
    paused: Mapping[str, float] = field(default_factory=dict)  # queues, and since when, in seconds since the epoch
    scaling: Mapping[Pool, Decision] = field(default_factory=dict)  # the numbers of autoscaled pools


def assess(seen: Seen, plan: Plan, last: Mapping[str, Any], commit: str | None) -> dict[str, Any]:
    """The body of `/status`."""
    held: dict[str, str] = {}
    for h in plan.held:
        held[h.queue] = f"{held[h.queue]}; {h.reason}" if h.queue in held else h.reason
    held |= {u.queue: u.text for u in plan.under_way}
    pools = by_pool(seen.workers)
    queues = {n: queue_status(n, q, seen, held.get(n), pools) for n, q in seen.desired.all_queues().items()}
    to_do = (plan.actions, plan.held, plan.under_way, seen.faults, seen.waiting)
    synced = not any(to_do) and seen.broker is not None
    return {
        "revision": seen.revision,
        "commit": commit,
        "file_error": "\n".join(seen.faults) or None,
        "synced": synced and all(q["synced"] for q in queues.values()),
        "healthy": seen.broker is not None and all(q["healthy"] for q in queues.values()),
        "broker": broker_status(seen),
        "last_reconcile": dict(last),
        "pending": [*seen.waiting, *map(str, plan.under_way), *map(str, plan.actions)],
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
    paused = pause_view(queue, seen.paused[name]) if name in seen.paused else None
    workers = [
        pool_status(w, desired_of(Pool(name, w), wanted, seen), pools.get(Pool(name, w), []), paused is not None)
        for w, wanted in queue.workers.items()
    ]
    missing = why_not_synced(there, seen, held)
    unwell = next((w.reason for w in workers if w.reason), None) or why_unwell(there)
    return {
        "synced": missing is None and all(w.settled for w in workers),
        "healthy": missing is None and unwell is None,
        "messages": there.messages if there else None,
        "reason": missing or unwell or (why_paused(paused) if paused else None),
        "paused": paused,
        "workers": {w.name: pool_view(w) | scaling_view(Pool(name, w.name), queue, seen) for w in workers},
    }


def desired_of(pool: Pool, wanted: Worker, seen: Seen) -> int:
    return seen.scaling[pool].count if pool in seen.scaling else wanted.count


def pool_view(pool: PoolStatus) -> dict[str, Any]:
    shown: dict[str, Any] = {"desired": pool.desired, "ready": pool.ready, "restarts": pool.restarts}
    return shown | ({"spawn": "exec", "spawn_reason": pool.executed} if pool.executed else {})


def scaling_view(pool: Pool, queue: Queue, seen: Seen) -> dict[str, Any]:
    """Why an autoscaled pool has the number that it has."""
    scale, decision = queue.workers[pool.worker].autoscale, seen.scaling.get(pool)
    if scale is None or decision is None:
        return {}
    known = {"count": decision.count, "reason": decision.reason, "min": scale.min, "max": scale.max}
    return {"autoscale": known}


def with_reasons(status: Mapping[str, Any], decisions: Mapping[Pool, Decision]) -> dict[str, Any]:
    """`status` with the reasons of autoscaled numbers as they are now: they change between turns."""
    queues = dict(status["queues"])
    for pool, decision in decisions.items():
        shown = queues.get(pool.queue, {}).get("workers", {}).get(pool.worker, {})
        if shown.get("autoscale", {}).get("count") == decision.count:
            workers = queues[pool.queue]["workers"]
            fresh = shown | {"autoscale": shown["autoscale"] | {"reason": decision.reason}}
            queues[pool.queue] = queues[pool.queue] | {"workers": workers | {pool.worker: fresh}}
    return {**status, "queues": queues}


def pause_view(queue: Queue, since: float) -> dict[str, Any]:
    pause = queue.paused or Pause()
    return {
        "reason": pause.reason,
        "since": iso(since),
        "until": iso(pause.until.timestamp()) if pause.until else None,
    }


def why_paused(paused: Mapping[str, Any]) -> str:
    reason = f": {paused['reason']}" if paused["reason"] else ""
    return f"paused{reason} (since {paused['since']}" + (f", until {paused['until']})" if paused["until"] else ")")


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
    executed: str | None = None  # why its processes are not forked, though they should be


def pool_status(name: str, desired: int, workers: list[ObservedWorker], paused: bool = False) -> PoolStatus:
    """`desired` is the file's count; while its queue is paused, none is to run."""
    ready = sum(w.state == WorkerState.READY for w in workers)
    kept = [w for w in workers if not w.leaves]
    return PoolStatus(
        name=name,
        desired=desired,
        ready=ready,
        restarts=sum(w.restarts for w in workers),
        settled=len(workers) == len(kept) == (0 if paused else desired),
        reason=None if paused or ready == desired else f"{name}: {ready} of {desired} ready{worst_of(kept)}",
        executed=next((w.exec_reason for w in workers if w.exec_reason), None),
    )


def worst_of(workers: list[ObservedWorker]) -> str:
    """What the one that is worst off says, worst first."""
    for state in (WorkerState.FATAL, WorkerState.BACKOFF, WorkerState.STARTING):
        for worker in workers:
            if worker.state == state:
                return f"; one is in {state}" + (f": {worker.reason}" if worker.reason else "")
    return ""
