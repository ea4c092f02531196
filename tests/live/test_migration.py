"""A queue becomes another one with all its messages, while publishers go on, whatever is killed meanwhile."""

from __future__ import annotations

from typing import Any

import pika
import pytest

from tests.live.publishers import first_seen, publishers, take_all
from tests.live.test_removal import foreign
from tests.nodes import TestVhost
from tests.system import System
from tests.waiting import eventually

BACKLOG = 2_000
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


@pytest.mark.parametrize(("before", "after"), [("classic", "quorum"), ("quorum", "classic")])
def test_a_queue_is_migrated_under_publishers_and_nothing_is_lost(
    system: System, vhost: TestVhost, before: str, after: str
) -> None:
    begin(system, vhost, before, BACKLOG)
    both = publishers(vhost.amqp_url, "orders", "events", "order.new", RATE)
    system.write(file_of(after))
    shown = eventually(lambda: "migrating" in (system.status()["queues"]["orders"]["reason"] or ""))
    assert shown
    eventually(lambda: is_migrated(system, vhost, after), within=120)
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert_nothing_lost(vhost, confirmed, BACKLOG)
    with vhost.node.api() as api:
        assert not [
            e for e in api.get("/api/exchanges").json() if "migrating" in e["name"] and e["vhost"] == vhost.name
        ]
        assert not [p for p in api.get("/api/policies").json() if p["vhost"] == vhost.name]
