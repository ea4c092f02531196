"""What failed is tried again when its time has come, and holds up nothing else meanwhile."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.actions import Action, Bind, DeclareExchange, SetPolicy, Unbind
from reconciler.apply import Result
from reconciler.attempts import Attempts
from reconciler.backoff import backoff
from reconciler.errors import ReconcilerError, Refused, StillInUse, Temporary
from reconciler.plan import Declare, Delete, Held, Plan
from state.desired import Exchange, PolicyRule, Queue
from state.observed import ObservedBinding

ONE, OTHER = Declare("one", Queue(), True), Declare("other", Queue(), True)
GONE = Delete("gone", "classic", False, 7)


def after(*failures: ReconcilerError, action: Declare | Delete = ONE) -> Attempts:
    """An action that failed with each of these, one at a time, all at the time 0."""
    attempts = Attempts()
    for failure in failures:
        attempts.record([Result(action, failure)], now=0.0)
    return attempts


def test_what_never_failed_is_due() -> None:
    plan = Plan((ONE, OTHER))
    assert Attempts().holding_back(plan, 0.0) == plan
    assert Attempts().next_retry() == math.inf


def test_what_failed_is_held_with_its_reason_and_the_rest_goes_on() -> None:
    plan = after(Temporary("no luck")).holding_back(Plan((ONE, OTHER)), 0.1)
    assert plan.actions == (OTHER,)
    assert plan.held == (Held("one", "create classic queue one: no luck"),)


def test_a_deletion_that_failed_says_how_many_messages_it_is_about() -> None:
    plan = after(StillInUse("7 in it"), action=GONE).holding_back(Plan((GONE,)), 0.1)
    assert plan.held == (Held("gone", "delete queue gone: 7 in it", 7),)


def test_an_old_binding_is_held_with_the_new_one_that_failed_and_others_go() -> None:
    new, old = ObservedBinding("e", "q", routing_key="new"), ObservedBinding("e", "q", routing_key="old")
    elsewhere = Unbind(ObservedBinding("e", "other"))
    attempts = Attempts()
    attempts.record([Result(Bind(new, True), Temporary("no luck"))], now=0.0)
    plan = attempts.holding_back(Plan((Bind(new, True), Unbind(old), elsewhere)), 0.1)
    assert plan.actions == (elsewhere,)
    assert [held.queue for held in plan.held] == ["q", "q"]
    assert "not before the new binding is there" in plan.held[1].reason


@pytest.mark.parametrize(
    ("action", "name"),
    [
        (DeclareExchange("e", Exchange(), True), "exchange e"),
        (SetPolicy("p", PolicyRule(pattern="", definition={"max-length": 1}), True), "policy p"),
        (SetPolicy("reconciler.q", PolicyRule(pattern="", definition={"max-length": 1}), True, ("q",)), "q"),
        (Bind(ObservedBinding("e", "x", "exchange"), True), "exchange x"),
    ],
)
def test_what_is_held_is_called_by_what_it_is_about(action: Action, name: str) -> None:
    attempts = Attempts()
    attempts.record([Result(action, Temporary("no luck"))], now=0.0)
    (held,) = attempts.holding_back(Plan((action,)), 0.1).held
    assert held.name == name


def test_what_failed_for_now_is_due_again_later_and_later() -> None:
    waits = [after(*[Temporary()] * count).next_retry() for count in range(1, 12)]
    assert 0.75 <= waits[0] <= 1.25
    assert all(later > sooner for sooner, later in zip(waits[:5:2], waits[2:6:2], strict=False))
    assert max(waits) <= 37.5


def test_it_is_due_at_its_time_and_not_before() -> None:
    attempts = after(Temporary())
    due = attempts.next_retry()
    assert attempts.holding_back(Plan((ONE,)), due - 0.001).actions == ()
    assert attempts.holding_back(Plan((ONE,)), due).actions == (ONE,)


def test_what_is_still_in_use_is_looked_at_every_second() -> None:
    assert after(*[StillInUse()] * 50, action=GONE).next_retry() == 1.0


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_what_cannot_work_is_not_tried_again(now: float) -> None:
    assert after(Refused()).holding_back(Plan((ONE,)), now).actions == ()


def test_until_a_new_revision_or_a_person_asks_for_it() -> None:
    attempts = after(Refused())
    attempts.forget()
    assert attempts.holding_back(Plan((ONE,)), 0.0).actions == (ONE,)


def test_what_was_in_the_way_when_it_was_compared_does_not_keep_it_from_being_made() -> None:
    attempts = after(Refused("inequivalent arg"), action=Declare("one", Queue(), claim=False))
    assert attempts.holding_back(Plan((Declare("one", Queue(), claim=False),)), 10**6).actions == ()
    assert attempts.holding_back(Plan((ONE,)), 0.1).actions == (ONE,)


def test_success_makes_a_fresh_start() -> None:
    attempts = after(*[Temporary()] * 9)
    attempts.record([Result(ONE)], now=0.0)
    assert attempts.next_retry() == math.inf
    attempts.record([Result(ONE, Temporary())], now=0.0)
    assert attempts.next_retry() <= 1.25


@given(st.integers(-3, 10_000), st.floats(0, 1), st.floats(0.01, 10), st.floats(10, 1000))
def test_waiting_is_bounded_and_never_negative(failures: int, jitter: float, base: float, cap: float) -> None:
    wait = backoff(failures, base=base, cap=cap, jitter=jitter)
    assert 0 <= wait <= 1.25 * cap
    assert (wait == 0) == (failures <= 0)
    assert backoff(failures + 1, base=base, cap=cap, jitter=jitter) >= wait


def test_many_that_failed_together_do_not_come_back_together() -> None:
    assert backoff(3, jitter=0.0) == 3.0
    assert backoff(3, jitter=1.0) == 5.0
