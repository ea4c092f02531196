"""Where things stand, from what one turn saw, planned and did, as the bodies of `/status` and `/plan`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reconciler.actions import Held, concerns
from reconciler.autoscale import Decision
from reconciler.lint import Finding, lint
from reconciler.plan import Plan
from reconciler.reached import Drifted
from state.desired import Desired, Pause, Queue, Worker
from state.faults import dotted
from state.observed import ObservedBinding, ObservedBroker, ObservedQueue, binding_of
from state.processes import ObservedWorker, Pool, WorkerSpec, WorkerState
from state.units import iso

Pools = dict[Pool, list[ObservedWorker]]

MAX_WARNINGS = 100
BLIND = ["unmanaged queues", "drift of bindings", "policies", "rates", "messages in flight"]
SHOWN = 20  # bindings of others that are named, of one queue


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
    drifts: Sequence[Drifted] = ()  # what others changed
    foreign: Sequence[ObservedBinding] = ()  # the bindings that are neither in the file nor ours
    specs: Mapping[Pool, WorkerSpec] = field(default_factory=dict)  # how the processes of each pool are to run


def assess(seen: Seen, plan: Plan, last: Mapping[str, Any], commit: str | None) -> dict[str, Any]:
    """The body of `/status`."""
    missing, foreign = what_is_missing(plan), by_destination(seen.foreign)
    pools = by_pool(seen.workers)
    queues = {n: queue_status(n, q, seen, missing.get(n), pools) for n, q in seen.desired.all_queues().items()}
    for name, bindings in foreign.items():
        if name in queues:
            queues[name] |= {"foreign_bindings": bindings}
    return {
        "revision": seen.revision,
        "commit": commit,
        "file_error": "\n".join(seen.faults) or None,
        **on_the_whole(queues, seen, plan),
        "broker": broker_status(seen),
        "last_reconcile": dict(last),
        "warnings": [asdict(finding) | {"path": dotted(finding.path)} for finding in warnings_of(seen)],
        "pending": [*seen.waiting, *map(str, plan.under_way), *map(str, plan.actions)],
        "held": held_status(plan.held, seen.revision),
        "drift": [drift_view(drift) for drift in seen.drifts],
        "queues": queues,
    }


def on_the_whole(queues: Mapping[str, Mapping[str, Any]], seen: Seen, plan: Plan) -> dict[str, bool]:
    to_do = (plan.actions, plan.held, plan.under_way, seen.faults, seen.waiting)
    there = seen.broker is not None
    return {
        "synced": there and not any(to_do) and all(queue["synced"] for queue in queues.values()),
        "healthy": there and all(queue["healthy"] for queue in queues.values()),
    }


def what_is_missing(plan: Plan) -> dict[str, str]:
    """Why a queue is not as the file says, by its name: what is held, and what is still to be done to it."""
    found: dict[str, str] = {}
    for held in plan.held:
        for name in concerns(held):
            found[name] = f"{found[name]}; {held.reason}" if name in found else held.reason
    for action in plan.actions:
        for name in concerns(action):
            found.setdefault(name, f"under way: {action}")
    return found | {u.queue: u.text for u in plan.under_way}


def by_destination(foreign: Iterable[ObservedBinding]) -> dict[str, list[str]]:
    """The bindings of others in words, by the queue that they bring messages to."""
    found: dict[str, list[str]] = {}
    for binding in sorted(foreign, key=str):
        if binding.destination_type == "queue" and len(known := found.setdefault(binding.destination, [])) < SHOWN:
            known.append(str(binding))
    return found


def drift_view(drift: Drifted) -> dict[str, Any]:
    kind, name = drift.subject
    called = str(binding_of(name)) if kind == "binding" else name
    return {"kind": kind, "name": called, "queue": drift.queue, "what": drift.what, "corrected": drift.corrected}


def warnings_of(seen: Seen) -> list[Finding]:
    """What the connected broker will refuse, or do otherwise than the file says; of very many the first."""
    return lint(seen.desired, seen.broker.release, seen.broker)[:MAX_WARNINGS] if seen.broker else []


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
    actions = [held_view(h) for h in held]
    needs = any(h.needs_confirmation for h in held)
    return {"revision": revision, "needs_confirmation": needs, "reason": held[0].reason, "actions": actions}


def held_view(held: Held) -> dict[str, Any]:
    """`kind` is told where what is called `queue` is none."""
    view = {
        "queue": held.queue,
        "reason": held.reason,
        "messages": held.messages,
        "needs_confirmation": held.needs_confirmation,
    }
    return view | ({"kind": held.kind} if held.kind != "queue" else {})


def queue_status(name: str, queue: Queue, seen: Seen, held: str | None, pools: Pools) -> dict[str, Any]:
    there = seen.broker.queues.get(name) if seen.broker else None
    paused = pause_view(queue, seen.paused[name]) if name in seen.paused else None
    workers = [
        pool_status(Pool(name, w), wanted, seen, pools, paused is not None) for w, wanted in queue.workers.items()
    ]
    missing = why_not_synced(there, seen, held)
    unwell = next((w.reason for w in workers if w.reason), None) or why_unwell(there)
    return {
        "synced": missing is None and all(w.settled for w in workers),
        "healthy": missing is None and unwell is None,
        "messages": there.messages if there else None,
        "reason": missing or unwell or (why_paused(paused) if paused else rolling_of(workers)),
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


def with_workers(
    status: Mapping[str, Any], seen: Seen, plan: Plan, workers: Iterable[ObservedWorker]
) -> Mapping[str, Any]:
    """`status` with the workers as they are now, for they come and go between turns."""
    now, then = by_pool(workers), by_pool(seen.workers)
    changed = {pool.queue for pool in now.keys() | then.keys() if now.get(pool) != then.get(pool)}
    if not changed:
        return status
    missing, queues = what_is_missing(plan), dict(status["queues"])
    for name in changed & queues.keys():
        queue = seen.desired.all_queues()[name]
        queues[name] = queues[name] | queue_status(name, queue, seen, missing.get(name), now)
    return {**status, **on_the_whole(queues, seen, plan), "queues": queues}


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
    settled: bool  # as many slots as wanted, none on its way out, none of an older spec
    reason: str | None  # why not all are ready
    rolling: str | None = None  # how many are of an older spec
    executed: str | None = None  # why its processes are not forked, though they should be


def pool_status(pool: Pool, wanted: Worker, seen: Seen, pools: Pools, paused: bool) -> PoolStatus:
    """While its queue is paused, none is to run, whatever the file's count."""
    workers, desired, spec = pools.get(pool, []), desired_of(pool, wanted, seen), seen.specs.get(pool)
    ready = sum(w.state == WorkerState.READY for w in workers)
    kept = [w for w in workers if not w.leaves]
    older = sum(w.digest != spec.digest for w in kept) if spec else 0
    name = pool.worker
    return PoolStatus(
        name=name,
        desired=desired,
        ready=ready,
        restarts=sum(w.restarts for w in workers),
        settled=len(workers) == len(kept) == (0 if paused else desired) and not older,
        reason=None if paused or ready == desired else f"{name}: {ready} of {desired} ready{worst_of(kept)}",
        rolling=f"{name}: {older} of {desired} still run with the code or the settings of before" if older else None,
        executed=next((w.exec_reason for w in workers if w.exec_reason), None),
    )


def rolling_of(pools: Iterable[PoolStatus]) -> str | None:
    return next((pool.rolling for pool in pools if pool.rolling), None)


def worst_of(workers: list[ObservedWorker]) -> str:
    """What the one that is worst off says, worst first."""
    for state in (WorkerState.FATAL, WorkerState.BACKOFF, WorkerState.STARTING):
        for worker in workers:
            if worker.state == state:
                return f"; one is in {state}" + (f": {worker.reason}" if worker.reason else "")
    return ""
