"""A plan as people and pipelines review it: what each action costs, in all, and for which world. Pure.

Counts are as seen when the plan was made; None stands for what could not be seen over AMQP alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from reconciler.actions import (
    Action,
    Adjust,
    Bind,
    Delete,
    DeleteExchange,
    Held,
    Migrate,
    Restart,
    Start,
    Stop,
    Unbind,
)
from reconciler.basis import Basis, moved
from reconciler.costs import COSTS
from reconciler.plan import Plan
from reconciler.status import held_status
from state.observed import Kind, ObservedBroker
from state.processes import ObservedWorker


@dataclass(frozen=True)
class Price:
    """What an action, or what is held, touches."""

    messages: int | None = 0
    messages_ready: int | None = 0
    messages_unacknowledged: int | None = 0
    workers: int = 0
    bindings: int | None = 0


@dataclass(frozen=True)
class Review:
    """One plan, and what it was made from."""

    plan: Plan
    basis: Basis
    revision: str
    broker: ObservedBroker | None
    unmanaged: Sequence[str] | None  # the queues there that are neither in the file nor ours; None: cannot be seen
    workers: tuple[ObservedWorker, ...] = ()

    @property
    def digest(self) -> str:
        return self.basis.digest

    def body(self) -> dict[str, Any]:
        """The body of `/plan`, and what `plan --json` prints."""
        held = held_status(self.plan.held, self.revision)
        if held is not None:
            held["actions"] = [
                h | vars(self.price_of(of)) for h, of in zip(held["actions"], self.plan.held, strict=True)
            ]
        return {
            "revision": self.revision,
            "digest": self.digest,
            "broker": self.broker.identity if self.broker else None,
            "summary": self.summary(),
            "actions": [self.action_view(action) for action in self.plan.actions],
            "held": held,
            "under_way": [asdict(migration) for migration in self.plan.under_way],
            "unmanaged": None
            if self.unmanaged is None
            else {"count": len(self.unmanaged), "queues": [*self.unmanaged]},
            "basis": self.basis.as_json(),
        }

    def summary(self) -> dict[str, int]:
        costs = Counter(action.cost for action in self.plan.actions)
        lost = sum(a.messages for a in self.plan.actions if isinstance(a, Delete) and a.force)
        return {cost: costs[cost] for cost in COSTS} | {"held": len(self.plan.held), "messages_lost": lost}

    def action_view(self, action: Action) -> dict[str, Any]:
        kind = type(action).__name__.lower()
        said = {"action": kind, "subject": action.name, "text": str(action), "cost": action.cost}
        return said | vars(self.price_of(action))

    def price_of(self, step: Action | Held) -> Price:
        match step:
            case Start() | Adjust() | Stop() | Restart():
                return Price(workers=1)
            case Bind() | Unbind():
                return Price(bindings=1)
            case DeleteExchange(name) | Held(kind="exchange", queue=name):
                return Price(bindings=self.bindings_of("exchange", name))
            case Delete() | Migrate():
                return self.price_of_queue(step.name)
            case Held(kind="queue", worker=None):
                return self.price_of_queue(step.queue)
        return Price()

    def price_of_queue(self, name: str) -> Price:
        seen = self.broker.queues.get(name) if self.broker else None
        if seen is None:
            return Price()
        bindings = self.bindings_of("queue", name)
        return Price(seen.messages, seen.ready, seen.unacknowledged, self._working[name], bindings)

    def bindings_of(self, kind: Kind, name: str) -> int | None:
        """Those that end there and, of an exchange, begin there; None if they cannot be seen."""
        return None if self.broker is None or self.broker.bindings is None else self._bound[kind, name]

    @cached_property
    def _working(self) -> Counter[str]:
        return Counter(worker.pool.queue for worker in self.workers if worker.running)

    @cached_property
    def _bound(self) -> Counter[tuple[Kind, str]]:
        bindings = (self.broker.bindings if self.broker else None) or ()
        ends = Counter((binding.destination_type, binding.destination) for binding in bindings)
        begins: Counter[tuple[Kind, str]] = Counter(("exchange", binding.source) for binding in bindings)
        return ends + begins


def unmanaged_queues(broker: ObservedBroker | None, ours: Mapping[str, Any]) -> list[str] | None:
    if broker is None or not broker.management:
        return None
    return sorted(broker.queues.keys() - ours.keys())


@dataclass
class Confirmation:
    """A person's word on one plan, by its digest: it counts only while the world is the one that was reviewed."""

    digest: str
    basis: Basis | None = None  # of that plan, where it is known
    allowed: frozenset[str] = frozenset()  # the queues whose deletion is allowed by it
    moved: tuple[str, ...] | None = None  # what had moved when it was looked at again; None: not looked at yet

    def answer(self, review: Review) -> None:
        """Allows what `review` holds back for a person if it is the plan that was confirmed. Only once."""
        if self.moved is not None:
            return
        self.moved = tuple(moved(self.digest, review.basis, self.basis))
        if not self.moved:
            self.allowed = frozenset(held.name for held in review.plan.held if held.needs_confirmation)


def in_words(moved: Sequence[str]) -> str:
    return f"the plan is not what it was: {'; '.join(moved)} (look at the new plan, and confirm that one)"
