"""Queues: wanted × there → differences. Pure.

Both sides go through one `Properties` before they are compared, because brokers add defaults of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from state.desired import Queue
from state.ledger import Owned
from state.observed import ObservedQueue


@dataclass(frozen=True)
class Properties:
    """What makes two queues of one name the same or not. All of it is immutable at the broker."""

    type: str
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: Mapping[str, Any]

    @classmethod
    def wanted(cls, queue: Queue, have: Mapping[str, Any] | None = None) -> Properties:
        """`have`: the arguments of the queue that is there, which may say what else a policy would."""
        return cls(queue.type, queue.durable, False, False, queue.broker_arguments(have))

    @classmethod
    def seen(cls, queue: ObservedQueue) -> Properties | None:
        """None where AMQP alone shows no properties."""
        if queue.type is None or queue.durable is None or queue.arguments is None:
            return None
        arguments = {k: v for k, v in queue.arguments.items() if k != "x-queue-type"}
        return cls(queue.type, queue.durable, queue.auto_delete, queue.exclusive, arguments)


@dataclass(frozen=True)
class Difference:
    """One property of a queue that is not as the file says. `None` is the absence of an argument."""

    key: str
    wanted: Any
    have: Any

    def __str__(self) -> str:
        return f"{self.key} is {_shown(self.have)} at the broker and {_shown(self.wanted)} in the file"


@dataclass(frozen=True)
class QueueMissing:
    name: str
    queue: Queue


@dataclass(frozen=True)
class QueueUnverified:
    """It is there, but AMQP alone does not show with which properties."""

    name: str
    queue: Queue


@dataclass(frozen=True)
class QueueDiffers:
    name: str
    queue: Queue
    differences: tuple[Difference, ...]
    seen: ObservedQueue


@dataclass(frozen=True)
class QueueUnwanted:
    """Ours, and no longer in the file. `seen` is None if it is gone from the broker too."""

    name: str
    owned: Owned
    seen: ObservedQueue | None


@dataclass(frozen=True)
class OwnershipDiffers:
    """What the ledger remembers of a queue of ours is older than the file."""

    name: str
    owned: Owned


QueueChange = QueueMissing | QueueUnverified | QueueDiffers | QueueUnwanted | OwnershipDiffers


def diff_queues(
    desired: Mapping[str, Queue], observed: Mapping[str, ObservedQueue], owned: Mapping[str, Owned]
) -> Iterator[QueueChange]:
    for name, queue in desired.items():
        yield from diff_queue(name, queue, observed.get(name))
        if name in owned and (known := remembered(owned[name], queue, observed.get(name))) != owned[name]:
            yield OwnershipDiffers(name, known)
    for name, ours in owned.items():
        if name not in desired:
            yield QueueUnwanted(name, ours, observed.get(name))


def remembered(owned: Owned, queue: Queue, seen: ObservedQueue | None) -> Owned:
    """What the ledger is to know of a queue of ours that is in the file. What is in doubt stays so; and what we made is
    what is there only as long as that is as the file says."""
    known = replace(Owned.as_wanted(queue), doubtful=owned.doubtful)
    have = Properties.seen(seen) if seen else None
    is_as_wanted = have is not None and not any(compare(Properties.wanted(queue), have))
    return known if is_as_wanted else replace(known, shape=owned.shape)


def diff_queue(name: str, queue: Queue, seen: ObservedQueue | None) -> Iterator[QueueChange]:
    if seen is None:
        yield QueueMissing(name, queue)
    elif (have := Properties.seen(seen)) is None:
        yield QueueUnverified(name, queue)
    elif differences := tuple(compare(Properties.wanted(queue, have.arguments), have)):
        yield QueueDiffers(name, queue, differences, seen)


def compare(wanted: Properties, have: Properties) -> Iterator[Difference]:
    for key in ("type", "durable", "auto_delete", "exclusive"):
        if getattr(wanted, key) != getattr(have, key):
            yield Difference(key, getattr(wanted, key), getattr(have, key))
    for key in sorted(wanted.arguments.keys() | have.arguments.keys()) if wanted.arguments or have.arguments else ():
        if not same(wanted.arguments.get(key), have.arguments.get(key)):
            yield Difference(key, wanted.arguments.get(key), have.arguments.get(key))


def same(one: Any, other: Any) -> bool:
    """Equal as AMQP sees it: a truth value is no number, though Python says True == 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
