"""What a broker has, as a file: the plan on it is empty, and what it cannot say is named with the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.broker.definitions import NoDefinitions, read_definitions
from reconciler.diff import diff_topology
from reconciler.diff.policies import wanted_policies
from reconciler.importing import Draft, draft, written
from state.desired import Binding, Desired
from state.ledger import Holdings
from state.observed import (
    ObservedBinding,
    ObservedBroker,
    ObservedExchange,
    ObservedPolicy,
    ObservedQueue,
)
from state.reader import parse
from tests.reconciler.support import there


def broker(*queues: ObservedQueue, **more: Any) -> ObservedBroker:
    return ObservedBroker("here /", "4.0.5", True, {queue.name: queue for queue in queues}, **more)


def read(seen: ObservedBroker) -> tuple[Draft, Desired, str]:
    made = draft(seen)
    text = written(made, "RabbitMQ")
    return made, parse(text.encode()), text


def imported(*queues: ObservedQueue, **more: Any) -> str:
    return read(broker(*queues, **more))[2]


# -- the promise ---------------------------------------------------------------------------------------------------

names = st.text(min_size=1, max_size=20) | st.sampled_from(
    [
        "on",
        "007",
        "1.10",
        "-x",
        "#x",
        "x #y",
        " x ",
        "a: b",
        "null",
        "~",
        "=",
        "<<",
        "amq.gen-x",
        "reconciler.x",
        "a",
        "b",
    ]
)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
values = st.recursive(plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=2))
known = st.sampled_from(
    ["x-message-ttl", "x-max-priority", "x-single-active-consumer", "x-queue-type", "x-quorum-initial-group-size"]
)
tables = st.dictionaries(known | names, values, max_size=3)
letters = st.fixed_dictionaries({"x-dead-letter-exchange": st.just(""), "x-dead-letter-routing-key": names})
queues = st.builds(
    ObservedQueue,
    name=names,
    type=st.sampled_from(["classic", "quorum", "stream"]),
    durable=st.booleans(),
    auto_delete=st.sampled_from([False, False, True]),
    exclusive=st.sampled_from([False, False, False, True]),
    arguments=tables | letters,
)
exchanges = st.builds(
    ObservedExchange,
    name=names,
    type=st.sampled_from(["direct", "fanout", "topic", "headers", "x-delayed-message", "odd"]),
    durable=st.booleans(),
    auto_delete=st.booleans(),
    internal=st.booleans(),
    arguments=tables,
)
bindings = st.builds(
    ObservedBinding,
    source=names,
    destination=names,
    destination_type=st.sampled_from(["queue", "exchange"]),
    routing_key=st.just("") | names,
    arguments=st.just({}) | tables | st.just({"x-match": "any", "n": 1}),
)
policies = st.builds(
    ObservedPolicy,
    name=names,
    pattern=st.sampled_from([".*", "^a", "(?<n>a)", "a: b"]),
    apply_to=st.sampled_from(["all", "queues", "exchanges", "streams"]),
    priority=st.integers(-5, 5),
    definition=st.dictionaries(names, st.integers() | st.text(max_size=5) | st.floats(0, 1), max_size=2),
)


@st.composite
def brokers(draw: st.DrawFn) -> ObservedBroker:
    made = [draw(st.lists(kind, max_size=5)) for kind in (queues, exchanges, policies)]
    by_name = [{thing.name: thing for thing in things} for things in made]
    ends = st.sampled_from([*by_name[0], *by_name[1], "amq.topic", "gone"])
    bound = draw(st.lists(bindings, max_size=5))
    bound += [ObservedBinding(draw(ends), draw(ends), draw(st.sampled_from(["queue", "exchange"]))) for _ in range(3)]
    return ObservedBroker("h /", "4", True, by_name[0], by_name[1], frozenset(bound), by_name[2])


@settings(max_examples=400, deadline=None)
@given(brokers())
def test_whatever_a_broker_has_the_plan_on_its_import_is_empty_and_nothing_is_forgotten(seen: ObservedBroker) -> None:
    made, desired, _ = read(seen)
    assert list(diff_topology(desired, seen, Holdings())) == []
    assert desired.all_queues().keys() == desired.queues.keys(), "no queue is implied that is not there"
    told = "\n".join(made.left_out)
    for section, kind, things in (
        (desired.queues, "queue", seen.queues),
        (desired.exchanges, "exchange", seen.exchanges or {}),
        (desired.policies, "policy", seen.policies or {}),
    ):
        assert section.keys() <= things.keys()
        for name in things.keys() - section.keys():
            assert f"{kind} {name}: " in told
    for name, exchange in desired.exchanges.items():
        known = (seen.exchanges or {})[name]
        for key in ("type", "durable", "auto_delete", "internal", "arguments"):
            assert getattr(exchange, key) == getattr(known, key)
    for name, rule in desired.policies.items():
        policy = (seen.policies or {})[name]
        for key in ("pattern", "apply_to", "priority", "definition"):
            assert getattr(rule, key) == getattr(policy, key)
    assert bound(desired) <= {binding.key for binding in seen.bindings or ()}
    for binding in seen.bindings or ():
        ends = desired.queues if binding.destination_type == "queue" else desired.exchanges
        if binding.destination in ends and binding.key not in bound(desired):
            assert f"binding {binding}: " in told


def bound(desired: Desired) -> set[str]:
    def key(name: str, kind: Any, binding: Binding) -> str:
        return ObservedBinding(binding.exchange, name, kind, binding.routing_key, binding.arguments).key

    of_queues = {key(n, "queue", b) for n, q in desired.queues.items() for b in q.bindings}
    return of_queues | {key(n, "exchange", b) for n, x in desired.exchanges.items() for b in x.bindings}


# -- its words -----------------------------------------------------------------------------------------------------


def test_an_empty_broker_is_an_empty_file() -> None:
    assert imported().endswith("version: 1\n\nqueues: {}\n")


def test_what_the_file_has_a_word_for_is_said_in_that_word_where_it_says_exactly_that() -> None:
    arguments = {
        "x-max-priority": 5, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 60000
    }  # fmt: skip
    text = imported(there("work", arguments=arguments), there("dead"))
    assert "    max_priority: 5\n    dead_letter: dead\n    arguments:\n      x-message-ttl: 60000\n" in text
    assert "# x-message-ttl is fixed as an argument; message_ttl would be a policy" in text


@pytest.mark.parametrize("target", ["nowhere", "work", "temporary"])
def test_a_dead_letter_queue_that_the_file_does_not_list_stays_an_argument(target: str) -> None:
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": target}
    text = imported(there("work", arguments=arguments), there("temporary", auto_delete=True))
    assert f"      x-dead-letter-routing-key: {target}\n" in text
    assert "dead_letter:" not in text


def test_bindings_stand_at_the_queue_or_exchange_that_they_end_at() -> None:
    bindings = frozenset(
        {
            ObservedBinding("events", "work", "queue", "order.*"),
            ObservedBinding("events", "other", "exchange", "#"),
            ObservedBinding("amq.topic", "work", "queue", "t"),
        }
    )
    exchanges = {name: ObservedExchange(name, "topic") for name in ("events", "other")}
    text = imported(there("work"), exchanges=exchanges, bindings=bindings, policies={})
    assert "  other:\n    type: topic\n    bindings:\n      - {exchange: events, routing_key: '#'}\n" in text
    assert "  work:\n    bindings:\n      - {exchange: amq.topic, routing_key: t}\n" in text
    assert "      - {exchange: events, routing_key: order.*}\n" in text


def test_what_cannot_be_said_is_named_with_the_reason_on_one_line() -> None:
    odd = ObservedQueue("a\nb", "classic", True, arguments={})
    made, _, text = read(
        broker(odd, there("f", arguments={"x-own": 1.5}), there("amq.gen-1"), there("e", exclusive=True))
    )
    assert len(made.left_out) == 4
    tail = text.partition("# Left out, and left alone:\n")[2].splitlines()
    assert len(tail) == 4
    assert all(line.startswith("#   queue ") for line in tail)
    assert r"#   queue a\nb: the name holds a control character" in text
    assert "queue f: arguments.x-own: an argument is text, a whole number, true, false or a list (not float)" in text
    assert "queue amq.gen-1: RabbitMQ named it itself" in text
    assert "queue e: it is exclusive" in text


def test_a_policy_that_carried_the_keys_of_a_queue_becomes_those_keys_again() -> None:
    wanted = {
        "type": "quorum",
        "message_ttl": "90s",
        "max_length": 5,
        "delivery_limit": 3,
        "overflow": "reject-publish",
    }
    rule = {"pattern": "^o", "definition": {"dead-letter-exchange": "x"}}
    data = {"version": 1, "queues": {"orders": wanted, "other": {}}, "policies": {"below": rule}}
    file = Desired.model_validate(data)
    queues = {"orders": there("orders", type="quorum"), "other": there("other")}
    below = ObservedPolicy("below", "^o", "all", 0, rule["definition"])  # type: ignore[arg-type]
    carried = wanted_policies(file, queues, {"below": below})["reconciler.orders"].rule
    own = ObservedPolicy("reconciler.orders", carried.pattern, carried.apply_to, carried.priority, carried.definition)
    seen = ObservedBroker("h /", "4", True, queues, {}, frozenset(), {"below": below, own.name: own})
    made, desired, text = read(seen)
    assert desired.queues["orders"] == file.queues["orders"]
    assert "    message_ttl: 90s\n" in text
    assert made.left_out == []
    assert list(diff_topology(desired, seen, Holdings())) == []
    strange = replace(own, definition={**own.definition, "max-in-memory-length": 1})
    made, desired, _ = read(replace(seen, policies={"below": below, own.name: strange}))
    assert desired.queues["orders"].max_length is None
    assert made.left_out == ["policy reconciler.orders: it carries keys of a queue in some other queues.yaml"]


# -- a definitions export ------------------------------------------------------------------------------------------


def export(**parts: Any) -> bytes:
    return json.dumps({"rabbitmq_version": "3.13.1", "queues": [], **parts}).encode()


def queue(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "durable": True, "auto_delete": False, "arguments": {}, **more}


def test_an_export_of_one_virtual_host_or_of_the_only_one_needs_no_name() -> None:
    one, _ = read_definitions(export(queues=[queue("a")]), None)
    only, _ = read_definitions(export(queues=[queue("a", vhost="/")], vhosts=[{"name": "/"}]), None)
    assert one.queues == only.queues
    assert (only.identity, only.version) == ("vhost /", "3.13.1")


def test_of_several_virtual_hosts_one_has_to_be_named() -> None:
    data = export(queues=[queue("a", vhost="/"), queue("b", vhost="dev")])
    with pytest.raises(NoDefinitions, match=r"holds the virtual hosts /, dev \(say which: --vhost /\)"):
        read_definitions(data, None)
    with pytest.raises(NoDefinitions, match="no virtual host prod"):
        read_definitions(data, "prod")
    assert read_definitions(data, "dev")[0].queues.keys() == {"b"}


def test_parameters_of_plugins_are_named() -> None:
    parameter = {"component": "shovel", "name": "s", "vhost": "/", "value": {}}
    assert read_definitions(export(parameters=[parameter]), "/")[1] == [
        "shovel s: it is a parameter of a plugin (set it with rabbitmqctl)"
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"queues": 1}', b'{"queues": [{}]}', b'{"queues": [1]}', b"[" * 100_000, b"\xff"],
)
def test_what_is_no_export_is_refused_with_what_would_be_one(data: bytes) -> None:
    with pytest.raises(NoDefinitions):
        read_definitions(data, None)
