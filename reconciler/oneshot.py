"""`plan` and `apply` without a daemon: the broker's topology only, once, for pipelines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from reconciler.apply import World, apply
from reconciler.broker.broker import Broker
from reconciler.diff import diff_queues
from reconciler.errors import BrokerUnreachable
from reconciler.modules import RESERVED
from reconciler.plan import Context, Plan, Result, make_plan
from reconciler.presence import known_daemon
from reconciler.settings import Settings
from state.desired import Desired
from state.faults import Fault, Rejected
from state.file import DesiredFile
from state.ledger import Ledger
from state.observed import ObservedBroker
from state.processes import Pool, WorkerSpec
from state.reader import locate, parse, revision_of

PATIENCE = 15.0  # seconds that removals may take to be seen as safe


class Faulty(click.ClickException):
    """The file has faults: each is a line of its own, as compilers do, for editors and pipelines to read."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=True)


@dataclass(frozen=True)
class Shot:
    """What one look found and decided."""

    revision: str
    observed: ObservedBroker
    plan: Plan


def read_file(path: Path, workers: Path, name: str | None = None) -> tuple[Desired, str]:
    """The file and its revision. Raises Faulty with every fault; imports nothing. `name`: what faults call it."""
    name = name or path.name
    snapshot = DesiredFile(path).snapshot()
    if snapshot.data is None:
        raise Faulty(f"{name}:1:1: {snapshot.error}")
    try:
        desired = parse(snapshot.data, name)
        if faults := missing_modules(desired, snapshot.data, name, workers):
            raise Rejected(faults)
    except Rejected as rejected:
        raise Faulty(str(rejected)) from None
    return desired, revision_of(snapshot.data)


def missing_modules(desired: Desired, data: bytes, name: str, folder: Path) -> list[Fault]:
    found = []
    for pool, worker in desired.pools():
        file = folder / f"{pool.worker}.py"
        if worker.command is None and (pool.worker in RESERVED or not file.is_file()):
            path = ("queues", pool.queue, "workers", pool.worker, "[key]")
            found.append(locate(data, path, f"there is no worker module {file} (make it, or give a command)", name))
    return found


def broker_of(settings: Settings) -> Broker:
    """The broker of the settings, else the embedded one of a daemon that runs. Raises ClickException."""
    known = known_daemon(settings.state) or {}
    amqp_url = settings.amqp_url or known.get("amqp_url")
    if not amqp_url:
        raise click.ClickException("there is no broker (set AMQP_URL, or start one with reconciler run)")
    try:
        return Broker(amqp_url, settings.management_url or (None if settings.amqp_url else known.get("management_url")))
    except ValueError as error:
        raise click.ClickException(f"AMQP_URL or MANAGEMENT_URL is not usable: {error}") from None


async def look(settings: Settings, broker: Broker, ledger: Ledger, confirmed: str | None) -> Shot:
    """What would be done to the topology. Touches nothing."""
    desired, revision = read_file(settings.file, settings.workers)
    names = {*desired.all_queues(), *(name for held in ledger.brokers.values() for name in held.queues)}
    try:
        observed = await broker.observe(names)
    except BrokerUnreachable as error:
        raise click.ClickException(str(error)) from None
    owned = ledger.owned(observed.identity)
    is_confirmed = confirmed is not None and len(confirmed) >= 8 and revision.startswith(confirmed)
    context = Context(owned=len(owned), confirmed=is_confirmed, requests=ledger.requests)
    changes = diff_queues(desired.all_queues(), observed.queues, owned)
    return Shot(revision, observed, make_plan(changes, context))


def plan_once(settings: Settings) -> Shot:
    async def once() -> Shot:
        broker = broker_of(settings)
        try:
            return await look(settings, broker, Ledger.peek(settings.state / "ledger.json"), None)
        finally:
            await broker.close()

    return asyncio.run(once())


def apply_once(
    settings: Settings, confirmed: str | None, agreed: Callable[[Shot], None], told: Callable[[Result], None]
) -> Shot:
    """Brings the topology in line; returns what is left to do. `agreed` raises if a person says no to the plan."""

    async def once() -> Shot:
        broker, ledger = broker_of(settings), Ledger.load(settings.state / "ledger.json")
        try:
            shot = await look(settings, broker, ledger, confirmed)
            agreed(shot)
            deadline = time.monotonic() + PATIENCE
            while shot.plan.actions and time.monotonic() < deadline:
                results = await apply(shot.plan, World(broker, NoProcesses(), ledger, shot.observed.identity), told)
                shot = await look(settings, broker, ledger, confirmed)
                if all(r.error for r in results):
                    await asyncio.sleep(1)
            return shot
        finally:
            await broker.close()

    return asyncio.run(once())


class NoProcesses:
    """Workers are the daemon's: a one-shot plan has no action for them."""

    def start_worker(self, spec: WorkerSpec, slot: int) -> None:
        raise AssertionError("a topology plan starts no workers")

    def stop_worker(self, pool: Pool, slot: int) -> None:
        raise AssertionError("a topology plan stops no workers")

    def restart_worker(self, pool: Pool, slot: int, why: str = "") -> None:
        raise AssertionError("a topology plan restarts no workers")
