"""Which actions failed, and when each may be tried again. Pure: `now` is an argument.

A failed action holds only itself: the rest of the plan goes on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.backoff import backoff
from reconciler.errors import Permanent, StillInUse
from reconciler.plan import Action, Delete, Held, Plan, Result

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
        due = tuple(a for a in plan.actions if now >= self._retry_at(a))
        late = tuple(held_of(a, self._failures[key_of(a)]) for a in plan.actions if a not in due)
        return replace(plan, actions=due, held=plan.held + late)

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
    return type(action).__name__, action.name


def held_of(action: Action, failure: Failure) -> Held:
    messages = action.messages if isinstance(action, Delete) else None
    return Held(action.name, f"{action}: {failure.message}", messages)
