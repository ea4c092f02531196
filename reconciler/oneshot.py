"""`plan` and `apply` without a daemon: the broker's topology only, once, for pipelines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

import click

from reconciler.adoption import Adoptable, adoption, all_adoptable
from reconciler.apply import World, apply
from reconciler.basis import at_stake, basis_of
from reconciler.broker.broker import Broker
from reconciler.diff import diff_topology, wanted_topology
from reconciler.errors import BrokerUnreachable, ReconcilerError
from reconciler.modules import RESERVED
from reconciler.plan import Context, Plan, Result, make_plan
from reconciler.presence import known_daemon
from reconciler.reached import Reached
from reconciler.removing import leaving_behind
from reconciler.review import Confirmation, Review, in_words, unmanaged_queues
from reconciler.settings import Settings
from state.desired import Desired
from state.faults import Fault, Rejected
from state.file import DesiredFile
from state.ledger import Holdings, Ledger
from state.observed import ObservedBroker
from state.processes import Pool, WorkerSpec
from state.reader import locate, parse, revision_of

PATIENCE = 15.0  # seconds that removals may take to be seen as safe


class Faulty(click.ClickException):
    """The file has faults: each is a line of its own, as compilers do, for editors and pipelines to read."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=True)


@dataclass(frozen=True)
class Word:
    """What a person has agreed to beforehand: all deletions of a revision, or those of one plan."""

    revision: str | None = None
    allowed: frozenset[str] = frozenset()

    def covers(self, revision: str) -> bool:
        return self.revision is not None and len(self.revision) >= 8 and revision.startswith(self.revision)


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


def broker_of(settings: Settings, vhost: str | None = None) -> Broker:
    """The broker of the settings, else the embedded one of a daemon that runs. Raises ClickException.

    `vhost`: another virtual host than the URL's.
    """
    known = known_daemon(settings.state) or {}
    amqp_url = settings.amqp_url or known.get("amqp_url")
    if not amqp_url:
        raise click.ClickException("there is no broker (set AMQP_URL, or start one with reconciler run)")
    if vhost is not None:
        amqp_url = urlsplit(amqp_url)._replace(path=f"/{quote(vhost, safe='')}").geturl()
    try:
        management_url = settings.management_url or (None if settings.amqp_url else known.get("management_url"))
        return Broker(amqp_url, management_url, counts_many=False)  # what a plan could cost is counted by itself
    except ValueError as error:
        raise click.ClickException(f"AMQP_URL or MANAGEMENT_URL is not usable: {error}") from None


@dataclass(frozen=True)
class Sight:
    """What one look found: all that a plan of the topology is made from."""

    desired: Desired
    revision: str
    broker: ObservedBroker
    ledger: Ledger
    plans: dict[Word, Plan] = field(default_factory=dict, compare=False)  # that were made from it

    @property
    def ours(self) -> Holdings:
        return self.ledger.held_at(self.broker.identity, self.broker.cluster)

    def plan(self, word: Word) -> Plan:
        if word not in self.plans:
            self.plans[word] = self._plan(word)
        return self.plans[word]

    def _plan(self, word: Word) -> Plan:
        ours = self.ours
        changes = list(diff_topology(self.desired, self.broker, ours))
        drifts = self._reached().drifted(changes, self.desired)
        context = Context(
            owned=ours.entries,
            confirmed=word.covers(self.revision),
            requests=self.ledger.requests,
            allowed=word.allowed,
            ours=ours.queues.keys(),
            holdings=ours,
            drifts=drifts,
        )
        return make_plan(changes, context)

    def _reached(self) -> Reached:
        return Reached(self.ledger.reached.get(self.broker.identity))

    def remember(self) -> None:
        """Notes what is as the file says, where the file wants drift reported: the next look then knows it."""
        changes, reached = list(diff_topology(self.desired, self.broker, self.ours)), self._reached()
        wanted = wanted_topology(self.desired, self.broker, self.ours)
        reached.look(changes, reached.drifted(changes, self.desired), self.desired, wanted)
        self.ledger.remember_reached(self.broker.identity, reached.kept)

    def review(self, word: Word = Word()) -> Review:
        plan, ours = self.plan(word), self.ours
        basis = basis_of(self.revision, self.desired, plan, self.broker, ours, self.ledger.requests)
        unmanaged = unmanaged_queues(self.broker, {**self.desired.all_queues(), **self.ours.queues})
        return Review(plan, basis, self.revision, self.broker, unmanaged)


async def look(settings: Settings, broker: Broker, ledger: Ledger) -> Sight:
    """The topology as it is wanted and as it is, with live counts of all messages that a plan could cost."""
    desired, revision = read_file(settings.file, settings.workers)
    names = desired.all_queues().keys() | ledger.queue_names()
    exchanges = desired.exchange_names() | ledger.exchange_names()
    try:
        sight = Sight(desired, revision, await broker.observe(names, exchanges), ledger)
        staked = {*at_stake(sight.plan(Word())), *leaving_behind(sight.ours.queues, desired.all_queues())}
        return replace(sight, broker=await broker.recounted(sight.broker, staked), plans={}) if staked else sight
    except BrokerUnreachable as error:
        raise click.ClickException(str(error)) from None


def plan_once(settings: Settings) -> Review:
    async def once() -> Review:
        broker = broker_of(settings)
        try:
            sight = await look(settings, broker, Ledger.peek(settings.state / "ledger.json"))
            return sight.review()
        finally:
            await broker.close()

    return asyncio.run(once())


def apply_once(
    settings: Settings,
    confirmed: str | None,
    asked: Confirmation | None,
    agreed: Callable[[Review], None],
    told: Callable[[Result], None],
) -> Review:
    """Brings the topology in line; returns what is left to do. `agreed` raises if a person says no to the plan."""

    async def once() -> Review:
        broker, ledger = broker_of(settings), Ledger.load(settings.state / "ledger.json")
        try:
            word, sight = Word(confirmed), await look(settings, broker, ledger)
            ledger.meet(sight.broker.identity, sight.broker.cluster)
            if asked is not None:
                word = replace(word, allowed=taken(asked, sight.review(word)))
            review = sight.review(word)
            agreed(review)
            deadline = time.monotonic() + PATIENCE
            while review.plan.actions and time.monotonic() < deadline:
                world = World(broker, NoProcesses(), ledger, sight.broker.identity)
                results = await apply(review.plan, world, told)
                before, sight = sight.revision, await look(settings, broker, ledger)
                if sight.revision != before:  # nobody has agreed to what it says now
                    raise click.ClickException("the file was changed meanwhile (look at the new plan: reconciler plan)")
                review = sight.review(word)
                if all(r.error for r in results):
                    await asyncio.sleep(1)
            sight.remember()
            return review
        finally:
            await broker.close()

    return asyncio.run(once())


def taken(asked: Confirmation, review: Review) -> frozenset[str]:
    """The deletions that the confirmation of a plan allows. Raises ClickException if it was of another world."""
    asked.answer(review)
    if asked.moved:
        raise click.ClickException(in_words(asked.moved))
    return asked.allowed


def adopt_once(settings: Settings, asked: Sequence[tuple[Adoptable, str]] | None) -> list[tuple[str, str | None]]:
    """Takes ownership without a daemon; for each what came of it, or what is wrong. None: of all that can be adopted.

    The caller holds the lock on the state folder. Raises ClickException, OSError.
    """

    async def seen() -> Sight:
        broker = broker_of(settings)
        try:
            return await look(settings, broker, Ledger.load(settings.state / "ledger.json"))
        finally:
            await broker.close()

    sight = asyncio.run(seen())
    identity, said = sight.broker.identity, list[tuple[str, str | None]]()
    held = sight.ledger.holdings(identity)
    for kind, name in asked if asked is not None else all_adoptable(sight.desired, sight.broker, held):
        try:
            found = adoption(kind, name, sight.desired, sight.broker, sight.ledger.holdings(identity))
            sight.ledger.claim_all(identity, found.new)
            said.append((found.message, None))
        except ReconcilerError as error:
            said.append(("", str(error)))
    return said or [("there is nothing to adopt: all that the file lists is ours, or not there yet", None)]


class NoProcesses:
    """Workers are the daemon's: a one-shot plan has no action for them."""

    def start_worker(self, spec: WorkerSpec, slot: int) -> None:
        raise AssertionError("a topology plan starts no workers")

    def stop_worker(self, pool: Pool, slot: int) -> None:
        raise AssertionError("a topology plan stops no workers")

    def restart_worker(self, pool: Pool, slot: int, why: str = "") -> None:
        raise AssertionError("a topology plan restarts no workers")
