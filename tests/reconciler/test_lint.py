"""What the connected broker will refuse or do otherwise, said before it happens, and true of real ones."""

from __future__ import annotations

import httpx
import pika
import pytest
from pika.exceptions import AMQPError

from reconciler.lint import lint
from reconciler.lint.queues import KNOWN, SOMEBODYS
from state.desired import Desired
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedQueue, Release, release_of
from state.reader import locate_all, parse
from tests.nodes import TestVhost

V3, V4, V4_3 = (3, 10, 8), (4, 0, 5), (4, 3, 1)


def read(queues: str, rest: str = "") -> Desired:
    return parse(f"version: 1\nqueues:\n  {queues}\n{rest}".encode())


def said(desired: Desired, release: Release | None = None, there: ObservedBroker | None = None) -> dict[str, str]:
    """What was found, by severity and path."""
    return {f"{f.severity} {str(f).partition(': ')[0]}": f.message for f in lint(desired, release, there)}


def test_versions_are_numbers() -> None:
    assert release_of("4.1.0-rc.2") == (4, 1, 0)
    assert release_of("3.13") == (3, 13, 0)
    assert release_of("unknown") is None


def test_of_an_ordinary_file_there_is_nothing_to_say() -> None:
    desired = read("a: {type: quorum, dead_letter: b}\n  b: {}\n  c: {arguments: {x-our-own: 1}, max_length: 5}")
    for release in (None, V3, V4, V4_3):
        assert said(desired, release) == {}


VERSIONS = {
    "a: {durable: false}": ("queues.a.durable", None, "warning", "error"),
    "a: {arguments: {x-queue-mode: lazy}}": ("queues.a.arguments.x-queue-mode", None, "warning", "error"),
    "a: {arguments: {x-queue-version: 1}}": ("queues.a.arguments.x-queue-version", None, "warning", "error"),
    "a: {arguments: {x-queue-master-locator: min-masters}}": (
        "queues.a.arguments.x-queue-master-locator",
        None,
        None,
        "error",
    ),
    "a: {type: quorum}": ("queues.a.type", None, "warning", "warning"),
}


@pytest.mark.parametrize("queue", VERSIONS)
def test_what_depends_on_the_version(queue: str) -> None:
    path, *severities = VERSIONS[queue]
    for release, severity in zip((V3, V4, V4_3), severities, strict=True):
        assert list(said(read(queue), release)) == ([f"{severity} {path}"] if severity else [])


POLICIES = {
    "{ha-mode: all}": ("warning", "error", "error"),
    "{queue-mode: lazy}": (None, "warning", "error"),
    "{queue-version: 1}": (None, "warning", "error"),
    "{queue-version: 2}": (None, None, None),
    "{queue-master-locator: min-masters}": (None, None, "error"),
    "{message-ttl: 5}": (None, None, None),
}


@pytest.mark.parametrize("definition", POLICIES)
def test_policies_depend_on_it_too(definition: str) -> None:
    desired = read("a: {}", f'policies:\n  p: {{pattern: "^a", definition: {definition}}}\n')
    key = definition[1:].partition(":")[0]
    for release, severity in zip((V3, V4, V4_3), POLICIES[definition], strict=True):
        assert list(said(desired, release)) == ([f"{severity} policies.p.definition.{key}"] if severity else [])


def test_policies_for_one_type_came_with_3_12() -> None:
    desired = read("a: {}", 'policies:\n  p: {pattern: "^a", apply_to: quorum_queues, definition: {max-length: 5}}\n')
    assert "error policies.p.apply_to" in said(desired, V3)
    assert said(desired, V4) == {}


def test_an_argument_of_another_type_is_refused_and_the_right_type_named() -> None:
    found = said(read("a: {arguments: {x-delivery-limit: 3}}"))
    assert "use type: quorum" in found["error queues.a.arguments.x-delivery-limit"]


def test_a_misspelt_argument_is_ignored_by_the_broker_and_seen_here() -> None:
    found = said(read("a: {arguments: {x-mesage-ttl: 3}}"))
    assert "did you mean x-message-ttl" in found["warning queues.a.arguments.x-mesage-ttl"]


def test_at_least_once_needs_reject_publish() -> None:
    path = "warning queues.a.dead_letter_strategy"
    queue = "a: {type: quorum, dead_letter: d, dead_letter_strategy: at-least-once%s}"
    assert path in said(read(queue % ""))
    assert said(read(queue % ", overflow: reject-publish")) == {}


def test_expiry_and_priorities_do_not_go_together() -> None:
    assert "warning queues.a.message_ttl" in said(read("a: {message_ttl: 10s, max_priority: 3}"))


# -- dead letters ------------------------------------------------------------------------------------------------


DEAD_LETTERS = "x-dead-letter-exchange"


def test_a_dead_letter_exchange_that_is_nowhere() -> None:
    desired = read("a: {arguments: {x-dead-letter-exchange: dlx}}")
    path = f"warning queues.a.arguments.{DEAD_LETTERS}"
    assert "no exchange dlx in this file" in said(desired)[path]
    bare = ObservedBroker("x", "4.0.5", True, {}, {}, frozenset())
    assert "no exchange dlx at the broker" in said(desired, V4, bare)[path]
    exchanges, bindings = {"dlx": ObservedExchange("dlx", "fanout")}, frozenset([ObservedBinding("dlx", "theirs")])
    assert said(desired, V4, ObservedBroker("x", "4.0.5", True, {}, exchanges, bindings)) == {}
    assert "nothing is bound" in said(desired, V4, ObservedBroker("x", "4.0.5", True, {}, exchanges, frozenset()))[path]


def test_a_dead_letter_exchange_of_the_file() -> None:
    queue = "a: {arguments: {x-dead-letter-exchange: dlx}}\n  d: {%s}"
    exchange = "exchanges: {dlx: {type: fanout}}\n"
    assert said(read(queue % "bindings: [{exchange: dlx}]", exchange)) == {}
    assert "nothing is bound" in said(read(queue % "", exchange))[f"warning queues.a.arguments.{DEAD_LETTERS}"]


def test_a_dead_letter_exchange_of_a_policy() -> None:
    desired = read("a: {}", 'policies:\n  p: {pattern: "^a", definition: {dead-letter-exchange: dlx}}\n')
    assert "warning policies.p.definition.dead-letter-exchange" in said(desired, V4)


def test_a_dead_letter_queue_that_is_nowhere() -> None:
    desired = read('a: {arguments: {x-dead-letter-exchange: "", x-dead-letter-routing-key: b}}')
    path = "warning queues.a.arguments.x-dead-letter-routing-key"
    assert "there is no queue b in this file" in said(desired)[path]
    assert said(desired, V4, ObservedBroker("x", "4.0.5", True, {"b": ObservedQueue("b")}, {}, frozenset())) == {}


def test_dead_letters_that_keep_their_key_come_back() -> None:
    found = said(read('a: {arguments: {x-dead-letter-exchange: ""}}'))
    assert "come back into this very queue" in found[f"warning queues.a.arguments.{DEAD_LETTERS}"]


def test_a_circle_is_told_once_with_its_way() -> None:
    desired = read("a: {dead_letter: b}\n  b: {dead_letter: c}\n  c: {dead_letter: a}\n  d: {dead_letter: a}")
    found = said(desired)
    assert list(found) == ["warning queues.a.dead_letter"]
    assert "a → b → c → a" in found["warning queues.a.dead_letter"]


def test_a_circle_through_an_exchange_of_the_file() -> None:
    arguments = "arguments: {x-dead-letter-exchange: dlx, x-dead-letter-routing-key: k}"
    queues = f"a: {{{arguments}}}\n  b: {{dead_letter: a, bindings: [{{exchange: dlx, routing_key: k}}]}}"
    found = said(read(queues, "exchanges: {dlx: {}}\n"))
    assert "a → b → a" in found[f"warning queues.a.arguments.{DEAD_LETTERS}"]


def test_a_shorter_time_behind_a_longer_one() -> None:
    desired = read("long: {message_ttl: 10m, dead_letter: short}\n  short: {message_ttl: 30s, dead_letter: end}")
    text = said(desired)["warning queues.long.dead_letter"]
    assert "10m" in text
    assert "30s" in text
    turned = read("long: {message_ttl: 10m, dead_letter: end}\n  short: {message_ttl: 30s, dead_letter: long}")
    assert said(turned) == {}


def test_retry_needs_none_of_these_words() -> None:
    desired = read(
        "a: {type: quorum, retry: {attempts: 3, delays: [10m, 1s]}}\n  b: {retry: {attempts: 2, delays: [1s]}}"
    )
    assert said(desired, V4) == {}


def test_each_finding_has_its_place_in_the_file() -> None:
    text = b"version: 1\nqueues:\n  a:\n    durable: false\n    arguments:\n      x-queue-mode: lazy\n"
    found = lint(parse(text), V4)
    at = locate_all(text, [(finding.path, finding.message) for finding in found])
    assert [(fault.line, fault.column) for fault in at] == [(4, 14), (6, 7)]


# -- and it is true ----------------------------------------------------------------------------------------------

VALUES = {
    "x-queue-mode": "lazy",
    "x-queue-version": 2,
    "x-queue-master-locator": "min-masters",
    "x-queue-leader-locator": "client-local",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "k",
    "x-dead-letter-strategy": "at-most-once",
    "x-overflow": "drop-head",
    "x-single-active-consumer": True,
    "x-max-age": "1h",
    "x-stream-max-segment-size-bytes": 1_000_000,
    "x-quorum-initial-group-size": 1,
    "x-initial-cluster-size": 1,
}


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("kind", KNOWN)
def test_the_broker_refuses_just_the_arguments_that_are_said_to_be_refused(
    kind: str, version: int, request: pytest.FixtureRequest
) -> None:
    vhost: TestVhost = request.getfixturevalue("vhost" if version == 3 else "vhost4")
    refusals, told = set(), set()
    for argument in SOMEBODYS - {"x-queue-type"}:
        arguments = {argument: VALUES.get(argument, 1000 if argument != "x-max-priority" else 3)}
        desired = Desired.model_validate({"version": 1, "queues": {"q": {}}})
        queue = desired.queues["q"].model_copy(update={"type": kind, "arguments": arguments})
        queue.model_fields_set.add("arguments")
        found = lint(desired.model_copy(update={"queues": {"q": queue}}), (3, 10, 8) if version == 3 else (4, 0, 5))
        told |= {argument for finding in found if finding.severity == "error"}
        refusals |= {argument} if refuses(vhost, arguments | {"x-queue-type": kind}) else set()
    assert told == refusals


def refuses(vhost: TestVhost, arguments: dict[str, object]) -> bool:
    try:
        with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
            channel = connection.channel()
            channel.queue_declare("q", durable=True, arguments=arguments)
            channel.queue_delete("q")
    except AMQPError:
        return True
    return False


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("definition", POLICIES)
def test_the_broker_refuses_just_the_policies_that_are_said_to_be_refused(
    definition: str, version: int, request: pytest.FixtureRequest
) -> None:
    vhost: TestVhost = request.getfixturevalue("vhost" if version == 3 else "vhost4")
    desired = read("a: {}", f'policies:\n  p: {{pattern: "^a", definition: {definition}}}\n')
    found = lint(desired, V3 if version == 3 else V4)
    rule = desired.policies["p"]
    body = {"pattern": rule.pattern, "definition": rule.definition, "apply-to": rule.apply_to}
    with vhost.node.api() as api:
        answer: httpx.Response = api.put(f"/api/policies/{vhost.name.replace('/', '%2F')}/p", json=body)
    assert answer.is_client_error == any(finding.severity == "error" for finding in found)
