"""Drift and change, told apart: by what was once as the file says."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.actions import Bind, Declare, SetPolicy
from reconciler.diff import diff_topology, wanted_topology
from reconciler.plan import Context, Plan, make_plan
from reconciler.reached import Drifted, Reached
from state.desired import Desired
from state.ledger import Holdings
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedPolicy
from tests.reconciler.support import broker, there

BINDING = ObservedBinding("e", "q", routing_key="a")
QUEUE = {"bindings": [{"exchange": "e", "routing_key": "a"}], "message_ttl": "1m"}
OWN = ObservedPolicy("reconciler.q", "^q$", "queues", 1000, {"message-ttl": 60_000})
WHOLE = broker(
    there("q"),
    exchanges={"e": ObservedExchange("e", "direct")},
    bindings=frozenset({BINDING}),
    policies={"reconciler.q": OWN},
)


def file(queue: dict[str, Any] | None = None, **more: Any) -> Desired:
    return Desired.model_validate({"version": 1, "exchanges": {"e": {}}, "queues": {"q": queue or QUEUE}, **more})


def turn(reached: Reached, of: Desired, seen: ObservedBroker) -> tuple[list[Drifted], Plan]:
    """One look: what has drifted, and what becomes of it."""
    changes = list(diff_topology(of, seen, Holdings()))
    drifts = reached.drifted(changes, of)
    reached.look(changes, drifts, of, wanted_topology(of, seen, Holdings()))
    return drifts, make_plan(changes, Context(drifts=drifts))


def without(**lost: Any) -> ObservedBroker:
    known: dict[str, Any] = {"exchanges": WHOLE.exchanges, "bindings": WHOLE.bindings, "policies": WHOLE.policies}
    queues = lost.pop("queues", (there("q"),))
    return broker(*queues, **(known | lost))


def test_what_is_not_there_at_first_is_no_drift() -> None:
    drifts, plan = turn(Reached(), file(), broker())
    assert (drifts, len(plan.actions)) == ([], 4)


@pytest.mark.parametrize(
    ("seen", "subject"),
    [
        (without(queues=()), ("queue", "q")),
        (without(queues=(there("q", durable=False),)), ("queue", "q")),
        (without(exchanges={}), ("exchange", "e")),
        (without(exchanges={"e": ObservedExchange("e", "topic")}), ("exchange", "e")),
        (without(bindings=frozenset()), ("binding", BINDING.key)),
        (without(policies={}), ("policy", "reconciler.q")),
        (without(policies={"reconciler.q": ObservedPolicy("reconciler.q", "^q$")}), ("policy", "reconciler.q")),
    ],
)
def test_what_was_as_the_file_says_and_is_not_any_more_is_drift(seen: ObservedBroker, subject: Any) -> None:
    reached = Reached()
    assert turn(reached, file(), WHOLE) == ([], Plan())
    drifts, plan = turn(reached, file(), seen)
    assert [drift.subject for drift in drifts] == [subject]
    assert drifts[0].corrected
    assert plan != Plan()


def test_it_is_drift_once_and_again_when_it_happens_again() -> None:
    reached = Reached()
    for _ in range(2):
        turn(reached, file(), WHOLE)
        assert len(turn(reached, file(), without(queues=()))[0]) == 1


def test_what_was_just_made_is_drift_though_nobody_saw_it_there() -> None:
    reached = Reached()
    for action in turn(reached, file(), broker())[1].actions:
        reached.made(action)
    assert len(turn(reached, file(), broker())[0]) == 4


def test_an_edit_of_the_file_is_no_drift() -> None:
    reached = Reached()
    turn(reached, file(), WHOLE)
    drifts, plan = turn(reached, file({**QUEUE, "message_ttl": "2m"}), WHOLE)
    assert drifts == []
    assert [type(action) for action in plan.actions] == [SetPolicy]


def test_an_edit_of_something_else_makes_no_change_of_a_drift() -> None:
    reached = Reached()
    turn(reached, file(), WHOLE)
    assert turn(reached, file({**QUEUE, "on_remove": "keep"}), without(queues=()))[0]


class TestReported:
    def test_it_is_shown_with_its_way_out_and_not_mended_however_often_it_is_looked_at(self) -> None:
        reached, of = Reached(), file({**QUEUE, "drift": "report"})
        turn(reached, of, WHOLE)
        for _ in range(3):
            drifts, plan = turn(reached, of, without(bindings=frozenset(), policies={}))
            assert [drift.corrected for drift in drifts] == [False, False]
            assert plan.actions == ()
            assert {held.queue for held in plan.held} == {"q"}
            assert all("write drift: correct" in held.reason for held in plan.held)

    def test_it_is_for_this_queue_alone_or_for_all(self) -> None:
        gone = without(queues=(), exchanges={}, bindings=frozenset(), policies={})
        reached, of = Reached(), file({**QUEUE, "drift": "report"})
        turn(reached, of, WHOLE)
        assert [action.name for action in turn(reached, of, gone)[1].actions] == ["e"]
        reached, of = Reached(), file(drift="report")
        turn(reached, of, WHOLE)
        assert turn(reached, of, gone)[1].actions == ()

    def test_the_first_declaration_is_made_all_the_same(self) -> None:
        plan = turn(Reached(), file(drift="report"), broker())[1]
        assert {type(action) for action in plan.actions} > {Declare, Bind, SetPolicy}

    def test_a_restart_makes_no_change_of_it(self) -> None:
        reached, of = Reached(), file(drift="report")
        turn(reached, of, WHOLE)
        gone = without(bindings=frozenset())
        turn(reached, of, gone)
        (drift,), plan = turn(Reached(reached.kept), of, gone)
        assert (drift.corrected, plan.actions) == (False, ())

    def test_what_is_mended_by_hand_is_over(self) -> None:
        reached, of = Reached(), file(drift="report")
        turn(reached, of, WHOLE)
        turn(reached, of, without(bindings=frozenset()))
        assert turn(reached, of, WHOLE) == ([], Plan())

    def test_what_is_corrected_leaves_nothing_on_disk(self) -> None:
        reached = Reached()
        turn(reached, file(), WHOLE)
        assert reached.kept == {}
