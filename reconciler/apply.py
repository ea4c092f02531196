"""Actions → done. The only module that changes the world: the broker, the processes and the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from reconciler.errors import Permanent, ReconcilerError, Temporary
from reconciler.plan import Action, Adjust, Claim, Declare, Delete, Plan, Release, Restart, Result, Start, Stop
from state.desired import Queue
from state.ledger import Ledger, Owned
from state.processes import Pool, WorkerSpec


class Topology(Protocol):
    """The part of a broker that an action needs."""

    async def declare(self, name: str, queue: Queue) -> None: ...
    async def delete(self, name: str, *, force: bool) -> None: ...


class Processes(Protocol):
    """The part of a supervisor that an action needs. No method waits."""

    def start_worker(self, spec: WorkerSpec, slot: int) -> None: ...
    def stop_worker(self, pool: Pool, slot: int) -> None: ...
    def restart_worker(self, pool: Pool, slot: int, why: str = "") -> None: ...


@dataclass(frozen=True)
class World:
    """What actions act on. `identity` names the broker in the ledger."""

    broker: Topology
    supervisor: Processes
    ledger: Ledger
    identity: str


async def apply(plan: Plan, world: World, told: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Does the plan's actions, those of one order at once, and says how each went. Never raises for one of them."""
    unclaimed = claim_new_queues(plan, world)
    results: list[Result] = []
    for _, group in groupby(plan.actions, key=lambda action: action.order):
        results += await asyncio.gather(*(_attempt(action, world, unclaimed, told) for action in group))
    return results


def claim_new_queues(plan: Plan, world: World) -> Temporary | None:
    """Writes the ledger before the broker is told, so that a crash in between leaves no queue that nobody owns."""
    new = {a.name: Owned(a.queue.on_remove) for a in plan.actions if makes_queue(a)}  # type: ignore[union-attr]
    try:
        if new:
            world.ledger.claim(world.identity, new)
    except OSError as error:
        return ledger_failed(error)
    return None


def makes_queue(action: Action) -> bool:
    return isinstance(action, Declare) and action.claim


def ledger_failed(error: OSError) -> Temporary:
    return Temporary(f"the ledger cannot be written: {error.strerror} (free disk space or mend its folder)")


async def _attempt(action: Action, world: World, unclaimed: Temporary | None, told: Callable[[Result], None]) -> Result:
    try:
        if unclaimed and makes_queue(action):
            raise unclaimed
        await _do(action, world)
        result = Result(action)
    except ReconcilerError as error:
        result = Result(action, error)
    except OSError as error:
        result = Result(action, ledger_failed(error))
    told(result)
    return result


async def _do(action: Action, world: World) -> None:
    match action:
        case Declare(name, queue, claim):
            await _declare(name, queue, claim, world)
        case Claim(name, owned):
            world.ledger.claim(world.identity, {name: owned})
        case Start(spec, slot) | Adjust(spec, slot):
            world.supervisor.start_worker(spec, slot)
        case Stop(worker):
            world.supervisor.stop_worker(worker.pool, worker.slot)
        case Restart(wish, why):
            world.supervisor.restart_worker(wish.pool, wish.slot, why)
        case Delete(name):
            await world.broker.delete(name, force=action.force)
            world.ledger.release(world.identity, name)
        case Release(name):
            world.ledger.release(world.identity, name)


async def _declare(name: str, queue: Queue, claim: bool, world: World) -> None:
    try:
        await world.broker.declare(name, queue)
    except Permanent:
        if claim:  # somebody else's queue came in between: it is not ours
            world.ledger.release(world.identity, name)
        raise
