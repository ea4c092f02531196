"""Exchanges, bindings, policies and the friendly keys of queues: what may be written, and what it means."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from state.desired import Desired, Queue
from state.faults import details
from state.observed import ObservedBinding, binding_of
from state.traits import TRAITS, UNKNOWN_TO


def desired(**file: Any) -> Desired:
    return Desired.model_validate({"version": 1, "queues": {}, **file})


def faults(**file: Any) -> dict[str, str]:
    """What is said against it, by path."""
    with pytest.raises(ValidationError) as error:
        desired(**file)
    return {".".join(path): message for path, message in details(error.value)}


def fault_of(**queue: Any) -> str:
    (message,) = faults(queues={"q": queue}).values()
    return message


class TestAnExchange:
    def test_that_says_nothing_is_durable_and_direct(self) -> None:
        exchange = desired(exchanges={"e": {}}).exchanges["e"]
        assert (exchange.type, exchange.durable, exchange.auto_delete, exchange.internal) == (
            "direct", True, False, False,
        )  # fmt: skip

    @pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers", "x-consistent-hash", "x-delayed-message"])
    def test_has_a_type_of_rabbitmq_or_of_a_plugin(self, kind: str) -> None:
        assert desired(exchanges={"e": {"type": kind}}).exchanges["e"].type == kind

    @pytest.mark.parametrize("kind", ["topics", "", "x-", "Topic"])
    def test_of_another_type_is_a_fault_that_names_those_there_are(self, kind: str) -> None:
        assert "direct, fanout, topic, headers" in faults(exchanges={"e": {"type": kind}})["exchanges.e.type"]

    @pytest.mark.parametrize("name", ["amq.topic", "", "x" * 256])
    def test_of_rabbitmqs_own_cannot_be_declared(self, name: str) -> None:
        assert faults(exchanges={name: {}})

    def test_with_nothing_behind_its_key_is_what_a_file_cut_short_looks_like(self) -> None:
        assert "nothing stands behind" in faults(exchanges={"e": None})["exchanges.e"]

    def test_has_its_unknown_keys_named_with_the_nearest(self) -> None:
        assert "did you mean durable?" in faults(exchanges={"e": {"durabel": True}})["exchanges.e.durabel.[key]"]


class TestABinding:
    def test_of_a_queue_and_of_an_exchange_is_what_the_broker_is_to_show(self) -> None:
        file = desired(
            exchanges={"up": {"type": "topic"}, "down": {"bindings": [{"exchange": "up", "routing_key": "#"}]}},
            queues={"q": {"bindings": [{"exchange": "down"}, {"exchange": "amq.headers", "arguments": {"a": 1}}]}},
        )
        assert file.all_bindings() == {
            ObservedBinding("up", "down", "exchange", "#"),
            ObservedBinding("down", "q"),
            ObservedBinding("amq.headers", "q", arguments={"a": 1}),
        }
        assert file.exchange_names() == {"up", "down"}

    def test_several_of_the_same_pair_are_several(self) -> None:
        keys = [{"exchange": "e", "routing_key": key} for key in ("a", "b")]
        assert len(desired(queues={"q": {"bindings": keys}}).all_bindings()) == 2

    def test_written_twice_is_a_fault(self) -> None:
        twice = [{"exchange": "e", "routing_key": "a"}, {"exchange": "e", "routing_key": "a", "arguments": {}}]
        assert "stands above already" in faults(queues={"q": {"bindings": twice}})["queues.q.bindings.1"]

    @pytest.mark.parametrize(
        ("binding", "why"),
        [
            ({"exchange": ""}, "default exchange cannot be bound"),
            ({"exchange": "e", "routing_key": "x" * 256}, "256 bytes"),
            ({"exchange": "e", "arguments": {"x-match": "some"}}, "all-with-x"),
            ({"exchange": "e", "arguments": {"a": None}}, "text, a whole number"),
            ({"routing_key": "a"}, "exchange is missing"),
            ({"exchange": "e", "key": "a"}, "routing_key"),
            ("e", "mapping such as"),
        ],
    )
    def test_that_rabbitmq_would_refuse_is_a_fault_of_its_own(self, binding: Any, why: str) -> None:
        for at in ("queues", "exchanges"):
            ((path, message),) = faults(**{at: {"q": {"bindings": [binding]}}}).items()
            assert path.startswith(f"{at}.q.bindings.0")
            assert why in message

    def test_is_the_same_whatever_the_order_of_its_arguments_and_is_read_back_from_its_key(self) -> None:
        one = ObservedBinding("e", "q", arguments={"a": 1, "b": "ü"})
        other = ObservedBinding("e", "q", arguments={"b": "ü", "a": 1})
        assert (one, hash(one), one.key) == (other, hash(other), other.key)
        assert binding_of(one.key) == one

    @pytest.mark.parametrize("key", ["", "[]", "1", "{}", '["e"]'])
    def test_that_no_key_describes_is_none(self, key: str) -> None:
        with pytest.raises((ValueError, TypeError)):
            binding_of(key)


class TestAPolicy:
    def test_applies_to_all_with_priority_zero_unless_it_says_otherwise(self) -> None:
        rule = desired(policies={"p": {"pattern": "^a", "definition": {"max-length": 1}}}).policies["p"]
        assert (rule.apply_to, rule.priority) == ("all", 0)

    @pytest.mark.parametrize(
        ("policy", "where", "why"),
        [
            ({"definition": {"max-length": 1}}, "p.pattern", "missing"),
            ({"pattern": "("}, "p.pattern", "no regular expression"),
            ({"pattern": "a", "definition": {}}, "p.definition", "empty"),
            ({"pattern": "a", "definition": {"max-length": 1}, "apply-to": "queues"}, "p.apply-to.[key]", "apply_to"),
            ({"pattern": "a", "definition": {"max-length": 1}, "apply_to": "queue"}, "p.apply_to", "quorum_queues"),
            (None, "p", "nothing stands behind"),
        ],
    )
    def test_that_is_none_is_a_fault(self, policy: Any, where: str, why: str) -> None:
        assert why in faults(policies={"p": policy})[f"policies.{where}"]

    def test_may_not_have_the_name_of_one_that_carries_a_queues_keys(self) -> None:
        policy = {"pattern": "a", "definition": {"max-length": 1}}
        (message,) = faults(policies={"reconciler.q": policy}).values()
        assert "begin with reconciler." in message


class TestAFriendlyKey:
    @pytest.mark.parametrize(
        ("kind", "key", "value", "policy"),
        [
            ("classic", "message_ttl", "10m", {"message-ttl": 600_000}),
            ("quorum", "message_ttl", 0, {"message-ttl": 0}),
            ("classic", "expires", "1.5s", {"expires": 1500}),
            ("classic", "max_length", 0, {"max-length": 0}),
            ("stream", "max_length_bytes", "2GiB", {"max-length-bytes": 2 * 2**30}),
            ("classic", "overflow", "reject-publish-dlx", {"overflow": "reject-publish-dlx"}),
            ("quorum", "delivery_limit", -1, {"delivery-limit": -1}),
            ("quorum", "dead_letter_strategy", "at-least-once", {"dead-letter-strategy": "at-least-once"}),
            ("stream", "max_age", "7d", {"max-age": "604800s"}),
            ("stream", "max_segment_size", "100MB", {"stream-max-segment-size-bytes": 100_000_000}),
        ],
    )
    def test_that_a_policy_can_carry_is_carried_by_one(self, kind: str, key: str, value: Any, policy: Any) -> None:
        queue = desired(queues={"q": {"type": kind, key: value}}).queues["q"]
        assert queue.policy_definition() == policy
        assert queue.broker_arguments() == {}

    @pytest.mark.parametrize(
        ("kind", "key", "value", "argument"),
        [
            ("classic", "max_priority", 5, "x-max-priority"),
            ("quorum", "single_active_consumer", True, "x-single-active-consumer"),
            ("quorum", "initial_group_size", 3, "x-quorum-initial-group-size"),
        ],
    )
    def test_that_only_the_declaration_sets_is_an_argument(
        self, kind: str, key: str, value: Any, argument: str
    ) -> None:
        queue = desired(queues={"q": {"type": kind, key: value}}).queues["q"]
        assert queue.policy_definition() == {}
        assert queue.broker_arguments() == {argument: value}

    def test_that_says_no_is_no_argument(self) -> None:
        assert Queue(single_active_consumer=False).broker_arguments() == {}
        assert Queue(single_active_consumer=False).broker_arguments({"x-single-active-consumer": False}) == {
            "x-single-active-consumer": False
        }

    @pytest.mark.parametrize("trait", TRAITS, ids=lambda trait: trait.key)
    def test_given_both_ways_is_a_fault(self, trait: Any) -> None:
        values = {"overflow": "drop-head", "dead_letter_strategy": "at-most-once", "single_active_consumer": True}
        value = values.get(trait.key, 10)
        message = fault_of(**{"type": trait.types[0], trait.key: value, "arguments": {trait.argument: 1}})
        assert "say the same" in message or "no x-max-priority" in message

    @pytest.mark.parametrize("trait", TRAITS, ids=lambda trait: trait.key)
    @pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
    def test_is_refused_for_a_type_that_does_not_know_it(self, trait: Any, kind: str) -> None:
        values = {"overflow": "drop-head", "dead_letter_strategy": "at-most-once", "single_active_consumer": True}
        queue = {"type": kind, trait.key: values.get(trait.key, 10)}
        if kind in trait.types:
            assert desired(queues={"q": queue})
        else:
            assert f"a {kind} queue has no {trait.key}" in fault_of(**queue)

    def test_of_a_policy_is_one_that_does_not_keep_the_policy_from_the_type(self) -> None:
        assert not [(t.key, kind) for t in TRAITS for kind in t.types if t.policy in UNKNOWN_TO[kind]]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("message_ttl", "10"), ("message_ttl", -1), ("message_ttl", "60d"), ("expires", 0), ("max_length", -1),
            ("max_length", 1.5), ("max_length_bytes", "2G"), ("overflow", "drop"), ("delivery_limit", -2),
            ("max_priority", 0), ("max_priority", 256), ("single_active_consumer", "yes"),
        ],
    )  # fmt: skip
    def test_of_no_sense_is_a_fault_of_that_key(self, key: str, value: Any) -> None:
        kind = "quorum" if key == "delivery_limit" else "classic"
        assert list(faults(queues={"q": {"type": kind, key: value}})) == [f"queues.q.{key}"]

    def test_may_be_a_default_and_be_taken_away_again(self) -> None:
        queues = {"a": {}, "b": {"message_ttl": None}, "c": {"message_ttl": "1s"}}
        file = desired(defaults={"queue": {"message_ttl": "1m"}}, queues=queues)
        found = {name: queue.policy_definition() for name, queue in file.queues.items()}
        assert found == {"a": {"message-ttl": 60_000}, "b": {}, "c": {"message-ttl": 1000}}


class TestAQueueThatIsThere:
    """What it was declared with beats every policy, so a key that an argument says already is met by it."""

    def test_meets_a_key_by_an_argument_that_says_the_same(self) -> None:
        queue, have = Queue(message_ttl=60.0), {"x-message-ttl": 60_000}
        assert queue.broker_arguments(have) == have

    def test_does_not_meet_it_by_one_that_says_another_thing(self) -> None:
        assert Queue(message_ttl=60.0).broker_arguments({"x-message-ttl": 1}) == {"x-message-ttl": 60_000}

    def test_dead_letters_by_argument_from_the_first_moment_on(self) -> None:
        queue = Queue(dead_letter="lost")
        by_argument = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "lost"}
        assert queue.broker_arguments() == by_argument
        assert queue.policy_definition() == {}
        assert queue.broker_arguments(by_argument) == by_argument

    def test_dead_letters_by_policy_if_it_was_declared_without(self) -> None:
        queue = Queue(dead_letter="lost")
        assert queue.broker_arguments({}) == {}
        assert queue.policy_definition({}) == {"dead-letter-exchange": "", "dead-letter-routing-key": "lost"}


class TestDrift:
    def test_is_corrected_unless_the_file_or_the_queue_says_otherwise(self) -> None:
        assert desired(queues={"q": {}}).drift_of("q") == "correct"
        file = desired(drift="report", queues={"q": {}, "mended": {"drift": "correct"}})
        assert [file.drift_of(name) for name in ("q", "mended", "implied", None)] == [
            "report", "correct", "report", "report",
        ]  # fmt: skip
