"""Wanted × there → differences. Pure: the second station of the line, after the file and the world were read.

Both sides go through one `Properties` before they are compared, because brokers add defaults of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from state.desired import Desired, Queue
from state.ledger import Owned
from state.observed import ObservedQueue
from state.processes import ObservedWorker, Pool, WorkerSpec


@dataclass(frozen=True)
class Properties:
    """What makes two queues of one name the same or not. All of it is immutable at the broker."""

    type: str
    durable: bool
    auto_delete: bool
    exclusive: bool
    arguments: Mapping[str, Any]

    @classmethod
    def wanted(cls, queue: Queue) -> Properties:
        return cls(queue.type, queue.durable, False, False, queue.broker_arguments())

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


@dataclass(frozen=True)
class PoolDiffers:
    """A pool without as many up-to-date processes as wanted. `spec` is None if the pool is not wanted at all."""

    pool: Pool
    count: int
    spec: WorkerSpec | None
    seen: tuple[ObservedWorker, ...]


Change = QueueMissing | QueueUnverified | QueueDiffers | QueueUnwanted | OwnershipDiffers | PoolDiffers


def diff_queues(
    desired: Mapping[str, Queue], observed: Mapping[str, ObservedQueue], owned: Mapping[str, Owned]
) -> Iterator[Change]:
    for name, queue in desired.items():
        yield from diff_queue(name, queue, observed.get(name))
        if name in owned and owned[name].on_remove != queue.on_remove:
            yield OwnershipDiffers(name, Owned(queue.on_remove))
    for name, ours in owned.items():
        if name not in desired:
            yield QueueUnwanted(name, ours, observed.get(name))


def diff_queue(name: str, queue: Queue, seen: ObservedQueue | None) -> Iterator[Change]:
    if seen is None:
        yield QueueMissing(name, queue)
    elif (have := Properties.seen(seen)) is None:
        yield QueueUnverified(name, queue)
    elif differences := tuple(compare(Properties.wanted(queue), have)):
        yield QueueDiffers(name, queue, differences)


def compare(wanted: Properties, have: Properties) -> Iterator[Difference]:
    for key in ("type", "durable", "auto_delete", "exclusive"):
        if getattr(wanted, key) != getattr(have, key):
            yield Difference(key, getattr(wanted, key), getattr(have, key))
    for key in sorted(wanted.arguments.keys() | have.arguments.keys()):
        if not same(wanted.arguments.get(key), have.arguments.get(key)):
            yield Difference(key, wanted.arguments.get(key), have.arguments.get(key))


def same(one: Any, other: Any) -> bool:
    """Equal as AMQP sees it: a truth value is no number, though Python says True == 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def diff_pools(
    desired: Desired, specs: Mapping[Pool, WorkerSpec], workers: Iterable[ObservedWorker]
) -> Iterator[Change]:
    seen: dict[Pool, list[ObservedWorker]] = {}
    for worker in workers:
        seen.setdefault(worker.pool, []).append(worker)
    for pool, wanted in desired.pools():
        change = PoolDiffers(pool, wanted.count, specs[pool], tuple(seen.pop(pool, ())))
        if not is_met(change):
            yield change
    for pool, rest in seen.items():
        yield PoolDiffers(pool, 0, None, tuple(rest))


def is_met(pool: PoolDiffers) -> bool:
    """As many wanted slots as asked for, each of the present spec, and none on its way out."""
    kept = [w for w in pool.seen if w.state != "stopping"]
    return len(kept) == len(pool.seen) == pool.count and all(pool.spec and w.digest == pool.spec.digest for w in kept)


def diff(
    desired: Desired,
    queues: Mapping[str, ObservedQueue] | None,
    owned: Mapping[str, Owned],
    specs: Mapping[Pool, WorkerSpec],
    workers: Iterable[ObservedWorker],
) -> list[Change]:
    """All differences, queues first. `queues` is None while the broker cannot be seen: then only pools are compared."""
    changes = list(diff_queues(desired.all_queues(), queues, owned)) if queues is not None else []
    return changes + list(diff_pools(desired, specs, workers))


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
