"""Who made a drift, from what the broker's event exchange tells: users in changes, names in connections."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.drift import Drift
from reconciler.trail import KEPT_CONNECTIONS, Happened, Trail, address
from state.observed import ObservedConnection

NOW = 1_000_000.0
GONE = Drift(NOW, "emails", "it was gone from the broker")


def trail(*events: Happened) -> Trail:
    made = Trail("/")
    for event in events:
        made.hear(event)
    return made


def opened(ago: float, pid: str = "<1>", name: str | None = "ops-script", **headers: Any) -> Happened:
    told = {"vhost": "/", "user": "ops", "pid": pid, "peer_host": "{10,0,0,7}", "user_provided_name": name or ""}
    return Happened("connection.created", NOW - ago, told | headers)


def closed(ago: float, pid: str = "<1>") -> Happened:
    return Happened("connection.closed", NOW - ago, {"pid": pid})


def deleted(ago: float, name: str = "emails", user: str = "ops", **headers: Any) -> Happened:
    told = {"vhost": "/", "name": name, "user_who_performed_action": user}
    return Happened("queue.deleted", NOW - ago, told | headers)


def test_a_client_that_came_deleted_and_went_is_named() -> None:
    found = trail(opened(3), deleted(2), closed(1)).author(GONE)
    assert found == 'connection "ops-script" (user ops, 10.0.0.7), the only one of that user beside ours then'


def test_one_that_was_gone_before_or_came_after_is_not() -> None:
    found = trail(opened(9, "<1>", "before"), closed(5, "<1>"), deleted(2), opened(1, "<2>", "after")).author(GONE)
    assert found == "user ops, over the HTTP API (no connection of that user was open then)"


def test_others_users_and_our_own_connections_are_not_suspected() -> None:
    ours = opened(9, "<1>", "reconciler worker q/w[0]")
    direct = opened(9, "<2>", None, type="direct")
    other = opened(9, "<3>", "shop", user="shop")
    elsewhere = opened(9, "<4>", "elsewhere", vhost="dev")
    assert "over the HTTP API" in (trail(ours, direct, other, elsewhere, deleted(2)).author(GONE) or "")


def test_one_that_was_open_before_anything_was_heard_counts_too() -> None:
    seen = [ObservedConnection("old", "ops", "10.0.0.9", NOW - 99), ObservedConnection("shop", "shop", "x", NOW - 99)]
    assert (trail(deleted(2)).author(GONE, seen) or "").startswith('connection "old" (user ops, 10.0.0.9)')
    both = trail(opened(3), deleted(2)).author(GONE, seen)
    assert both
    assert both.startswith("one of the 2 connections of user ops that were open then beside ours: ")


def test_without_an_event_about_it_nothing_is_said() -> None:
    assert trail(opened(3), deleted(2, "audit"), deleted(2, vhost="dev")).author(GONE) is None
    assert trail(deleted(5000)).author(GONE) is None, "long ago"


def test_what_rabbitmq_did_itself_is_told_as_that() -> None:
    assert "RabbitMQ itself" in (trail(deleted(2, user="rmq-internal")).author(GONE) or "")


@pytest.mark.parametrize(
    ("kind", "headers", "drift"),
    [
        ("exchange.deleted", {"name": "events"}, Drift(NOW, "events", "it was gone from the broker")),
        ("binding.deleted", {"source_name": "events", "destination_name": "emails"}, GONE),
        ("policy.set", {"name": "ttl"}, Drift(NOW, "ttl", "policy ttl: priority is 2")),
        ("policy.cleared", {"name": "ttl"}, Drift(NOW, "emails", "the policy ttl was gone from the broker")),
    ],
)
def test_exchanges_bindings_and_policies_have_authors_too(kind: str, headers: dict[str, Any], drift: Drift) -> None:
    event = Happened(kind, NOW - 1, {"vhost": "/", "user_who_performed_action": "ops", **headers})
    assert "user ops" in (trail(event).author(drift) or "")


def test_only_what_takes_something_away_or_sets_it_asks_for_a_look() -> None:
    made = Trail("/")
    assert made.hear(deleted(1))
    assert not made.hear(deleted(1, vhost="dev"))
    assert not made.hear(Happened("queue.created", NOW, {"vhost": "/", "name": "q"}))
    assert not made.hear(opened(1))


def test_it_is_bounded_and_forgets_the_closed_first() -> None:
    made = trail(opened(9, "<first>", "first"), opened(9, "<gone>", "gone"), closed(8, "<gone>"))
    for number in range(KEPT_CONNECTIONS - 1):
        made.hear(opened(7, f"<{number}>", "app", user="app"))
    made.hear(deleted(2))
    assert (made.author(GONE) or "").startswith('connection "first"')


def test_addresses_are_read_as_erlang_writes_them() -> None:
    assert address("{127,0,0,1}") == "127.0.0.1"
    assert address("{0,0,0,0,0,0,0,1}") == "::1"
    assert address("somewhere") == "somewhere"
    assert address("{300,0,0,1}") == "{300,0,0,1}"
