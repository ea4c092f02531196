"""Differences → actions, each priced, and those held back with the reason. Pure: the third station of the line.

The order of the actions is the order of doing: make queues, start workers, stop workers, remove queues.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.diff import (
    Change,
    OwnershipDiffers,
    PoolDiffers,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
)
from reconciler.errors import ReconcilerError
from state.desired import Queue
from state.ledger import Owned
from state.observed import ObservedQueue
from state.processes import ObservedWorker, WorkerSpec, WorkerState

# A plan that deletes more queues than this and more than this share of ours waits for a person.
MAX_DELETES = 3
MAX_DELETED_SHARE = 0.30
# Share of a pool that may be without a ready process while it moves to a new spec; one always may.
MAX_UNAVAILABLE = 0.25


@dataclass(frozen=True)
class Declare:
    """Make a queue, or (claim False) have the broker compare it with the one that is there."""

    cost = "in place"
    order = 0
    name: str
    queue: Queue
    claim: bool

    def __str__(self) -> str:
        return f"{'create' if self.claim else 'verify'} {self.queue.type} queue {self.name}"


@dataclass(frozen=True)
class Claim:
    """Remember what the file now says about the removal of a queue of ours."""

    cost = "in place"
    order = 1
    name: str
    owned: Owned

    def __str__(self) -> str:
        return f"remember on_remove: {self.owned.on_remove} for queue {self.name}"


@dataclass(frozen=True)
class Start:
    cost = "in place"
    order = 2
    spec: WorkerSpec
    slot: int

    @property
    def name(self) -> str:
        return f"{self.spec.pool}[{self.slot}]"

    def __str__(self) -> str:
        return f"start worker {self.name}"


@dataclass(frozen=True)
class Stop:
    cost = "restart"
    order = 3
    worker: ObservedWorker
    why: str

    @property
    def name(self) -> str:
        return f"{self.worker.pool}[{self.worker.slot}]"

    def __str__(self) -> str:
        return f"stop worker {self.name} ({self.why})"


@dataclass(frozen=True)
class Delete:
    """Delete a queue of ours. Without force only once it is seen to be empty and unused, by live counts."""

    cost = "destructive"
    order = 4
    name: str
    type: str
    force: bool
    messages: int

    def __str__(self) -> str:
        lost = f" with its {self.messages} messages" if self.force and self.messages else ""
        return f"delete queue {self.name}{lost}"


@dataclass(frozen=True)
class Release:
    """Give up the ownership of a queue that is gone, or that the file said to keep."""

    cost = "in place"
    order = 5
    name: str

    def __str__(self) -> str:
        return f"forget queue {self.name}"


Action = Declare | Claim | Start | Stop | Delete | Release


@dataclass(frozen=True)
class Result:
    """How an action went."""

    action: Action
    error: ReconcilerError | None = None


@dataclass(frozen=True)
class Held:
    """Something the file asks for that is not done now, and what lifts it."""

    queue: str
    reason: str
    messages: int | None = None
    needs_confirmation: bool = False


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    held: tuple[Held, ...] = ()

    @property
    def needs_confirmation(self) -> bool:
        return any(held.needs_confirmation for held in self.held)


@dataclass(frozen=True)
class Context:
    """What a plan depends on beside the differences."""

    owned: int = 0  # how many queues are ours
    confirmed: bool = False  # a person confirmed the deletions of this revision
    requests: Mapping[str, bool] = field(default_factory=dict)  # deletions asked for by name; True: with force


def make_plan(changes: Iterable[Change], context: Context = Context()) -> Plan:
    changes = list(changes)
    unwanted = [c for c in changes if isinstance(c, QueueUnwanted)]
    waiting = withheld(unwanted, context)
    actions: list[Action] = []
    held: list[Held] = []
    stopping = {c.pool.queue for c in changes if isinstance(c, PoolDiffers) and c.seen and c.spec is None}
    for change in changes:
        for step in steps(change, context, waiting, stopping):
            (held if isinstance(step, Held) else actions).append(step)  # type: ignore[arg-type]
    return Plan(tuple(sorted(actions, key=lambda action: action.order)), tuple(held))


def withheld(unwanted: list[QueueUnwanted], context: Context) -> dict[str, Held]:
    """The removals that wait for a person, by queue: all that nobody asked for by name, if they are too many."""
    deletes = [c for c in unwanted if c.owned.on_remove != "keep" and c.seen and c.name not in context.requests]
    if context.confirmed or not is_too_many(len(deletes), context.owned):
        return {}
    reason = (
        f"the file takes out {len(deletes)} of {context.owned} managed queues; more than {MAX_DELETES} and "
        f"{MAX_DELETED_SHARE:.0%} at once wait for a person (reconciler sync --confirm REVISION)"
    )
    return {c.name: Held(c.name, reason, c.seen.messages if c.seen else 0, True) for c in deletes}


def is_too_many(deletes: int, owned: int) -> bool:
    return deletes > MAX_DELETES and deletes > MAX_DELETED_SHARE * owned


def steps(change: Change, context: Context, waiting: Mapping[str, Held], stopping: set[str]) -> Iterator[Action | Held]:
    match change:
        case QueueMissing(name, queue):
            yield Declare(name, queue, claim=True)
        case QueueUnverified(name, queue):
            yield Declare(name, queue, claim=False)
        case QueueDiffers(name):
            yield refused(change)
        case OwnershipDiffers(name, owned):
            yield Claim(name, owned)
        case QueueUnwanted(name):
            yield waiting[name] if name in waiting else removal(change, context, name in stopping)
        case PoolDiffers():
            if change.spec is None and change.pool.queue in waiting:
                return  # its queue stays for now, and so does what drains it
            yield from pool_steps(change)


def refused(change: QueueDiffers) -> Held:
    differences = "; ".join(map(str, change.differences))
    way_out = "change the file back, or delete the queue yourself once it is drained; it is then made anew"
    return Held(change.name, f"{differences}. RabbitMQ cannot change that in place ({way_out})")


def removal(change: QueueUnwanted, context: Context, has_workers: bool) -> Action | Held:
    """What becomes of a queue of ours that left the file. The live counts are taken again when it is done."""
    seen, name = change.seen, change.name
    force = context.requests.get(name, False) or change.owned.on_remove == "delete"
    if seen is None or (change.owned.on_remove == "keep" and name not in context.requests):
        return Release(name)
    if has_workers:
        return Held(name, "its workers are stopping", seen.messages)
    if not force and (reason := why_in_use(seen)):
        return Held(name, reason, seen.messages)
    return Delete(name, seen.type or "classic", force, seen.messages)


def why_in_use(queue: ObservedQueue) -> str | None:
    """Why deleting `queue` could lose something; None if nothing speaks against it."""
    if queue.messages:
        return (
            f"{queue.messages} messages are in it ({queue.ready} ready, {queue.unacknowledged or 0} in flight): put it "
            f"back into the file and drain it, or say on_remove: delete there, or DELETE /queue/delete/…?force=true"
        )
    if queue.consumers:
        return f"{queue.consumers} consumers that are not ours use it (stop them; it is tried again by itself)"
    return None


def pool_steps(change: PoolDiffers) -> Iterator[Action]:
    kept = [w for w in change.seen if w.state != WorkerState.STOPPING]
    surplus = sorted(kept, key=last_to_stop)[: max(0, len(kept) - change.count)]
    for worker in surplus:
        yield Stop(worker, "not in the file any more" if change.spec is None else f"{change.count} are wanted")
    if change.spec is None:
        return
    rest = [w for w in kept if w not in surplus]
    yield from roll(change.spec, rest, change.count)
    taken = {w.slot for w in change.seen}
    free = (slot for slot in range(change.count + len(taken)) if slot not in taken)
    for _ in range(change.count - len(rest)):
        yield Start(change.spec, next(free))


def last_to_stop(worker: ObservedWorker) -> tuple[int, int]:
    """Sorts those first that lose least: what does not run, then idle, then busy; the highest slot first."""
    idle = worker.state == WorkerState.READY and not worker.busy
    rank = 0 if not worker.running else 1 if worker.state == WorkerState.STARTING else 2 if idle else 3
    return rank, -worker.slot


def roll(spec: WorkerSpec, workers: list[ObservedWorker], count: int) -> Iterator[Action]:
    """Stops workers of an older spec, a few at a time, so that most of the pool goes on working meanwhile."""
    old = [w for w in workers if w.digest != spec.digest]
    missing = count - sum(w.state == WorkerState.READY for w in workers)
    allowed = max(1, math.floor(count * MAX_UNAVAILABLE)) - missing
    for worker in sorted(old, key=last_to_stop):
        if worker.state != WorkerState.READY:
            yield Stop(worker, "its settings or its code changed")  # it does no work now: replacing it costs nothing
        elif allowed > 0:
            allowed -= 1
            yield Stop(worker, "its settings or its code changed")
