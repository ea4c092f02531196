"""One turn, and the loop that waits for the file, an exit, a request or the timer.

A turn reads everything, decides, acts, and says where things stand. What wakes the loop carries nothing: a lost wake
costs a delay, never a wrong state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from loguru import logger as log

from reconciler.apply import World, apply
from reconciler.broker.broker import Broker
from reconciler.diff import RestartWish
from reconciler.drift import DriftHistory
from reconciler.drifting import Drifting
from reconciler.errors import BrokerUnreachable, ReconcilerError, Temporary
from reconciler.events import Events
from reconciler.intake import SETTLE_SECONDS, InForce, Intake, Reading
from reconciler.migration import Migrations
from reconciler.pace import Pace
from reconciler.pauses import Pauses
from reconciler.plan import Plan, Result
from reconciler.planner import Decided, Planner
from reconciler.removing import leaving_behind
from reconciler.review import Confirmation, Review
from reconciler.scaler import Scaler
from reconciler.settings import Runtime
from reconciler.status import Seen, assess
from reconciler.supervisor import Supervisor
from reconciler.telling import Teller
from reconciler.trail import Happened, Trail
from reconciler.turn import Turn
from reconciler.witness import Witness
from state.desired import Desired
from state.ledger import Ledger
from state.observed import ObservedBroker
from state.processes import ObservedWorker, Pool, WorkerSpec

PATIENCE_SECONDS = 30.0  # how long a review waits for a file that cannot be judged yet: one may never be


class NotJudged(Temporary):
    """The file as it stands cannot be judged yet."""


class Loop:
    """Keeps broker and processes equal to the file. `wake` it whenever something may have changed."""

    def __init__(
        self,
        intake: Intake,
        broker: Broker,
        supervisor: Supervisor,
        ledger: Ledger,
        runtime: Runtime,
        events: Events,
        resync: float,
        pauses: Pauses | None = None,
        migrations: Migrations | None = None,
    ) -> None:
        self.intake = intake
        self.broker = broker
        self.supervisor = supervisor
        self.ledger = ledger
        self.last: Turn | None = None
        self.observer: Callable[[Turn, list[Result]], None] = lambda turn, results: None  # told of each turn that ends
        self.started = 0  # the number of the turn under way
        self.reconciled = False  # has a turn ended that saw the broker?
        self.migrations = migrations
        self.drifts = DriftHistory()
        self._teller = Teller(events)
        self._pace = Pace(resync)
        self._trail = Trail(broker.vhost)
        witness = Witness(self.drifts, broker.foreign_connections, self._trail)
        self._drifting = Drifting(ledger, events, witness)
        self._planner = Planner(broker, supervisor, ledger, runtime, self._drifting, pauses or Pauses(), migrations)
        self._triggers: list[str] = ["file"]
        self._leaving: set[str] = set()  # what an edit is just taking out of the file
        self._woken = asyncio.Event()
        self._turned = asyncio.Condition()

    @property
    def scaler(self) -> Scaler:
        """Which counts the messages, and says how many processes they ask for."""
        return self._planner.scaler

    # -- what wakes it -------------------------------------------------------------------------------------------

    def wake(self, trigger: str) -> None:
        """Asks for a turn. `trigger` is shown in the status: file, api, drift, resync, exit or sync."""
        if trigger not in self._triggers:
            self._triggers.append(trigger)
        self._woken.set()

    def hear(self, kind: str, at: float, headers: Mapping[str, Any]) -> None:
        """Takes in what the broker tells of itself; what may be drift is looked at at once."""
        if self._trail.hear(Happened(kind, at, headers)):
            self.wake("resync")

    def confirm(self, revision: str) -> None:
        """Allows the deletions of `revision` that wait for a person."""
        self._planner.confirm(revision)
        self.wake("sync")

    def confirm_plan(self, asked: Confirmation) -> None:
        """Allows what one plan holds back for a person, if the next turn still comes to that plan."""
        self._planner.confirm_plan(asked)
        self.wake("sync")

    def retry_everything(self) -> None:
        """Asks for a turn that tries again also what was given up."""
        self._planner.forget_failures()
        self._pace.broker_failures = 0
        self.wake("sync")

    def restart(self, wishes: Iterable[RestartWish]) -> None:
        """Asks for processes to be replaced, as many at a time as the plan allows."""
        self._planner.restart(wishes)
        self.wake("api")

    async def see(self, desired: Desired) -> ObservedBroker:
        """The broker as it is now. Raises BrokerUnreachable."""
        queues = desired.all_queues().keys() | self.ledger.queue_names()
        return await self.broker.observe(queues, desired.exchange_names() | self.ledger.exchange_names())

    async def until(self, reached: Callable[[Turn], bool], seconds: float) -> bool:
        """Waits for a turn of which `reached` holds, at most `seconds`. The last turn counts too."""
        if self.last is not None and reached(self.last):
            return True
        try:
            async with asyncio.timeout(seconds), self._turned:
                await self._turned.wait_for(lambda: self.last is not None and reached(self.last))
        except TimeoutError:
            return False
        return True

    # -- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            self._woken.clear()
            triggers, self._triggers = self._triggers, []
            turn = await self._turn_safely(triggers[0] if triggers else "resync")
            async with self._turned:
                self._turned.notify_all()
            ended = time.monotonic()
            await self._pause(turn)
            await self._gather(ended, turn)

    async def _turn_safely(self, trigger: str) -> Turn | None:
        started = time.monotonic()
        self.started += 1
        try:
            turn = await self.turn(trigger, started)
        except Exception as error:  # a turn that breaks must not end the loop: the next one looks again
            log.exception("this turn broke: {}", error)
            self._pace.broke()
            return None
        self.reconciled = self.reconciled or turn.broker is not None
        return turn

    async def review(self) -> tuple[Turn, Review]:
        """What a turn would do now, priced, without doing it. Waits until the file as it stands can be judged.

        Raises NotJudged if that takes too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (reading := await self.intake.read()).waiting:
            if time.monotonic() > deadline:
                raise NotJudged(f"the file cannot be judged yet: {'; '.join(reading.waiting)}")
            await asyncio.sleep(min(reading.settles_in or 0.05, SETTLE_SECONDS))
        observed, error = await self._observe(reading.in_force)
        review = await self._planner.review(reading, observed, dict(self.ledger.requests))
        return self._assessed(reading, review.broker, error, review.plan, {}, {}, review.workers), review

    async def turn(self, trigger: str, started: float) -> Turn:
        with suppress(OSError):  # the disk may be full still; what was released must not be ours after a restart
            self.ledger.save_again()
        requests = dict(self.ledger.requests)
        reading = await self.intake.read()
        planner, in_force = self._planner, reading.in_force
        if self.last is None or self.last.reading.in_force.revision != in_force.revision:
            planner.new_revision(in_force.revision)
        self._teller.news(self.last.reading if self.last else None, reading)
        planner.look(in_force.desired)
        observed, error = await self._observe(in_force)
        if observed is not None:
            self._meet(observed)
            if planner.asked is not None:
                planner.asked.answer(await planner.review(reading, observed, requests))
        decided = planner.decide(reading, observed, requests)
        if observed is not None:
            moving = [queue.queue for queue in decided.plan.under_way]
            look = decided.changes, decided.drifts, in_force.desired, decided.wanted, observed, moving
            trigger = "drift" if self._drifting.look(*look) else trigger
        await self.intake.remembered()
        results = await self._apply(decided.plan, observed)
        if observed is not None:
            self._drifting.did(results, observed)
        planner.did(results, requests)
        turn = self._finish(reading, observed, error, decided, results, trigger, started)
        self.observer(turn, results)
        self._drop_met_requests(reading, requests)
        return turn

    async def _observe(self, in_force: InForce) -> tuple[ObservedBroker | None, str | None]:
        try:
            observed = await self.see(in_force.desired)
            if leaving := leaving_behind(self.ledger.owned(observed.identity), in_force.desired.all_queues()):
                observed = await self.broker.recounted(observed, leaving)
        except BrokerUnreachable as error:
            if self._pace.broker_failures == 0:
                self._teller.broker(str(error))
            self._pace.broker_failures += 1
            return None, str(error)
        except ReconcilerError as error:
            return None, str(error)
        if self._pace.broker_failures or not self.reconciled:
            self._teller.broker(f"connected to RabbitMQ {observed.version}", well=True)
        self._pace.broker_failures = 0
        return observed, None

    def _meet(self, observed: ObservedBroker) -> None:
        """A broker of the same name that is another one: what was ours there is not ours here."""
        if (news := self.ledger.meet(observed.identity, observed.cluster)) is not None:
            self._teller.broker(news)
            self._drifting.forget(observed)
        if self.migrations is not None:
            self.migrations.follow(observed.identity)

    async def _apply(self, plan: Plan, observed: ObservedBroker | None) -> list[Result]:
        world = World(self.broker, self.supervisor, self.ledger, observed.identity if observed else "", self.migrations)
        return await apply(plan, world, self._teller.result)

    def _finish(
        self,
        reading: Reading,
        observed: ObservedBroker | None,
        error: str | None,
        decided: Decided,
        results: list[Result],
        trigger: str,
        started: float,
    ) -> Turn:
        self._pace.turned(busy=bool(results))
        self._teller.plan(decided.plan, reading)
        last = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(time.monotonic() - started, 4),
            "trigger": trigger,
            "actions": len(results),
            "error": error or next((str(r.error) for r in results if r.error), None),
        }
        workers = self.supervisor.observe() if results else decided.workers
        turn = self._assessed(reading, observed, error, decided.plan, last, decided.specs, workers)
        before, self.last = self.last, turn
        self._teller.warnings(before.status["warnings"] if before else (), self.last.status["warnings"])
        return self.last

    def _assessed(
        self,
        reading: Reading,
        observed: ObservedBroker | None,
        error: str | None,
        plan: Plan,
        last: Mapping[str, Any],
        specs: Mapping[Pool, WorkerSpec],
        workers: tuple[ObservedWorker, ...],
    ) -> Turn:
        seen = Seen(
            desired=reading.in_force.desired,
            revision=reading.in_force.revision,
            faults=tuple(map(str, reading.faults)),
            broker=observed,
            broker_error=error,
            management_error=self.broker.management_error,
            workers=workers,
            waiting=reading.waiting,
            paused=self._planner.paused(reading.in_force.desired),
            scaling=self._planner.decisions(reading.in_force.desired),
            drifts=self._drifting.standing,
            foreign=tuple(self._drifting.foreign),
            specs=specs,
        )
        return Turn(self.started, reading, plan, seen, assess(seen, plan, last, commit=None))

    def _drop_met_requests(self, reading: Reading, requests: Mapping[str, bool]) -> None:
        """A deletion asked for by name is over once the file lists the queue again, and not because it did just now."""
        if reading.current and reading.write == self.intake.writes:
            there = requests.keys() & reading.in_force.desired.all_queues().keys()
            self.ledger.drop_requests(there - self._leaving)

    @contextmanager
    def asked_to_delete(self, name: str, force: bool) -> Iterator[None]:
        """Around the edit that takes a queue out: a turn that sees it knows why, or it would forget what is kept.

        Asked for by nobody if the file does not take the edit.
        """
        known = self.ledger.requests.get(name)
        self._leaving.add(name)
        try:
            self.ledger.request(name, force)
            yield
        except BaseException:  # also when the daemon stops amid it
            with suppress(OSError):  # a turn tries again to put it on disk
                self.ledger.drop_requests({name}) if known is None else self.ledger.request(name, known)
            raise
        finally:
            self._leaving.discard(name)

    async def _pause(self, turn: Turn | None) -> None:
        next_retry = self._planner.attempts.next_retry() - time.monotonic()
        delay = self._pace.delay(turn, next_retry, time.time())
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            # A look that follows up on the turn before has that one's reason.
            follows_up = turn is not None and delay < self._pace.resync
            self._triggers.append(turn.trigger if turn and follows_up else "resync")

    async def _gather(self, ended: float, turn: Turn | None) -> None:
        """Two hundred workers that become ready one after another are not two hundred turns."""
        until = ended + self._pace.gathering(turn)
        while self._triggers == ["exit"] and (left := until - time.monotonic()) > 0:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._woken.wait()
