"""The policy that carries a queue's own keys: above all others, with what the one below would have set."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.diff.policies import MAX_SINGLE, OWN_PRIORITY, exactly, matches, wanted_policies
from state.desired import Desired
from state.observed import ObservedPolicy
from tests.reconciler.support import there

NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name.isprintable() and not name.startswith("amq."))


def file(policies: Any = None, **queues: Any) -> Desired:
    return Desired.model_validate({"version": 1, "queues": queues, "policies": policies or {}})


def wanted(of: Desired, *others: ObservedPolicy, **seen: Any) -> dict[str, Any]:
    queues = {name: there(name, **queue) for name, queue in seen.items()}
    found = wanted_policies(of, queues, {policy.name: policy for policy in others})
    return {name: policy.rule for name, policy in found.items()}


def other(name: str, pattern: str, priority: int = 0, apply_to: str = "all", **definition: Any) -> ObservedPolicy:
    return ObservedPolicy(name, pattern, apply_to, priority, {k.replace("_", "-"): v for k, v in definition.items()})


def test_one_policy_carries_all_the_keys_of_a_queue_and_matches_no_other() -> None:
    found = wanted(file(**{"a.b": {"message_ttl": "1m", "max_length": 5}, "plain": {}}))
    (rule,) = found.values()
    assert list(found) == ["reconciler.a.b"]
    assert rule.definition == {"message-ttl": 60_000, "max-length": 5}
    assert (rule.apply_to, rule.priority) == ("queues", OWN_PRIORITY)
    assert re.search(rule.pattern, "a.b")
    assert not re.search(rule.pattern, "a_b")
    assert not re.search(rule.pattern, "xa.b")


def test_it_sets_what_the_files_own_policy_for_the_queue_sets_beside() -> None:
    policies = {"ttl": {"pattern": "^a", "priority": 3, "definition": {"message-ttl": 1, "expires": 2}}}
    rule = wanted(file(policies, a={"message_ttl": "1m"}))["reconciler.a"]
    assert rule.definition == {"message-ttl": 60_000, "expires": 2}


def test_it_sets_what_a_policy_of_somebody_else_sets_and_is_above_it() -> None:
    rule = wanted(file(a={"max_length": 5}), other("x", "a", 5000, message_ttl=1), other("y", ".*", 1, expires=2))
    assert rule["reconciler.a"].definition == {"message-ttl": 1, "max-length": 5}
    assert rule["reconciler.a"].priority == 5001


def test_it_takes_nothing_from_one_that_does_not_apply_to_the_queue() -> None:
    others = (
        other("exchanges", "a", 9, "exchanges", max_length=1),
        other("quorum", "a", 8, "quorum_queues", max_length=1),
        other("elsewhere", "^b", 7, max_length=1),
        other("of streams", "a", 6, max_age="1h"),  # one key that classic queues do not know, and it does not apply
        other("unreadable", "(?&", 5, max_length=1),
    )
    rule = wanted(file(a={"message_ttl": 1}), *others)["reconciler.a"]
    assert rule.definition == {"message-ttl": 1000}


def test_it_takes_nothing_from_itself_nor_from_what_is_about_to_go() -> None:
    of = file(a={"max_length": 5})
    itself = other("reconciler.a", "^a$", OWN_PRIORITY, "queues", max_length=5, message_ttl=1)
    going = other("old", "a", 7, max_length=1, expires=1)
    found = wanted_policies(of, {}, {"reconciler.a": itself, "old": going}, going={"old"})
    assert found["reconciler.a"].rule.definition == {"max-length": 5}


def test_the_files_word_on_a_policy_counts_and_not_what_the_broker_still_has() -> None:
    policies = {"p": {"pattern": "a", "definition": {"expires": 9}}}
    rule = wanted(file(policies, a={"max_length": 5}), other("p", "a", expires=1))["reconciler.a"]
    assert rule.definition == {"expires": 9, "max-length": 5}


def test_dead_letters_of_a_queue_that_was_declared_without_are_carried_too() -> None:
    of = file(a={"dead_letter": "lost"})
    assert wanted(of) == {}
    carried = wanted(of, a={"arguments": {}})["reconciler.a"].definition
    assert carried == {"dead-letter-exchange": "", "dead-letter-routing-key": "lost"}


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True), NAMES)
def test_a_pattern_matches_exactly_its_names_whatever_they_are(names: list[str], name: str) -> None:
    policy = ObservedPolicy("p", exactly(names), "queues", 0, {})
    assert all(matches(policy, known, "classic") for known in names)
    assert matches(policy, name, "classic") == (name in names)


@pytest.mark.parametrize("pattern", ["^(?<kind>a)", r"^\w$", "a|b", ""])
def test_patterns_are_read_as_rabbitmq_does(pattern: str) -> None:
    assert matches(ObservedPolicy("p", pattern), "a", "quorum")


def test_very_many_queues_with_the_same_keys_share_a_few_policies() -> None:
    """RabbitMQ compares each policy with each queue whenever one changes."""
    queues: dict[str, Any] = {f"q{n}": {"message_ttl": "1m"} for n in range(3000)}
    queues |= {"other": {"message_ttl": "2m"}}
    found = wanted_policies(file(**queues), {}, {})
    assert len(found) < 10
    for name, queue in queues.items():
        matching = [p for p in found.values() if re.search(p.rule.pattern, name)]
        assert len(matching) == 1
        assert name in matching[0].queues
        assert matching[0].rule.definition == {"message-ttl": 120_000 if queue["message_ttl"] == "2m" else 60_000}


def test_up_to_a_number_each_has_its_own() -> None:
    queues = {f"q{n}": {"message_ttl": "1m"} for n in range(MAX_SINGLE)}
    assert set(wanted(file(**queues))) == {f"reconciler.{name}" for name in queues}
