"""What tells drift from change: what was once as the file says and is not any more, though the file says the same.

Pure. In memory of everything; on disk (`kept`) only of what the file wants reported rather than mended, because there
a restart must not make a change of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.actions import Action, Bind, Declare, DeclareExchange, SetPolicy
from reconciler.diff import (
    BindingMissing,
    Change,
    ExchangeDiffers,
    ExchangeMissing,
    PolicyDiffers,
    PolicyMissing,
    PolicyUnseen,
    QueueDiffers,
    QueueMissing,
    Wanted,
    WantedPolicy,
)
from state.desired import Desired, Exchange, Queue
from state.observed import binding_of

Subject = tuple[str, str]  # queue, exchange, binding or policy, and its name; of a binding, the key


@dataclass(frozen=True)
class Drifted:
    """One thing that others changed. `queue` is the one that it belongs to, None for what stands by itself."""

    subject: Subject
    queue: str | None
    what: str
    corrected: bool
    change: Change

    @property
    def about(self) -> str:
        """The name of what it is about."""
        if self.queue is not None:
            return self.queue
        kind, name = self.subject
        return binding_of(name).destination if kind == "binding" else name


class Reached:
    """What was as the file says at the last look. `kept`: fingerprints from the disk, by kind and name."""

    def __init__(self, kept: Mapping[Subject, str] | None = None) -> None:
        self._kept = dict(kept or {})
        self._last: dict[Subject, Any] = {}

    def drifted(self, changes: Iterable[Change], desired: Desired) -> list[Drifted]:
        """The changes of which the file is not the reason."""
        found = (drift_of(change, desired) for change in changes)
        return [drift for drift, wanted in filter(None, found) if self._was(drift.subject, wanted)]

    def _was(self, subject: Subject, wanted: Any) -> bool:
        if subject in self._last:
            return fingerprint(self._last[subject]) == fingerprint(wanted)
        return self._kept.get(subject) == fingerprint(wanted)

    def look(self, changes: Iterable[Change], drifts: Iterable[Drifted], desired: Desired, wanted: Wanted) -> None:
        """Takes in what is as the file says now: all that is wanted, and about which there is no change."""
        differing = {subject for change in changes if (subject := subject_of(change, desired))}
        standing = {drift.subject for drift in drifts if not drift.corrected}
        self._last = {subject: value for subject, value in everything(desired, wanted) if subject not in differing}
        self._kept = {s: self._kept[s] for s in standing if s in self._kept} | {
            subject: fingerprint(value)
            for subject, value in self._last.items()
            if desired.drift_of(queue_of(subject, value)) == "report"
        }

    def made(self, action: Action) -> None:
        """What was just done is as the file says from now on, though nobody has looked yet."""
        match action:
            case Declare(name, queue):
                self._last["queue", name] = queue
            case DeclareExchange(name, exchange):
                self._last["exchange", name] = exchange
            case Bind(binding):
                self._last["binding", binding.key] = binding
            case SetPolicy(name, rule, _, queues):
                self._last["policy", name] = WantedPolicy(rule, queues)

    @property
    def kept(self) -> Mapping[Subject, str]:
        """What the next daemon has to know."""
        return self._kept


def subject_of(change: Change, desired: Desired) -> Subject | None:
    """What it is that differs, or that cannot be seen."""
    match change:
        case BindingMissing(binding):
            return "binding", binding.key
        case PolicyUnseen(name):
            return "policy", name
    found = drift_of(change, desired)
    return found[0].subject if found else None


def everything(desired: Desired, wanted: Wanted) -> Iterator[tuple[Subject, Any]]:
    yield from ((("queue", name), queue) for name, queue in desired.all_queues().items())
    yield from ((("exchange", name), exchange) for name, exchange in desired.exchanges.items())
    yield from ((("binding", binding.key), binding) for binding in wanted.bindings)
    yield from ((("policy", name), policy) for name, policy in wanted.policies.items())


def queue_of(subject: Subject, wanted: Any) -> str | None:
    kind, name = subject
    if kind == "queue":
        return name
    if kind == "binding" and wanted.destination_type == "queue":
        return str(wanted.destination)
    return wanted.queues[0] if kind == "policy" and len(wanted.queues) == 1 else None


def fingerprint(wanted: Any) -> str:
    """The same for what asks the same of the broker."""
    match wanted:
        case Queue():
            terms: Any = [wanted.type, wanted.durable, wanted.broker_arguments()]
        case Exchange():
            terms = wanted.model_dump(exclude={"on_remove", "bindings"})
        case WantedPolicy():
            terms = wanted.rule.model_dump()
        case _:
            terms = wanted.key
    return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()[:16]


def drift_of(change: Change, desired: Desired) -> tuple[Drifted, Any] | None:
    """The change as the drift that it would be, and what is wanted; None for a change that cannot be one."""
    gone = "gone from the broker"
    match change:
        case QueueMissing(name, queue):
            found: tuple[Subject, str, Any] = ("queue", name), f"it was {gone}", queue
        case QueueDiffers(name, queue, differences):
            found = ("queue", name), "; ".join(map(str, differences)), queue
        case ExchangeMissing(name, exchange):
            found = ("exchange", name), f"it was {gone}", exchange
        case ExchangeDiffers(name, exchange, differences):
            found = ("exchange", name), "; ".join(map(str, differences)), exchange
        case BindingMissing(binding, sure=True):
            found = ("binding", binding.key), f"the binding {binding} was {gone}", binding
        case PolicyMissing(name, wanted):
            found = ("policy", name), f"the policy {name} was {gone}", wanted
        case PolicyDiffers(name, wanted, differences):
            found = ("policy", name), f"policy {name}: {'; '.join(map(str, differences))}", wanted
        case _:
            return None
    subject, what, value = found
    belongs = queue_of(subject, value)
    return Drifted(subject, belongs, what, desired.drift_of(belongs) == "correct", change), value
