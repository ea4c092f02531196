"""What was read, and what people have allowed and asked for → the plan of this turn. It acts on nothing.

What it remembers between turns is what a plan depends on beside file, ledger, broker and processes: consent, wishes,
what failed before, and how many processes the messages ask for.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.attempts import Attempts
from reconciler.autoscale import Decision
from reconciler.basis import at_stake, basis_of
from reconciler.broker.broker import Broker
from reconciler.diff import (
    BindingUnwanted,
    Change,
    ExchangeUnwanted,
    Gone,
    PolicyUnwanted,
    PoolDiffers,
    QueueDiffers,
    QueueUnwanted,
    RestartWish,
    Wanted,
    Wishes,
    diff,
    wanted_topology,
)
from reconciler.drifting import Drifting
from reconciler.intake import InForce, Reading
from reconciler.migration import Migrations
from reconciler.pauses import Pauses
from reconciler.plan import Context, Declare, Delete, Plan, Restart, Result, make_plan, queue_of
from reconciler.reached import Drifted
from reconciler.review import Confirmation, Review, unmanaged_queues
from reconciler.scaler import Scaler
from reconciler.settings import Runtime
from reconciler.spec import specs_of
from reconciler.supervisor import Supervisor
from reconciler.window import Window
from state.desired import Desired
from state.ledger import Holdings, Ledger
from state.observed import ObservedBroker
from state.processes import ObservedWorker, Pool, WorkerSpec

TAKES_AWAY = (QueueUnwanted, ExchangeUnwanted, BindingUnwanted, PolicyUnwanted, Gone)
Requests = Mapping[str, bool]  # deletions asked for by name, and whether with their messages


@dataclass(frozen=True)
class Decided:
    """What one look came to."""

    plan: Plan
    changes: Sequence[Change]
    drifts: Sequence[Drifted]
    wanted: Wanted
    specs: Mapping[Pool, WorkerSpec]
    workers: tuple[ObservedWorker, ...]


class Planner:
    """`decide` may be asked as often as one likes; what is remembered changes only in the other methods."""

    def __init__(
        self,
        broker: Broker,
        supervisor: Supervisor,
        ledger: Ledger,
        runtime: Runtime,
        drifting: Drifting,
        pauses: Pauses,
        migrations: Migrations | None,
    ) -> None:
        self.scaler = Scaler()
        self.attempts = Attempts()
        self.migrations = migrations
        self.asked: Confirmation | None = None  # the plan that somebody confirmed last, of this revision
        self._broker = broker
        self._supervisor = supervisor
        self._ledger = ledger
        self._runtime = runtime
        self._drifting = drifting
        self._pauses = pauses
        self._window = Window()
        self._restarts: frozenset[RestartWish] = frozenset()  # asked for, and not begun yet
        self._confirmed: str | None = None

    # -- what people say -----------------------------------------------------------------------------------------

    def confirm(self, revision: str) -> None:
        """Allows the deletions of `revision` that wait for a person."""
        self._confirmed = revision
        self.forget_failures()

    def confirm_plan(self, asked: Confirmation) -> None:
        """Allows what one plan holds back for a person, if the next turn still comes to that plan."""
        self.asked = asked
        self.forget_failures()

    def restart(self, wishes: Iterable[RestartWish]) -> None:
        """Asks for processes to be replaced, as many at a time as the plan allows."""
        self._restarts |= frozenset(wishes)

    def forget_failures(self) -> None:
        """What failed, or was given up, is tried again."""
        self.attempts.forget()
        if self.migrations is not None:
            self.migrations.try_again()

    # -- what happens --------------------------------------------------------------------------------------------

    def new_revision(self, revision: str) -> None:
        """Another file is in force: what was allowed for the one before is not for this one."""
        self.forget_failures()
        self._window.new_revision(time.monotonic())
        if self._confirmed != revision:
            self.asked = None
            self._confirmed = None  # or going back to that revision some day would delete without asking

    def look(self, desired: Desired) -> None:
        """Takes in what the file and the processes say now."""
        now = time.time()
        self._pauses.look(desired.paused(now), now)
        self._drop_met_restarts()
        scaling = desired.scaling()
        self.scaler.follow(scaling, self._supervisor.observe() if scaling else ())

    def did(self, results: Sequence[Result], requests: Requests) -> None:
        """The plan was acted on."""
        now = time.monotonic()
        self.attempts.record(results, now)
        done = [result.action for result in results if result.error is None]
        self._restarts -= {action.wish for action in done if isinstance(action, Restart)}
        self._window.made((a.name for a in done if isinstance(a, Declare) and a.claim), now)
        self._window.deleted((a.name for a in done if isinstance(a, Delete) and a.name not in requests), now)

    def _drop_met_restarts(self) -> None:
        """A process that is gone, or on its way out, need not be replaced any more."""
        if not self._restarts:
            return
        there = {(w.pool, w.slot, w.pid) for w in self._supervisor.observe() if not w.leaves}
        self._restarts = frozenset(w for w in self._restarts if (w.pool, w.slot, w.pid) in there)

    # -- what follows from it ------------------------------------------------------------------------------------

    def decide(self, reading: Reading, observed: ObservedBroker | None, requests: Requests) -> Decided:
        """The plan, and what it was made of."""
        in_force = reading.in_force
        ours = self._holdings(observed)
        wanted = wanted_topology(in_force.desired, observed, ours) if observed else Wanted()
        specs = specs_of(in_force.desired, self._runtime, in_force.code)
        workers = self._supervisor.observe()
        wishes = self._wishes(in_force.desired, observed)
        changes = diff(in_force.desired, observed, ours, specs, workers, wishes, wanted)
        changes = changes if in_force.judged else [change for change in changes if may_be_done(change, reading)]
        under_way = self._under_way(observed)
        changes = [change for change in changes if queue_of(change) not in under_way]
        drifts = self._drifting.among(changes, in_force.desired, observed)
        plan = make_plan(changes, self._context(in_force, ours, under_way, drifts, requests))
        return Decided(self.attempts.holding_back(plan, time.monotonic()), changes, drifts, wanted, specs, workers)

    async def review(self, reading: Reading, observed: ObservedBroker | None, requests: Requests) -> Review:
        """A plan with live counts of all messages that it could cost."""
        plan, in_force = self.decide(reading, observed, requests).plan, reading.in_force
        if observed is not None and (staked := at_stake(plan)):
            observed = await self._broker.recounted(observed, staked)
            plan = self.decide(reading, observed, requests).plan
        ours = self._holdings(observed)
        basis = basis_of(in_force.revision, in_force.desired, plan, observed, ours, requests)
        beside = dict.fromkeys(self.migrations.made()) if self.migrations else {}
        unmanaged = unmanaged_queues(observed, {**in_force.desired.all_queues(), **ours.queues, **beside})
        return Review(plan, basis, in_force.revision, observed, unmanaged, self._supervisor.observe())

    def decisions(self, desired: Desired) -> dict[Pool, Decision]:
        """How many processes the messages ask for, and why."""
        scaling = desired.scaling()
        return self.scaler.decide(scaling, self._supervisor.observe()) if scaling else {}

    def paused(self, desired: Desired) -> dict[str, float]:
        """The queues that are paused now, and since when."""
        now = time.time()
        return {name: self._pauses.since.get(name, now) for name in desired.paused(now)}

    def _context(
        self,
        in_force: InForce,
        ours: Holdings,
        under_way: Mapping[str, str],
        drifts: Sequence[Drifted],
        requests: Requests,
    ) -> Context:
        return Context(
            owned=ours.entries,
            confirmed=self._confirmed == in_force.revision,
            allowed=self.asked.allowed if self.asked else frozenset(),
            requests=requests,
            recent=self._window.recent,
            ours=ours.queues.keys(),
            under_way=under_way,
            gave_up=self.migrations.gave_up() if self.migrations else {},
            holdings=ours,
            drifts=drifts,
        )

    def _holdings(self, observed: ObservedBroker | None) -> Holdings:
        return self._ledger.holdings(observed.identity) if observed else Holdings()

    def _wishes(self, desired: Desired, observed: ObservedBroker | None) -> Wishes:
        still, now = self._standing_still(observed), time.time()
        return Wishes(self._counts(desired, now, still), {*desired.paused(now), *still}, self._restarts)

    def _counts(self, desired: Desired, now: float, still: Collection[str]) -> dict[Pool, int]:
        """How many processes of each pool are wanted now: the file's count, or what its messages ask for."""
        counts, paused = desired.counts(now), desired.paused(now)
        decisions = self.decisions(desired)
        counts |= {pool: d.count for pool, d in decisions.items() if pool.queue not in paused}
        return counts | {pool: 0 for pool in counts if pool.queue in still}

    def _under_way(self, observed: ObservedBroker | None) -> Mapping[str, str]:
        """The queues that are being migrated, and where each is."""
        if self.migrations is None:
            return {}
        return self.migrations.under_way(observed.identity if observed else None)

    def _standing_still(self, observed: ObservedBroker | None) -> Collection[str]:
        """The queues whose workers stand still because they are migrated."""
        if self.migrations is None:
            return ()
        return self.migrations.standing_still(observed.identity if observed else None)


def may_be_done(change: Change, reading: Reading) -> bool:
    """While what is in force is only recalled: is the change right also if the memory is older than the world?

    It may be: the disk was full, or `apply` and `adopt` have worked without a daemon. So it takes nothing away, and it
    leaves the broker alone while the file may still be judged. Without a memory nobody knows what is wanted.
    """
    if not reading.in_force.data:
        return False
    if isinstance(change, PoolDiffers):
        return change.spec is not None
    if isinstance(change, QueueDiffers) and change.queue.on_change != "refuse":
        return False
    return bool(reading.faults) and not isinstance(change, TAKES_AWAY)
