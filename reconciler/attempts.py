"""Which actions failed, and when each may be tried again. Pure: `now` is an argument.

A failed action holds only itself: the rest of the plan goes on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.actions import (
    Action,
    Bind,
    ClaimExchange,
    Declare,
    DeclareExchange,
    Delete,
    DeleteExchange,
    DeletePolicy,
    Held,
    Result,
    SetPolicy,
    Unbind,
    concerns,
)
from reconciler.backoff import backoff
from reconciler.errors import Permanent, StillInUse
from reconciler.plan import Plan

STILL_IN_USE_SECONDS = 1.0


@dataclass(frozen=True)
class Failure:
    """`retry_at` is on the caller's clock; infinite for what only a new revision or a person can mend."""

    count: int
    retry_at: float
    message: str


class Attempts:
    """Failures by action, of one revision."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], Failure] = {}

    def forget(self) -> None:
        """A new revision, or a person, asks for a fresh try of everything."""
        self._failures.clear()

    def holding_back(self, plan: Plan, now: float) -> Plan:
        """The plan without the actions that failed and whose time has not come; they are held instead."""
        late = [a for a in plan.actions if now < self._retry_at(a)]
        held = [held_of(a, self._failures[key_of(a)]) for a in late]
        put_off = {key_of(a) for a in late}
        unbound = {a.binding.destination for a in late if isinstance(a, Bind)}
        for action in plan.actions:
            if isinstance(action, Unbind) and action.binding.destination in unbound and key_of(action) not in put_off:
                held.append(about(action, f"{action}: not before the new binding is there, or messages would get lost"))
                put_off.add(key_of(action))
        due = tuple(a for a in plan.actions if key_of(a) not in put_off)
        return replace(plan, actions=due, held=plan.held + tuple(held))

    def _retry_at(self, action: Action) -> float:
        failure = self._failures.get(key_of(action))
        return failure.retry_at if failure else -math.inf

    def record(self, results: Iterable[Result], now: float) -> None:
        for result in results:
            key = key_of(result.action)
            if result.error is None:
                self._failures.pop(key, None)
            else:
                count = self._failures[key].count + 1 if key in self._failures else 1
                self._failures[key] = Failure(count, now + wait_for(result.error, count), str(result.error))

    def next_retry(self) -> float:
        """When the next failed action is due; infinite if none is."""
        return min((f.retry_at for f in self._failures.values()), default=math.inf)


def wait_for(error: Exception, failures: int) -> float:
    if isinstance(error, Permanent):
        return math.inf
    if isinstance(error, StillInUse):
        return STILL_IN_USE_SECONDS
    return backoff(failures, cap=30.0, jitter=random.random())


def key_of(action: Action) -> tuple[str, str]:
    """To make a thing is another action than to have it compared: what was in the way may be gone since."""
    verifies = isinstance(action, Declare | DeclareExchange) and not action.claim
    return "Verify" if verifies else type(action).__name__, action.name


def held_of(action: Action, failure: Failure) -> Held:
    return about(action, f"{action}: {failure.message}", action.messages if isinstance(action, Delete) else None)


def about(action: Action, reason: str, messages: int | None = None) -> Held:
    """What is held, by the name of the queue, exchange or policy that it is about."""
    match action:
        case Bind(binding) | Unbind(binding):
            return Held(binding.destination, reason, messages, kind=binding.destination_type)
        case SetPolicy(queues=(queue,)):
            return Held(queue, reason, messages)
        case SetPolicy(name) | DeletePolicy(name):
            return Held(name, reason, messages, kind="policy", concerns=concerns(action))
        case DeclareExchange(name) | DeleteExchange(name) | ClaimExchange(name):
            return Held(name, reason, messages, kind="exchange")
    return Held(action.name, reason, messages)
