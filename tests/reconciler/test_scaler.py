"""The numbers between turns: what a daemon begins with, what it forgets, and what it says of them in the status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reconciler.autoscale import Decision
from reconciler.plan import Plan
from reconciler.scaler import Depth, Scaler
from reconciler.status import Seen, assess, with_reasons
from state.autoscale import Policy
from state.observed import ObservedBroker
from state.processes import ObservedWorker, Pool
from tests.reconciler.support import POOL, desired, there, worker

POLICY = Policy(min=0, max=10, backlog=10, cooldown=60, window=60)
FILE = desired(q={"workers": {"w": {"autoscale": {"max": 10, "backlog": 10}}, "fixed": 1}})


class Day:
    """A scaler, and a clock that is set by hand."""

    def __init__(self, *workers: ObservedWorker) -> None:
        self.now = 1000.0
        self.workers = workers
        self.scaler = Scaler(lambda: self.now)
        self.follow()

    def follow(self, policy: Policy = POLICY) -> None:
        self.scaler.follow({POOL: policy}, self.workers)

    def look(self, ready: int | None, unacknowledged: int | None = 0) -> Iterable[Pool]:
        depth = None if ready is None else Depth(ready, unacknowledged)
        return self.scaler.look({POOL.queue: depth}, self.workers)

    @property
    def number(self) -> int:
        return self.scaler.decisions[POOL].count


def test_it_begins_with_the_processes_that_are_there() -> None:
    found = Day(worker(0), worker(1, "backoff"), worker(2, "stopping"), worker(3, pool=Pool("q", "other")))
    assert found.scaler.decisions[POOL] == Decision(2, "metric missing: kept 2")
    assert not found.look(0)
    assert found.number == 2, "an empty queue is no reason yet: nothing is known of before"


def test_only_a_number_that_changes_is_news() -> None:
    day = Day()
    assert list(day.look(35)) == [POOL]
    assert day.number == 4
    assert not day.look(36)


def test_a_change_of_the_file_takes_effect_at_once_and_keeps_what_was_seen() -> None:
    day = Day()
    day.look(35)
    day.follow(replace(POLICY, max=3))
    assert day.number == 3
    day.follow(replace(POLICY, backlog=5))
    assert day.number == 7


def test_busy_workers_hold_messages_whatever_the_statistics_say() -> None:
    policy = replace(POLICY, backlog=1, cooldown=0, window=0)
    day = Day(worker(0, busy=True), worker(1, busy=True), worker(2))
    day.follow(policy)
    for unacknowledged in (None, 0):
        day.now += 10
        day.look(0, unacknowledged)
        assert day.number == 2


def test_it_is_still_while_there_is_nothing_to_follow() -> None:
    scaler = Scaler(lambda: 0.0)
    assert not scaler.wanted.is_set()
    scaler.follow({POOL: POLICY}, ())
    assert scaler.wanted.is_set()
    scaler.follow({}, ())
    assert not scaler.wanted.is_set()
    assert not scaler.decisions


def test_what_it_was_before_is_forgotten_when_it_ends() -> None:
    day = Day()
    day.look(99)
    day.scaler.follow({}, ())
    day.follow()
    assert day.scaler.decisions[POOL] == Decision(0, "metric missing: kept 0")


def test_the_status_shows_number_reason_and_bounds() -> None:
    decisions = {POOL: Decision(4, "backlog 35 / 10")}
    broker = ObservedBroker("b", "4", True, {"q": there("q", ready=35)})
    seen = Seen(FILE, "rev", (), broker, None, None, (worker(0),), scaling=decisions)
    status = assess(seen, Plan(), {}, commit=None)
    pools = status["queues"]["q"]["workers"]
    known = {"count": 4, "reason": "backlog 35 / 10", "min": 0, "max": 10}
    assert pools["w"] == {"desired": 4, "ready": 1, "restarts": 0, "autoscale": known}
    assert "autoscale" not in pools["fixed"]

    fresh = with_reasons(status, {POOL: Decision(4, "backlog 38 / 10")})
    assert fresh["queues"]["q"]["workers"]["w"]["autoscale"] == known | {"reason": "backlog 38 / 10"}
    assert pools["w"]["autoscale"] == known, "the turn's own status stays as it was"
    other = with_reasons(status, {POOL: Decision(9, "backlog 90 / 10"), Pool("gone", "w"): Decision(1, "")})
    assert other == status, "a number that no turn has acted upon is not shown"
