"""Differences → actions, each priced, and those held back with the reason. Pure: the third station of the line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.actions import Action, Adjust, Claim, Declare, Delete, Held, Release, Restart, Result, Start, Stop
from reconciler.diff import (
    Change,
    OwnershipDiffers,
    PoolDiffers,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
)
from reconciler.rolling import pool_steps
from state.observed import ObservedQueue

__all__ = ["Action", "Adjust", "Claim", "Context", "Declare", "Delete", "Held", "Plan", "Release", "Restart", "Result"]
__all__ += ["Start", "Stop", "make_plan"]

# A plan that deletes more queues than this and more than this share of ours waits for a person.
MAX_DELETES = 3
MAX_DELETED_SHARE = 0.30


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
    allowed: frozenset[str] = frozenset()  # the queues whose deletion a person confirmed, looking at one plan


def make_plan(changes: Iterable[Change], context: Context = Context()) -> Plan:
    changes = list(changes)
    unwanted = [c for c in changes if isinstance(c, QueueUnwanted)]
    waiting, bound = withheld(unwanted, context), tied(unwanted)
    actions: list[Action] = []
    held: list[Held] = []
    stopping = {c.pool.queue for c in changes if isinstance(c, PoolDiffers) and c.seen and c.spec is None}
    for change in changes:
        for step in steps(change, context, waiting, stopping, bound):
            (held if isinstance(step, Held) else actions).append(step)  # type: ignore[arg-type]
    return Plan(tuple(sorted(actions, key=lambda action: action.order)), tuple(held))


def withheld(unwanted: list[QueueUnwanted], context: Context) -> dict[str, Held]:
    """The removals that wait for a person, by queue: all that nobody asked for by name, if they are too many."""
    agreed = context.requests.keys() | context.allowed
    listed = [c for c in unwanted if c.owned.of is None]  # those that they imply wait for them anyway: see `tied`
    deletes = [c for c in listed if c.owned.on_remove != "keep" and c.seen and c.name not in agreed]
    if context.confirmed or not is_too_many(len(deletes), context.owned):
        return {}
    reason = (
        f"the file takes out {len(deletes)} of {context.owned} managed queues; more than {MAX_DELETES} and "
        f"{MAX_DELETED_SHARE:.0%} at once wait for a person (reconciler sync --confirm REVISION)"
    )
    return {c.name: Held(c.name, reason, c.seen.messages if c.seen else 0, True) for c in deletes}


def tied(unwanted: list[QueueUnwanted]) -> dict[str, Held]:
    """The removals that wait for another: a queue for the messages that come back to it after a delay, and what was
    made for its sake for the queue itself, so that nothing is rejected into nowhere."""
    there = {c.name: c.seen for c in unwanted if c.seen is not None}
    implied = [c for c in unwanted if c.owned.of in there and c.name in there]
    found = {c.name: Held(c.name, f"it goes once queue {c.owned.of} is gone", there[c.name].messages) for c in implied}
    for change in implied:
        if change.name.startswith(f"{change.owned.of}.retry.") and (waiting := there[change.name].messages):
            reason = (
                f"{waiting} messages in {change.name} come back to it after their delay; it is tried again by itself"
            )
            found[str(change.owned.of)] = Held(str(change.owned.of), reason, waiting)
    return found


def is_too_many(deletes: int, owned: int) -> bool:
    return deletes > MAX_DELETES and deletes > MAX_DELETED_SHARE * owned


def steps(
    change: Change, context: Context, waiting: Mapping[str, Held], stopping: set[str], bound: Mapping[str, Held]
) -> Iterator[Action | Held]:
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
            held = waiting.get(name) or (bound.get(name) if name not in context.requests else None)
            yield held or removal(change, context, name in stopping)
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
