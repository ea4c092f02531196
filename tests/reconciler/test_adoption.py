"""What becomes ours by being adopted, and what cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.adoption import adoption, all_adoptable
from reconciler.errors import NotListed, Refused
from state.desired import Desired
from state.ledger import Holdings, Owned
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedPolicy
from tests.reconciler.support import there

FILE = Desired.model_validate(
    {
        "version": 1,
        "exchanges": {"events": {"type": "topic", "on_remove": "keep"}},
        "queues": {"q": {"on_remove": "delete", "bindings": [{"exchange": "events", "routing_key": "a"}]}, "new": {}},
        "policies": {"ttl": {"pattern": ".*", "definition": {"message-ttl": 1}}},
    }
)
BOUND = ObservedBinding("events", "q", "queue", "a")
SEEN = ObservedBroker(
    "here /",
    "4",
    True,
    {"q": there("q"), "theirs": there("theirs")},
    {"events": ObservedExchange("events", "topic")},
    frozenset({BOUND, ObservedBinding("events", "q", "queue", "theirs")}),
    {"ttl": ObservedPolicy("ttl", ".*")},
)


def adopt(kind: Any, name: str, seen: ObservedBroker = SEEN, held: Holdings | None = None) -> Any:
    return adoption(kind, name, FILE, seen, held or Holdings())


def test_a_queue_comes_with_its_listed_bindings_and_what_the_file_says_on_removal() -> None:
    found = adopt("queue", "q")
    assert found.new == Holdings({"q": Owned("delete", shape="a classic queue")}, bindings={BOUND.key})
    assert found.message == (
        "queue q is ours now with 1 binding: out of the file it is deleted with its messages (on_remove: delete)"
    )


def test_exchanges_and_policies_can_be_adopted_too() -> None:
    assert adopt("exchange", "events").new == Holdings(exchanges={"events": Owned("keep")})
    assert adopt("policy", "ttl").new == Holdings(policies={"ttl"})


def test_it_is_remembered_as_it_is_there_even_if_the_file_wants_another_one() -> None:
    seen = replace(SEEN, queues={"q": there("q", type="quorum")})
    assert adopt("queue", "q", seen).new.queues["q"].shape == "a quorum queue"


def test_what_is_ours_already_stays_so() -> None:
    held = Holdings({"q": Owned("delete", shape="a classic queue")}, bindings={BOUND.key})
    found = adopt("queue", "q", held=held)
    assert not found.new
    assert found.message == "queue q is ours already"


def test_what_the_file_does_not_list_can_never_be_adopted() -> None:
    for kind, name in (("queue", "theirs"), ("exchange", "theirs"), ("policy", "theirs")):
        with pytest.raises(NotListed, match="is not in the file, so it is left alone"):
            adopt(kind, name)


def test_what_is_not_there_cannot_be_adopted() -> None:
    with pytest.raises(Refused, match="queue new is not at the broker"):
        adopt("queue", "new")
    blind = ObservedBroker("here /", "4", False, {"q": there("q")})
    with pytest.raises(Refused, match="without the management API"):
        adopt("exchange", "events", blind)
    assert adopt("queue", "q", blind).new == Holdings({"q": Owned("delete", shape="a classic queue")})


def test_all_is_what_the_file_lists_and_the_broker_has_and_is_not_ours() -> None:
    assert all_adoptable(FILE, SEEN, Holdings()) == [("exchange", "events"), ("queue", "q"), ("policy", "ttl")]
    assert all_adoptable(FILE, SEEN, Holdings({"q": Owned()}, policies={"ttl"})) == [("exchange", "events")]
