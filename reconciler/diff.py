"""Wanted × there → differences. Pure: the second station of the line, after the file and the world were read.

Both sides go through one `Properties` before they are compared, because brokers add defaults of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
    max_unavailable: int | str = "25%"
    restarts: Mapping[tuple[int, int | None], RestartWish] = field(default_factory=dict)  # by slot and pid
    paused: bool = False


@dataclass(frozen=True)
class RestartWish:
    """Somebody wants this process to be replaced; once there is another in its slot, that is done."""

    pool: Pool
    slot: int
    pid: int | None
    at_once: bool = False  # one process by its pid, rather than a pool step by step


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


@dataclass(frozen=True)
class Wishes:
    """What is wanted of the processes beside the file's words: how many now, and which are to be replaced.

    A pool that is not in `counts` has the file's count. `paused` are queues.
    """

    counts: Mapping[Pool, int] = field(default_factory=dict)
    paused: Collection[str] = ()
    restarts: Collection[RestartWish] = ()


def diff_pools(
    desired: Desired, specs: Mapping[Pool, WorkerSpec], workers: Iterable[ObservedWorker], wishes: Wishes = Wishes()
) -> Iterator[Change]:
    seen: dict[Pool, list[ObservedWorker]] = {}
    for worker in workers:
        seen.setdefault(worker.pool, []).append(worker)
    restarts: dict[Pool, dict[tuple[int, int | None], RestartWish]] = {}
    for wish in wishes.restarts:
        restarts.setdefault(wish.pool, {})[wish.slot, wish.pid] = wish
    for pool, wanted in desired.pools():
        change = PoolDiffers(
            pool=pool,
            count=wishes.counts.get(pool, wanted.count),
            spec=specs[pool],
            seen=tuple(seen.pop(pool, ())),
            max_unavailable=wanted.max_unavailable,
            restarts=restarts.get(pool, {}),
            paused=pool.queue in wishes.paused,
        )
        if not is_met(change):
            yield change
    for pool, rest in seen.items():
        yield PoolDiffers(pool, 0, None, tuple(rest))


def is_met(pool: PoolDiffers) -> bool:
    """As many wanted slots as asked for, each of the present spec, none on its way out, none to be replaced."""
    kept = [w for w in pool.seen if not w.leaves]
    if pool.spec is None or not len(kept) == len(pool.seen) == pool.count:
        return False
    spec, wished = pool.spec, pool.restarts
    return all(w.digest == spec.digest and has_terms(w, spec) and (w.slot, w.pid) not in wished for w in kept)


def has_terms(worker: ObservedWorker, spec: WorkerSpec) -> bool:
    return worker.terms in (None, spec.terms)


def diff(
    desired: Desired,
    queues: Mapping[str, ObservedQueue] | None,
    owned: Mapping[str, Owned],
    specs: Mapping[Pool, WorkerSpec],
    workers: Iterable[ObservedWorker],
    wishes: Wishes = Wishes(),
) -> list[Change]:
    """All differences, queues first. `queues` is None while the broker cannot be seen: then only pools are compared."""
    changes = list(diff_queues(desired.all_queues(), queues, owned)) if queues is not None else []
    return changes + list(diff_pools(desired, specs, workers, wishes))


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
