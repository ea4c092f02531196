"""A queue becomes another one with all its messages, while publishers go on, whatever is killed meanwhile."""

from __future__ import annotations

import random
import time
from typing import Any

import pika
import pytest

from tests.live.publishers import first_seen, publishers, take_all
from tests.live.test_removal import foreign, held
from tests.nodes import TestVhost
from tests.system import System
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(480)

BACKLOG = 2_000
LONG_BACKLOG = 10_000  # so that it takes some seconds, in which something can be killed
RATE = 150  # messages a second of each publisher


def file_of(kind: str, rest: str = "", on_change: str = "migrate") -> str:
    queue = f"type: {kind}, on_change: {on_change}, bindings: [{{exchange: events, routing_key: 'order.*'}}]"
    return f"version: 1\nexchanges:\n  events: {{type: topic}}\nqueues:\n  orders: {{{queue}{rest}}}\n"


def begin(site: System, vhost: TestVhost, kind: str, count: int, **properties: Any) -> None:
    """The queue `orders` of ours, bound, with `count` messages `old:1` … in it."""
    site.write(file_of(kind))
    site.start()
    site.settled()
    with foreign(vhost) as channel:
        channel.exchange_declare("events", "topic", durable=True)
        channel.queue_bind("orders", "events", "order.*")
        channel.tx_select()
        for number in range(1, count + 1):
            plain = pika.BasicProperties(delivery_mode=2, **properties)
            channel.basic_publish("", "orders", f"old:{number}".encode(), plain)
        channel.tx_commit()


def is_migrated(site: System, vhost: TestVhost, kind: str) -> bool:
    found = vhost.queues()
    status = site.status()
    return found.keys() == {"orders"} and found["orders"]["type"] == kind and bool(status["synced"])


def assert_nothing_lost(vhost: TestVhost, confirmed: set[bytes], count: int) -> list[bytes]:
    """Each message is there once or more; the old ones in their order, and no other message."""
    found = take_all(vhost.amqp_url, "orders")
    wanted = confirmed | {f"old:{number}".encode() for number in range(1, count + 1)}
    assert wanted - set(found) == set()
    assert set(found) - wanted == set()
    assert first_seen(found, "old") == list(range(1, count + 1))
    return found


def test_a_queue_is_migrated_under_publishers_and_nothing_is_lost(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", BACKLOG)
    both = publishers(vhost.amqp_url, "orders", "events", "order.new", RATE)
    system.write(file_of("quorum"))
    shown = eventually(lambda: "migrating" in (system.status()["queues"]["orders"]["reason"] or ""))
    assert shown
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=120)
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert_nothing_lost(vhost, confirmed, BACKLOG)
    with vhost.node.api() as api:
        assert not [
            e for e in api.get("/api/exchanges").json() if "migrating" in e["name"] and e["vhost"] == vhost.name
        ]
        assert not [p for p in api.get("/api/policies").json() if p["vhost"] == vhost.name]


def test_a_daemon_that_is_killed_at_any_moment_goes_on_where_it_was(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", LONG_BACKLOG)
    both = publishers(vhost.amqp_url, "orders", "events", "order.new", RATE)
    system.write(file_of("quorum"))
    for _ in range(3):
        eventually(lambda: vhost.queues().keys() != {"orders"} or is_migrated(system, vhost, "quorum"), within=90)
        moment = time.monotonic() + random.uniform(0, 0.5)
        eventually(lambda moment=moment: time.monotonic() > moment)
        system.kill()
        system.start()
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=120)
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert_nothing_lost(vhost, confirmed, LONG_BACKLOG)
    assert not list((system.state / "migrations").glob("*.json"))


@pytest.mark.parametrize("moment", ["on the broker's disk", "moved"])
def test_a_broker_that_is_killed_while_messages_move_loses_none(
    on_own_broker: tuple[System, TestVhost], moment: str
) -> None:
    site, vhost = on_own_broker
    begin(site, vhost, "classic", LONG_BACKLOG)
    both = publishers(vhost.amqp_url, "orders", "events", "order.new", RATE)
    site.write(file_of("quorum"))

    def is_the_moment() -> bool:
        """Or later: the earlier one lasts for three seconds, in which a busy daemon may say nothing."""
        reason = str(site.status()["queues"]["orders"]["reason"])
        return moment in reason or "moved" in reason

    eventually(is_the_moment, within=60)
    vhost.node.kill()
    vhost.node.start()
    eventually(lambda: is_migrated(site, vhost, "quorum"), within=120)
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert_nothing_lost(vhost, confirmed, LONG_BACKLOG)


def test_workers_stand_still_meanwhile_and_come_back(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", 0)
    system.write(file_of("quorum", ", workers: {echo: 2}"))
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=60)
    system.settled()
    assert len(system.list_workers(state="ready")) == 2
    system.write(file_of("classic", ", workers: {echo: 2}"))
    stood_still = eventually(lambda: not system.list_workers(queue_name="orders"), within=60, every=0.01)
    assert stood_still
    eventually(lambda: is_migrated(system, vhost, "classic"), within=60)
    assert len(system.settled()["queues"]["orders"]["workers"]) == 1
    assert len(system.list_workers(state="ready")) == 2
    assert system.publish("orders", "after").status_code == 200


def test_refused_is_the_default_and_says_both_values_and_the_ways_out(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", 3)
    system.write(file_of("quorum", on_change="refuse"))
    reason = held(system, "orders")["reason"]
    for part in ("'classic' at the broker", "'quorum' in the file", "on_change: migrate", "recreate-if-empty"):
        assert part in reason
    eventually(lambda: vhost.queues()["orders"].get("messages") == 3)


def test_recreate_if_empty_waits_until_it_is_and_keeps_bindings(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", 2)
    system.write(file_of("quorum", on_change="recreate-if-empty"))
    waiting = held(system, "orders")
    assert waiting["messages"] == 2
    assert "on_change: migrate" in waiting["reason"]
    assert vhost.queues()["orders"]["type"] == "classic"
    with foreign(vhost) as channel:
        channel.queue_purge("orders")
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=60)
    with foreign(vhost) as channel:
        channel.confirm_delivery()
        channel.basic_publish("events", "order.x", b"routed", mandatory=True)


def test_somebody_elses_consumer_holds_it_until_it_goes(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", 5)
    with foreign(vhost) as channel:
        channel.basic_qos(prefetch_count=2)
        channel.basic_consume("orders", lambda *_: None)
        system.write(file_of("quorum"))
        assert "not ours use it" in held(system, "orders")["reason"]
        eventually(lambda: vhost.queues().keys() == {"orders"})  # but for what was to hold its messages
        assert vhost.queues()["orders"]["type"] == "classic"
    assert system.post("/sync").status_code in (200, 202)
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=60)
    assert_nothing_lost(vhost, set(), 5)


def test_what_the_broker_refuses_is_said_before_anything_is_moved(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", 5)
    system.write(file_of("classic", ", arguments: {x-max-priority: -1}"))
    assert "x-max-priority" in held(system, "orders")["reason"]
    eventually(lambda: vhost.queues().keys() == {"orders"})
    eventually(lambda: vhost.queues()["orders"].get("messages") == 5)
