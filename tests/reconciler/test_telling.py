"""What is held up is said once, however often it is looked at again, and again when it comes back."""

from __future__ import annotations

from reconciler.actions import Bind, Result
from reconciler.errors import Temporary
from reconciler.events import Events
from reconciler.intake import InForce, Reading
from reconciler.plan import Held, Plan
from reconciler.telling import Teller
from state.observed import ObservedBinding

TWO = Plan(held=(Held("q", "one reason"), Held("q", "another reason")))


def told(events: Events) -> list[str]:
    return [event.text for event in events.since(0) if event.kind == "held"]


def test_two_reasons_of_one_queue_are_each_said_once() -> None:
    events = Events()
    teller = Teller(events)
    for _ in range(3):
        teller.plan(TWO, Reading(InForce()))
    assert told(events) == ["q: one reason", "q: another reason"]


def test_what_failed_is_not_said_again_when_it_is_held_for_that() -> None:
    events = Events()
    teller = Teller(events)
    bind = Bind(ObservedBinding("e", "q"), True)
    teller.plan(Plan((bind,)), Reading(InForce()))
    teller.result(Result(bind, Temporary("no luck")))
    teller.plan(Plan(held=(Held("q", f"{bind}: no luck"),)), Reading(InForce()))
    assert told(events) == [f"q: {bind}: no luck"]


def test_what_was_over_and_comes_back_is_said_again() -> None:
    events = Events()
    teller = Teller(events)
    for plan in (TWO, Plan(), TWO):
        teller.plan(plan, Reading(InForce()))
    assert len(told(events)) == 4
