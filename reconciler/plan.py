"""Differences → actions, each priced, and those held back with the reason. Pure: the third station of the line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Literal

from reconciler.actions import (
    Action,
    Adjust,
    Claim,
    Declare,
    Delete,
    Held,
    Release,
    Restart,
    Result,
    Start,
    Stop,
    UnderWay,
)
from reconciler.changing import changing
from reconciler.diff import (
    BindingMissing,
    BindingUnwanted,
    Change,
    Gone,
    OwnershipDiffers,
    PolicyDiffers,
    PolicyMissing,
    PolicyUnseen,
    PoolDiffers,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
)
from reconciler.reached import Drifted
from reconciler.removing import Removals, removal, tied, why_in_use, withheld
from reconciler.rolling import pool_steps
from reconciler.routing import made_anew, routing_steps, why_removals_wait
from state.ledger import Holdings
from state.observed import binding_of

__all__ = ["Action", "Adjust", "Claim", "Context", "Declare", "Delete", "Held", "Plan", "Release", "Restart", "Result"]
__all__ += ["Start", "Stop", "make_plan", "queue_of", "why_in_use"]


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    held: tuple[Held, ...] = ()
    under_way: tuple[UnderWay, ...] = ()

    @property
    def needs_confirmation(self) -> bool:
        return any(held.needs_confirmation for held in self.held)


@dataclass(frozen=True)
class Context(Removals):
    """What a plan depends on beside the differences."""

    ours: Collection[str] = ()  # the queues that are ours
    under_way: Mapping[str, str] = field(default_factory=dict)  # where each migration is, by queue
    gave_up: Mapping[str, str] = field(default_factory=dict)  # why migrations went back a short while ago
    holdings: Holdings = field(default_factory=Holdings)  # all that is ours
    drifts: Sequence[Drifted] = ()  # those of the changes that others are the reason of


def make_plan(changes: Iterable[Change], context: Context = Context()) -> Plan:
    changes = [known for change in changes if (known := but_for(change, context.under_way)) is not None]
    unwanted = [c for c in changes if isinstance(c, QueueUnwanted)]
    waiting, bound = withheld(unwanted, context), tied(unwanted, changes) | moving(unwanted, context.under_way)
    actions: list[Action] = []
    held: list[Held] = []
    made, removals = made_anew(changes), why_removals_wait(changes, context.holdings, bool(waiting))
    shown = {id(drift.change): drift for drift in context.drifts if not drift.corrected}
    stopping = {c.pool.queue for c in changes if isinstance(c, PoolDiffers) and c.seen and c.spec is None}
    for change in changes:
        found = (
            [reported(shown[id(change)])]
            if id(change) in shown
            else [
                *steps(change, context, waiting, stopping, bound),
                *routing_steps(change, made, None if context.confirmed else removals, context.allowed),
            ]
        )
        for step in found:
            if isinstance(step, Held):
                held.append(step)
            else:
                actions.append(step)
    under_way = tuple(starmap(UnderWay, context.under_way.items()))
    return Plan(tuple(sorted(actions, key=lambda action: action.order)), tuple(held), under_way)


def steps(
    change: Change, context: Context, waiting: Mapping[str, Held], stopping: set[str], bound: Mapping[str, Held]
) -> Iterator[Action | Held]:
    match change:
        case QueueMissing(name, queue):
            yield Declare(name, queue, claim=True)
        case QueueUnverified(name, queue):
            yield Declare(name, queue, claim=False)
        case QueueDiffers(name):
            yield changing(change, name in context.ours, context.gave_up)
        case OwnershipDiffers(name, owned):
            yield Claim(name, owned)
        case QueueUnwanted(name):
            held = waiting.get(name) or (bound.get(name) if not context.requests.get(name) else None)
            yield held or removal(change, context, name in stopping)
        case PoolDiffers():
            if change.spec is None and change.pool.queue in waiting:
                return  # its queue stays for now, and so does what drains it
            yield from pool_steps(change)


def moving(unwanted: Iterable[QueueUnwanted], under_way: Collection[str]) -> dict[str, Held]:
    """What was made for the sake of a queue that is being migrated: its old messages may still be rejected to it."""
    return {
        c.name: Held(c.name, f"it goes once queue {c.owned.of} is migrated", c.seen.messages)
        for c in unwanted
        if c.owned.of in under_way and c.seen is not None
    }


def but_for(change: Change, under_way: Collection[str]) -> Change | None:
    """The change without what a migration is the reason of: it takes the bindings of its queue away, and brings them
    back. Were they forgotten meanwhile, nobody would take out what the file does not list any more."""
    if not isinstance(change, Gone):
        return None if queue_of(change) in under_way else change
    held = change.held
    gone = {key for key in held.bindings if binding_of(key).destination not in under_way}
    if gone == held.bindings:
        return change
    left = Holdings(held.queues, held.exchanges, gone, held.policies)
    return Gone(left) if left else None


def queue_of(change: Change) -> str | None:
    """The queue that a change is about; None if it is about something else, or about the queue's processes."""
    match change:
        case BindingMissing(binding) | BindingUnwanted(binding):
            return binding.destination if binding.destination_type == "queue" else None
        case PolicyMissing(_, wanted) | PolicyDiffers(_, wanted) | PolicyUnseen(_, wanted):
            return wanted.queues[0] if len(wanted.queues) == 1 else None
        case QueueMissing(name) | QueueUnverified(name) | QueueDiffers(name) | QueueUnwanted(name):
            return name
        case OwnershipDiffers(name):
            return name
    return None


def reported(drift: Drifted) -> Held:
    """A drift that the file wants to see rather than to have mended."""
    kind: Literal["policy", "exchange"] = "policy" if drift.subject[0] == "policy" else "exchange"
    way_out = "drift: report only shows it; write drift: correct to have it mended, or mend it yourself"
    if drift.queue is not None:
        return Held(drift.queue, f"drift: {drift.what} ({way_out})")
    return Held(drift.about, f"drift: {drift.what} ({way_out})", kind=kind)
