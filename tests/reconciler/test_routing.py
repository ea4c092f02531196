"""Exchanges, bindings and policies: what is made, what is mended, what goes, and what stays because it is not ours."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.actions import (
    Action,
    Bind,
    ClaimExchange,
    Declare,
    DeclareExchange,
    Delete,
    DeleteExchange,
    DeletePolicy,
    Drop,
    Release,
    SetPolicy,
    Unbind,
)
from reconciler.diff import diff_topology
from reconciler.plan import Context, Plan, make_plan
from state.desired import Desired
from state.ledger import Holdings, Owned
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedPolicy
from tests.reconciler.support import broker, there

E = ObservedExchange("e", "topic")
OURS = ObservedBinding("e", "q", routing_key="a")
THEIRS = ObservedBinding("e", "q", routing_key="theirs")


def file(**parts: Any) -> Desired:
    return Desired.model_validate({"version": 1, "queues": {}, **parts})


def bound(*keys: str) -> dict[str, Any]:
    return {"q": {"bindings": [{"exchange": "e", "routing_key": key} for key in keys]}}


def holdings(**ours: Any) -> Holdings:
    found = Holdings(**ours)
    return Holdings(found.queues, found.exchanges, {b.key for b in found.bindings}, found.policies)  # type: ignore[attr-defined]


def plan(of: Desired, seen: ObservedBroker, ours: Holdings | None = None, **context: Any) -> Plan:
    ours = ours or Holdings()
    return make_plan(diff_topology(of, seen, ours), Context(len(ours.queues), holdings=ours, **context))


def kinds(actions: tuple[Action, ...]) -> list[type]:
    return [type(action) for action in actions]


WITH_E = {"exchanges": {"e": {"type": "topic"}}}


def test_what_is_missing_is_made_in_the_order_in_which_it_can_be() -> None:
    policies = {"p": {"pattern": "^q", "definition": {"max-length": 5}}}
    queues = {"q": {**bound("a")["q"], "message_ttl": "1m"}}
    found = plan(file(**WITH_E, queues=queues, policies=policies), broker()).actions
    assert kinds(found) == [SetPolicy, SetPolicy, DeclareExchange, Declare, Bind]
    assert all(action.claim for action in found)  # type: ignore[union-attr]


def test_what_is_as_the_file_says_is_left_alone() -> None:
    seen = broker(there("q"), exchanges={"e": E}, bindings=frozenset({OURS}))
    assert plan(file(**WITH_E, queues=bound("a")), seen) == Plan()


@pytest.mark.parametrize("differs", [{"type": "fanout"}, {"durable": False}, {"internal": True}, {"auto_delete": True}])
def test_an_exchange_that_differs_is_refused_with_both_values(differs: dict[str, Any]) -> None:
    seen = broker(exchanges={"e": ObservedExchange("e", **{"type": "topic", **differs})})
    (held,) = plan(file(**WITH_E), seen).held
    (key,) = differs
    assert (held.name, held.needs_confirmation) == ("exchange e", False)
    assert f"{key} is {differs[key]!r} at the broker" in held.reason


def test_a_binding_of_somebody_else_stays() -> None:
    seen = broker(there("q"), exchanges={"e": E}, bindings=frozenset({OURS, THEIRS}))
    assert plan(file(**WITH_E, queues=bound("a")), seen, holdings(bindings={OURS})) == Plan()


def test_one_that_is_ours_and_left_the_file_goes_after_what_replaces_it() -> None:
    seen = broker(there("q"), exchanges={"e": E}, bindings=frozenset({OURS, THEIRS}))
    found = plan(file(**WITH_E, queues=bound("b")), seen, holdings(bindings={OURS})).actions
    assert found == (Bind(ObservedBinding("e", "q", routing_key="b"), True), Unbind(OURS))


def test_the_bindings_of_a_queue_that_leaves_stay_as_long_as_it_does() -> None:
    ours = holdings(queues={"q": Owned()}, exchanges={"e": Owned("delete-if-unused")}, bindings={OURS})
    busy = broker(there("q", ready=3), exchanges={"e": E}, bindings=frozenset({OURS}))
    found = plan(file(), busy, ours)
    assert found.actions == ()
    assert sorted(held.name for held in found.held) == ["exchange e", "q"]
    idle = broker(there("q"), exchanges={"e": E}, bindings=frozenset({OURS}))
    assert kinds(plan(file(), idle, ours).actions) == [Delete]
    gone = broker(exchanges={"e": E})
    after = holdings(exchanges={"e": Owned("delete-if-unused")}, bindings={OURS})
    assert plan(file(), gone, after).actions == (DeleteExchange("e"), Drop(holdings(bindings={OURS})))


def test_an_exchange_that_leaves_stays_while_others_are_bound_to_it_and_says_which() -> None:
    ours = holdings(exchanges={"e": Owned("delete-if-unused")})
    seen = broker(there("theirs"), exchanges={"e": E}, bindings=frozenset({ObservedBinding("e", "theirs")}))
    (held,) = plan(file(), seen, ours).held
    assert "e → queue theirs" in held.reason


def test_one_that_was_to_be_kept_is_forgotten_and_so_is_one_that_is_gone() -> None:
    keep = holdings(exchanges={"e": Owned("keep"), "gone": Owned("delete-if-unused")})
    assert plan(file(), broker(exchanges={"e": E}), keep).actions == (Drop(keep),)


def test_one_that_was_there_before_us_is_never_deleted() -> None:
    assert plan(file(), broker(exchanges={"e": E}, bindings=frozenset({OURS}))) == Plan()


def test_what_the_file_says_about_its_removal_is_remembered() -> None:
    of = file(exchanges={"e": {"type": "topic", "on_remove": "keep"}})
    ours = holdings(exchanges={"e": Owned("delete-if-unused")})
    assert plan(of, broker(exchanges={"e": E}), ours).actions == (ClaimExchange("e", Owned("keep")),)


def test_a_policy_that_differs_is_set_and_one_that_is_ours_and_left_the_file_goes() -> None:
    of = file(policies={"p": {"pattern": "^q", "definition": {"max-length": 5}}})
    policies = {"p": ObservedPolicy("p", "^q", definition={"max-length": 6}), "old": ObservedPolicy("old", "x")}
    policies["theirs"] = ObservedPolicy("theirs", "x")
    set_it, delete_it = plan(of, broker(policies=policies), holdings(policies={"old"})).actions
    assert isinstance(set_it, SetPolicy)
    assert not set_it.claim, "it was there before us"
    assert delete_it == DeletePolicy("old")


def test_the_policy_of_a_queue_that_leaves_stays_as_long_as_it_does() -> None:
    ours = holdings(queues={"q": Owned()}, policies={"reconciler.q"})
    policies = {"reconciler.q": ObservedPolicy("reconciler.q", "^q$")}
    assert kinds(plan(file(), broker(there("q", ready=1), policies=policies), ours).actions) == []
    ours = holdings(policies={"reconciler.q"})
    assert plan(file(), broker(policies=policies), ours).actions == (DeletePolicy("reconciler.q"),)


def test_what_belongs_to_a_queue_that_is_kept_is_kept_with_it() -> None:
    ours = holdings(queues={"q": Owned("keep")}, bindings={OURS}, policies={"reconciler.q"})
    policies = {"reconciler.q": ObservedPolicy("reconciler.q", "^q$")}
    seen = broker(there("q"), exchanges={"e": E}, bindings=frozenset({OURS}), policies=policies)
    release, drop = plan(file(), seen, ours).actions
    assert (type(release), drop) == (Release, Drop(holdings(bindings={OURS}, policies={"reconciler.q"})))


class TestManyAtOnce:
    """A file cut short unbinds nothing."""

    BINDINGS = frozenset(ObservedBinding("e", f"q{n}") for n in range(8))
    SEEN = broker(*(there(f"q{n}") for n in range(8)), exchanges={"e": E}, bindings=BINDINGS)
    OURS = holdings(bindings=BINDINGS)
    CUT = file(**WITH_E, queues={f"q{n}": {} for n in range(8)})

    def test_wait_for_a_person(self) -> None:
        found = plan(self.CUT, self.SEEN, self.OURS)
        assert found.actions == ()
        assert found.needs_confirmation
        assert "takes out 8 of 8 managed bindings" in found.held[0].reason

    def test_go_once_a_person_confirmed_them_or_just_these(self) -> None:
        assert kinds(plan(self.CUT, self.SEEN, self.OURS, confirmed=True).actions) == [Unbind] * 8
        assert kinds(plan(self.CUT, self.SEEN, self.OURS, allowed=frozenset({"q1"})).actions) == [Unbind]

    def test_are_a_change_if_each_gets_another_one(self) -> None:
        keys = {f"q{n}": {"bindings": [{"exchange": "e", "routing_key": "new"}]} for n in range(8)}
        found = plan(file(**WITH_E, queues=keys), self.SEEN, self.OURS)
        assert kinds(found.actions) == [Bind] * 8 + [Unbind] * 8

    def test_wait_with_the_queues_that_wait(self) -> None:
        queues = {f"gone{n}": Owned() for n in range(5)}
        policies = {"p": ObservedPolicy("p", "x")}
        seen = broker(*map(there, queues), exchanges={"e": E}, bindings=self.BINDINGS, policies=policies)
        ours = holdings(queues=queues, exchanges={"e": Owned("delete-if-unused")}, policies={"p"})
        found = plan(file(), seen, ours)
        assert found.actions == ()
        assert sorted(h.name for h in found.held if h.needs_confirmation) == ["exchange e", *sorted(queues), "policy p"]


class TestOverAmqpAlone:
    """Nobody sees who made a binding."""

    def seen(self, *queues: Any, **known: Any) -> ObservedBroker:
        found = {queue.name: queue for queue in queues}
        return ObservedBroker("here /", "3", False, found, **{"exchanges": {}, "bindings": frozenset(), **known})

    def test_a_binding_is_ours_only_if_what_it_brings_messages_to_is_made_anew(self) -> None:
        of = file(**WITH_E, queues=bound("a"))
        assert [a.claim for a in plan(of, self.seen()).actions if isinstance(a, Bind)] == [True]
        assert [a.claim for a in plan(of, self.seen(there("q"))).actions if isinstance(a, Bind)] == [False]

    def test_what_is_ours_is_not_forgotten_for_not_being_seen(self) -> None:
        ours = holdings(bindings={OURS}, policies={"p"})
        assert plan(file(**WITH_E), self.seen(exchanges={"e": E}), ours) == Plan()

    def test_an_exchange_whose_properties_are_not_seen_is_verified(self) -> None:
        seen = self.seen(exchanges={"e": ObservedExchange("e", None)})
        (action,) = plan(file(**WITH_E), seen).actions
        assert isinstance(action, DeclareExchange)
        assert not action.claim

    def test_a_policy_is_held_with_its_reason_at_the_queue_whose_keys_it_carries(self) -> None:
        (held,) = plan(file(queues={"q": {"message_ttl": "1m"}}), self.seen(there("q"))).held
        assert held.queue == "q"
        assert "message-ttl" in held.reason
        assert "MANAGEMENT_URL" in held.reason
