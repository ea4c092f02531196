"""The simulation of docs/performance.md: no message is lost in it, KEDA's rule is KEDA's, and what it shows holds."""

from __future__ import annotations

import random

from bench.autoscale.loads import Load, bursty, poisoned, steady
from bench.autoscale.rules import Keda, rules
from bench.autoscale.site import Outcome, Site, Workers
from state.autoscale import Policy

POLICY = Policy(min=0, max=50, backlog=100)


def run(load: Load, seed: int = 1) -> dict[str, Outcome]:
    return {r.name: Site(load, r, Workers(), random.Random(seed)).run() for r in rules(POLICY, phase=0.4)}


def keda(**changed: float) -> Keda:
    told = {"poll": 30.0, "cooldown": 300.0, "window": 300.0, "phase": 0.0, **changed}
    return Keda(POLICY, name="KEDA", **told)


def test_every_message_is_worked_off_and_the_same_seed_gives_the_same_numbers() -> None:
    load = steady(random.Random(3))
    outcomes = run(load)
    for outcome in outcomes.values():
        assert sum(count for _, count in outcome.waits) == sum(load.arrivals)
        assert len(outcome.drains) == len(load.surges)
    assert run(load) == outcomes


def test_failed_messages_come_back_as_often_as_they_fail() -> None:
    load = poisoned(random.Random(3))
    (ours, *_) = run(load).values()
    assert sum(count for _, count in ours.waits) == sum(load.arrivals)
    assert max(seconds for seconds, _ in ours.waits) >= load.attempts * load.delay


def test_a_burst_is_drained_in_half_the_time_for_no_more_changes() -> None:
    outcomes = run(bursty(random.Random(3)))
    ours, theirs = outcomes["ours"], outcomes["KEDA"]
    assert sum(ours.drains) * 2 < sum(theirs.drains)
    assert ours.changes <= theirs.changes + 6


def test_keda_wakes_at_its_next_poll_and_the_autoscaler_at_most_doubles_or_adds_four() -> None:
    rule, count, counts = keda(), 0, []
    for second in range(100):
        count = rule.count(float(second), 5000 if second else 0, 0, count)
        counts.append(count)
    assert counts[:30] == [0] * 30
    assert counts[30:75:15] == [5, 10, 20]  # one at the poll, and the autoscaler's round in the same second


def test_keda_keeps_what_is_within_tolerance_and_what_the_window_asked_for() -> None:
    rule = keda()
    assert rule.count(0.0, 800, 0, 8) == 8
    assert rule.count(15.0, 870, 0, 8) == 8
    assert rule.count(30.0, 100, 0, 8) == 8, "eight were asked for less than 300 s ago"
    assert rule.count(345.0, 100, 0, 8) == 1
    assert rule.count(360.0, 0, 0, 1) == 1
    assert rule.count(700.0, 0, 0, 1) == 0, "inactive for longer than its cooldown"
