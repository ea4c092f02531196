"""What is done to one pool of workers: scaling, and rolling to a new spec batch by batch. Pure; a part of the plan.

    to a new spec:  one goes first ─▶ ready ─▶ the others, `max_unavailable` at a time ─▶ done
                         └─▶ dies ─▶ halted: the others stay as they are until it is ready, or the spec changes

Nothing is remembered from turn to turn: where a roll stands is seen from the processes, and what is halted goes on by
itself. The number of processes is never raised for a roll: `count` is also how people ask for one consumer at a time. A
pool of one is therefore without a worker while its new one fails.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.actions import Action, Adjust, Held, Restart, Start, Stop
from reconciler.diff import PoolDiffers, RestartWish, has_terms
from state.processes import ObservedWorker, WorkerSpec, WorkerState
from state.units import share_of

CHANGED = "its settings or its code changed"
ASKED = "a restart was asked for"


def pool_steps(change: PoolDiffers) -> Iterator[Action | Held]:
    kept = [w for w in change.seen if not w.leaves]
    by_loss = sorted(kept, key=lambda worker: last_to_stop(worker, change.spec))
    surplus = by_loss[: max(0, len(kept) - change.count)]
    for worker in surplus:
        yield Stop(worker, why_surplus(change))
    if change.spec is None:
        return
    rest = by_loss[len(surplus) :]
    yield from adjustments(change.spec, rest)
    yield from roll(change, change.spec, rest)
    taken = {w.slot for w in change.seen}
    free = (slot for slot in range(change.count + len(taken)) if slot not in taken)
    for _ in range(change.count - len(rest)):
        yield Start(change.spec, next(free))


def why_surplus(change: PoolDiffers) -> str:
    if change.spec is None:
        return "not in the file any more"
    return "its queue is paused" if change.paused else f"{change.count} are wanted"


def last_to_stop(worker: ObservedWorker, spec: WorkerSpec | None = None) -> tuple[int, bool, int]:
    """Sorts those first that lose least: what does not run, then idle, then busy; old before new, the highest first."""
    idle = worker.state == WorkerState.READY and not worker.busy
    gone = not worker.running or worker.state == WorkerState.STOPPING
    rank = 0 if gone else 1 if worker.state == WorkerState.STARTING else 2 if idle else 3
    return rank, spec is not None and worker.digest == spec.digest, -worker.slot


def adjustments(spec: WorkerSpec, workers: list[ObservedWorker]) -> Iterator[Action]:
    """Other limits and log rules for those that go on; the others get them with their new process."""
    for worker in workers:
        if worker.digest == spec.digest and not has_terms(worker, spec):
            yield Adjust(spec, worker.slot)


def roll(change: PoolDiffers, spec: WorkerSpec, workers: list[ObservedWorker]) -> Iterator[Action | Held]:
    """Replaces those of an older spec and those that somebody wants replaced, so that most go on working meanwhile.

    What does no work anyway costs nothing; of those that do, as many as `max_unavailable` leaves.
    """
    if reason := why_halted(change, spec, workers):
        yield Held(change.pool.queue, reason, worker=change.pool.worker)
    following = set() if reason else {w.slot for w in those_that_follow(change, spec, workers)}
    missing = change.count - sum(w.state == WorkerState.READY for w in workers)
    allowed = share_of(change.max_unavailable, change.count) - missing
    for worker in workers:
        wish = change.restarts.get((worker.slot, worker.pid))
        at_once = wish is not None and wish.at_once
        step = replacement(worker, spec, wish, at_once or worker.slot in following)
        works = worker.state == WorkerState.READY
        if step and (at_once or not works or allowed > 0):
            allowed -= works
            yield step


def replacement(
    worker: ObservedWorker, spec: WorkerSpec, wish: RestartWish | None, may_roll: bool
) -> Stop | Restart | None:
    if worker.state == WorkerState.STOPPING:
        return None
    if worker.digest != spec.digest:
        return Stop(worker, CHANGED) if may_roll else None
    return Restart(wish, ASKED) if wish else None


def those_that_follow(change: PoolDiffers, spec: WorkerSpec, workers: list[ObservedWorker]) -> list[ObservedWorker]:
    """Who may go to the new spec now: one first of all, the others once one of that spec works."""
    old = [w for w in workers if w.digest != spec.digest]
    new = [w for w in workers if w.digest == spec.digest]
    if not new:
        return old[:1] if len(workers) >= change.count else []  # else the first is about to be started
    return old if any(w.state == WorkerState.READY for w in new) else []


def why_halted(change: PoolDiffers, spec: WorkerSpec, workers: list[ObservedWorker]) -> str | None:
    new = [w for w in workers if w.digest == spec.digest]
    old = len(workers) - len(new)
    failed = sorted(filter(is_failing, new), key=lambda w: w.state == WorkerState.STARTING)
    if not old or not failed:
        return None
    why = failed[0].reason or f"one is in {failed[0].state}"
    return (
        f"{change.pool.worker}: roll halted after {len(new)} of {change.count}: {why}; the other {old} stay on the old "
        f"code (mend it, or try once more with reconciler restart {change.pool.queue})"
    )


def is_failing(worker: ObservedWorker) -> bool:
    """Dead and not tried again yet, given up, or tried again and not ready yet."""
    if worker.state in (WorkerState.BACKOFF, WorkerState.FATAL):
        return True
    return worker.state == WorkerState.STARTING and worker.restarts > 0
