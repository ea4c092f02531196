"""Pools of workers: wanted × running → differences. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from state.desired import Desired
from state.processes import ObservedWorker, Pool, WorkerSpec


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


@dataclass(frozen=True)
class Wishes:
    """What is wanted of the processes beside the file's words: how many now, and which are to be replaced.

    A pool that is not in `counts` has the file's count. `paused` are queues.
    """

    counts: Mapping[Pool, int] = field(default_factory=dict)
    paused: Collection[str] = ()
    restarts: Collection[RestartWish] = ()


NO_WISHES = Wishes()


def diff_pools(
    desired: Desired, specs: Mapping[Pool, WorkerSpec], workers: Iterable[ObservedWorker], wishes: Wishes = NO_WISHES
) -> Iterator[PoolDiffers]:
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
