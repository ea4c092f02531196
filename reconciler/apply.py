"""Actions → done. The only module that changes the world: the broker, the processes and the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from reconciler.actions import (
    Action,
    Adjust,
    Bind,
    Claim,
    ClaimExchange,
    Declare,
    DeclareExchange,
    Delete,
    DeleteExchange,
    DeletePolicy,
    Drop,
    Migrate,
    Release,
    Restart,
    Result,
    SetPolicy,
    Start,
    Stop,
    Unbind,
)
from reconciler.errors import Permanent, ReconcilerError, Temporary
from reconciler.plan import Plan
from state.desired import Exchange, PolicyRule, Queue
from state.ledger import Holdings, Ledger, Owned
from state.observed import ObservedBinding
from state.processes import Pool, WorkerSpec


class Topology(Protocol):
    """The part of a broker that an action needs.

    Each method is idempotent: making what is there as asked, or removing what is gone, is done already. Raises Refused
    for what the broker will not have (the message says what and, for a declaration, both values), StillInUse for what
    is not removed now, BrokerUnreachable, Temporary.
    """

    async def declare(self, name: str, queue: Queue) -> None: ...
    async def delete(self, name: str, *, force: bool) -> None: ...

    async def declare_exchange(self, name: str, exchange: Exchange) -> None:
        """Refused also for a type that the broker does not know (which closes an AMQP connection)."""

    async def delete_exchange(self, name: str) -> None:
        """StillInUse while anything is bound to it as its source."""

    async def bind(self, binding: ObservedBinding) -> None:
        """NoSuchExchange, with its name, while the exchange or the destination is not there."""

    async def unbind(self, binding: ObservedBinding) -> None: ...

    async def set_policy(self, name: str, rule: PolicyRule) -> None:
        """Refused for a definition that the broker does not take, Temporary where the management API is missing."""

    async def delete_policy(self, name: str) -> None: ...


class Processes(Protocol):
    """The part of a supervisor that an action needs. No method waits."""

    def start_worker(self, spec: WorkerSpec, slot: int) -> None: ...
    def stop_worker(self, pool: Pool, slot: int) -> None: ...
    def restart_worker(self, pool: Pool, slot: int, why: str = "") -> None: ...


class Migrations(Protocol):
    """Sees migrations through, each on its own."""

    def begin(self, action: Migrate, broker: str) -> None: ...


@dataclass(frozen=True)
class World:
    """What actions act on. `identity` names the broker in the ledger."""

    broker: Topology
    supervisor: Processes
    ledger: Ledger
    identity: str
    migrations: Migrations | None = None  # None: there is nobody to see them through


async def apply(plan: Plan, world: World, told: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Does the plan's actions, those of one order at once, and says how each went. Never raises for one of them."""
    unclaimed = claim_new(plan, world)
    results: list[Result] = []
    for _, group in groupby(plan.actions, key=lambda action: action.order):
        unbound = {r.action.binding.destination for r in results if isinstance(r.action, Bind) and r.error}
        results += await asyncio.gather(*(_attempt(action, world, unclaimed, unbound, told) for action in group))
    return results


def claim_new(plan: Plan, world: World) -> Temporary | None:
    """Writes the ledger before the broker is told, so that a crash in between leaves nothing that nobody owns."""
    new = Holdings()
    for action in plan.actions:
        match action:
            case Declare(name, queue, claim=True):
                new.queues[name] = Owned.as_wanted(queue)
            case DeclareExchange(name, exchange, claim=True):
                new.exchanges[name] = Owned(exchange.on_remove)
            case Bind(binding, claim=True):
                new.bindings.add(binding.key)
            case SetPolicy(name, claim=True):
                new.policies.add(name)
    try:
        if new:
            world.ledger.claim_all(world.identity, new)
    except OSError as error:
        return ledger_failed(error)
    return None


def makes_something(action: Action) -> bool:
    return isinstance(action, Declare | DeclareExchange | Bind | SetPolicy) and action.claim


def ledger_failed(error: OSError) -> Temporary:
    return Temporary(f"the ledger cannot be written: {error.strerror} (free disk space or mend its folder)")


async def _attempt(
    action: Action, world: World, unclaimed: Temporary | None, unbound: set[str], told: Callable[[Result], None]
) -> Result:
    try:
        if unclaimed and makes_something(action):
            raise unclaimed
        if isinstance(action, Unbind) and action.binding.destination in unbound:
            raise Temporary("a new binding of it could not be made, so the old one stays (messages would get lost)")
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
        case Start(spec, slot) | Adjust(spec, slot):
            world.supervisor.start_worker(spec, slot)
        case Stop(worker):
            world.supervisor.stop_worker(worker.pool, worker.slot)
        case Restart(wish, why):
            world.supervisor.restart_worker(wish.pool, wish.slot, why)
        case Claim(name, owned):
            world.ledger.claim(world.identity, {name: owned})
        case Migrate():
            migrate(action, world)
        case ClaimExchange(name, owned):
            world.ledger.claim_all(world.identity, Holdings(exchanges={name: owned}))
        case Release(name):
            world.ledger.release(world.identity, name)
        case Drop(held):
            world.ledger.release_all(world.identity, held)
        case _:
            await _change_broker(action, world)


async def _change_broker(action: Action, world: World) -> None:
    broker, ledger = world.broker, world.ledger
    match action:
        case Declare(name, queue, claim):
            await _declare(broker.declare(name, queue), Holdings(queues={name: Owned()}), claim, world)
        case DeclareExchange(name, exchange, claim):
            await _declare(broker.declare_exchange(name, exchange), Holdings(exchanges={name: Owned()}), claim, world)
        case Bind(binding):
            await broker.bind(binding)
        case SetPolicy(name, rule):
            await broker.set_policy(name, rule)
        case Unbind(binding):
            await broker.unbind(binding)
            ledger.release_all(world.identity, Holdings(bindings={binding.key}))
        case Delete(name):
            await broker.delete(name, force=action.force)
            ledger.release(world.identity, name)
        case DeleteExchange(name):
            await broker.delete_exchange(name)
            ledger.release_all(world.identity, Holdings(exchanges={name: Owned()}))
        case DeletePolicy(name):
            await broker.delete_policy(name)
            ledger.release_all(world.identity, Holdings(policies={name}))


async def _declare(declaring: Awaitable[None], made: Holdings, claim: bool, world: World) -> None:
    try:
        await declaring
    except Permanent:
        if claim:  # somebody else's came in between: it is not ours
            world.ledger.release_all(world.identity, made)
        raise


def migrate(action: Migrate, world: World) -> None:
    if world.migrations is None:
        raise Permanent(f"{action} is for a daemon, which pauses its workers meanwhile (reconciler run)")
    world.migrations.begin(action, world.identity)
