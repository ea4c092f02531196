"""Exchanges, bindings, policies and friendly keys on a real broker, under a daemon; others make the drift.

The others are rabbitmqadmin, as RabbitMQ serves it, and AMQPStorm: neither is what the daemon itself uses.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqpstorm
import pika
import pytest

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

FILE = """\
version: 1
exchanges:
  events: {type: topic}
  audit:
    type: fanout
    bindings:
      - {exchange: events, routing_key: "#"}
queues:
  orders:
    type: quorum
    message_ttl: 10m
    max_length_bytes: 2GiB
    delivery_limit: 7
    dead_letter: orders.dead
    bindings:
      - {exchange: events, routing_key: "order.*"}
      - {exchange: events, routing_key: "refund.*"}
      - {exchange: amq.headers, arguments: {x-match: any, kind: order, n: 1}}
  log:
    type: stream
    max_age: 7d
    bindings: [{exchange: audit}]
  vip: {max_priority: 5, single_active_consumer: true, overflow: reject-publish, max_length: 10}
  shown:
    drift: report
    message_ttl: 1h
    bindings: [{exchange: events, routing_key: shown}]
policies:
  ttl: {pattern: "^(dev\\\\.|vip)", apply_to: queues, priority: 1, definition: {message-ttl: 60000}}
"""


class Admin:
    """rabbitmqadmin, as an operator runs it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._script = folder / "rabbitmqadmin"
        with site.vhost.node.api() as api:
            self._script.write_text(api.get("/cli/rabbitmqadmin").raise_for_status().text)
        at = urlsplit(site.vhost.management_url)
        known = ["-H", at.hostname, "-P", str(at.port), "-u", at.username, "-p", at.password, "-V", site.vhost.name]
        self._command = [sys.executable, "-W", "ignore", str(self._script), *map(str, known)]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def site(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("topology")) as site:
        site.env["RECONCILER_RESYNC"] = "0.5"
        site.write(FILE)
        site.start()
        yield site


@pytest.fixture(scope="module")
def admin(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Admin:
    return Admin(site, tmp_path_factory.mktemp("admin"))


@pytest.fixture(autouse=True)
def at_rest(site: Site) -> None:
    """Each test begins with the broker as the file says."""
    site.write(FILE)
    site.settled()


def bindings(site: Site) -> set[tuple[str, str, str]]:
    found = site.vhost.get("bindings")
    return {(b["source"], b["destination"], b["routing_key"]) for b in found if b["source"]}


def effective(site: Site, queue: str) -> dict[str, Any]:
    found = next((q for q in site.vhost.get("queues") if q["name"] == queue), {})
    return dict(found.get("effective_policy_definition") or {})


def policies(site: Site) -> dict[str, dict[str, Any]]:
    return {policy["name"]: policy for policy in site.vhost.get("policies")}


def storm(site: Site) -> amqpstorm.Connection:
    return amqpstorm.UriConnection(f"{site.vhost.amqp_url}?timeout=60")


WHOLE = {
    ("events", "audit", "#"), ("events", "orders", "order.*"), ("events", "orders", "refund.*"),
    ("amq.headers", "orders", ""), ("audit", "log", ""), ("events", "shown", "shown"),
}  # fmt: skip


def test_the_whole_file_comes_to_the_broker_and_then_nothing_is_left_to_do(site: Site) -> None:
    assert bindings(site) == WHOLE
    exchanges = {x["name"]: x["type"] for x in site.vhost.get("exchanges")}
    assert (exchanges["events"], exchanges["audit"]) == ("topic", "fanout")
    carried = {"message-ttl": 600_000, "max-length-bytes": 2**31, "delivery-limit": 7}
    merged = {"message-ttl": 60_000, "overflow": "reject-publish", "max-length": 10}

    def carry_it() -> bool:
        """Queues hear of a policy one after another, and say so later still."""
        assert effective(site, "orders") == carried
        assert effective(site, "log") == {"max-age": "604800s"}
        assert effective(site, "vip") == merged, "its own keys, and what the file's policy for it says"
        return True

    eventually(carry_it)
    queues = site.vhost.queues()
    assert queues["vip"]["arguments"] == {"x-max-priority": 5, "x-single-active-consumer": True}
    plan = site.cli("plan")
    assert (plan.returncode, plan.stdout.strip().splitlines()[0]) == (0, "nothing to do")


def test_an_edit_of_a_friendly_key_applies_in_place_with_the_messages_still_there(site: Site) -> None:
    site.send("vip", ["1", "2"])
    site.write(FILE.replace("max_length: 10", "max_length: 3"))
    site.settled()
    eventually(lambda: effective(site, "vip").get("max-length") == 3)
    assert site.vhost.queues()["vip"]["messages"] == 2
    site.write(FILE.replace("max_length: 10}", "message_ttl: 1d}"))
    site.settled()
    eventually(lambda: effective(site, "vip") == {"message-ttl": 86_400_000, "overflow": "reject-publish"})
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as other:
        other.channel().queue_purge("vip")


DRIFTS: dict[str, Callable[[Admin], object]] = {
    "queue vip": lambda admin: admin("delete", "queue", "name=vip"),
    "exchange audit": lambda admin: admin("delete", "exchange", "name=audit"),
    "events → queue orders with order.*": lambda admin: admin(
        "delete", "binding", "source=events", "destination=orders", "destination_type=queue", "properties_key=order.%2A"
    ),
    "policy reconciler.vip": lambda admin: admin("delete", "policy", "name=reconciler.vip"),
    "message-ttl is 5 at the broker and 60000 in the file": lambda admin: admin(
        "declare", "policy", "name=ttl", "pattern=^dev", 'definition={"message-ttl":5}', "apply-to=queues"
    ),
}


@pytest.mark.parametrize("what", DRIFTS)
def test_what_rabbitmqadmin_changes_is_seen_told_and_mended(site: Site, admin: Admin, what: str) -> None:
    kept, before = site.said(), policies(site)
    DRIFTS[what](admin)

    def mended() -> bool:
        assert what in site.said().removeprefix(kept)
        assert bindings(site) == WHOLE
        assert policies(site) == before
        return "vip" in site.queues()

    eventually(mended)
    site.settled()


def test_an_exchange_that_amqpstorm_makes_with_another_type_is_refused_with_both_values(site: Site) -> None:
    def made() -> bool:
        with storm(site) as connection, connection.channel() as channel:
            channel.exchange.delete("audit")
            try:
                channel.exchange.declare("audit", "direct", durable=True)
            except amqpstorm.AMQPChannelError:  # the daemon was there before
                return False
            return True

    def held() -> bool:
        actions = (site.status()["held"] or {"actions": []})["actions"]
        return any("type is 'direct' at the broker and 'fanout' in the file" in h["reason"] for h in actions)

    eventually(made)
    eventually(held)
    with storm(site) as connection, connection.channel() as channel:
        channel.exchange.delete("audit")
    site.settled()
    assert bindings(site) == WHOLE


def test_drift_that_is_only_to_be_reported_is_shown_and_left_also_by_the_next_daemon(site: Site) -> None:
    with storm(site) as connection, connection.channel() as channel:
        channel.queue.unbind("shown", "events", "shown")

    def told() -> bool:
        status = site.status()
        assert not status["queues"]["shown"]["synced"]
        assert "events → queue shown with shown was gone" in status["queues"]["shown"]["reason"]
        assert len(status["drift"]) == 1, status["drift"]
        (drift,) = status["drift"]
        return (drift["kind"], drift["queue"], drift["corrected"]) == ("binding", "shown", False)

    eventually(told)
    site.stop()
    site.start()
    eventually(told)
    assert ("events", "shown", "shown") not in bindings(site)
    site.write(FILE.replace("drift: report", "drift: correct"))
    site.settled()
    assert bindings(site) == WHOLE


def test_a_binding_of_somebody_else_is_shown_and_left(site: Site, admin: Admin) -> None:
    admin("declare", "binding", "source=events", "destination=orders", "routing_key=theirs")

    def shown() -> bool:
        found = site.status()["queues"]["orders"]
        return bool(found["synced"] and found.get("foreign_bindings") == ["events → queue orders with theirs"])

    eventually(shown)
    eventually(lambda: "somebody else bound events → queue orders with theirs" in site.said())
    site.write(FILE.replace("refund", "return"))
    site.settled()
    assert bindings(site) == (WHOLE - {("events", "orders", "refund.*")}) | {
        ("events", "orders", "theirs"),
        ("events", "orders", "return.*"),
    }
    admin("delete", "binding", "source=events", "destination=orders", "destination_type=queue", "properties_key=theirs")


def test_a_policy_of_somebody_else_that_matches_a_queue_is_taken_along(site: Site, admin: Admin) -> None:
    admin("declare", "policy", "name=theirs", "pattern=.*", 'definition={"expires":86400000}', "priority=5000")
    own = {"overflow": "reject-publish", "max-length": 10}
    # Until ours is above it again, theirs applies alone.
    eventually(lambda: effective(site, "vip") == own | {"expires": 86_400_000})
    site.settled()
    admin("delete", "policy", "name=theirs")
    eventually(lambda: effective(site, "vip") == own | {"message-ttl": 60_000})


def test_no_routed_message_falls_between_two_routing_keys(site: Site) -> None:
    """A publisher with `mandatory` sends what matches the old key and the new one while the file changes from one to
    the other: none comes back."""
    lost: list[str] = []
    sent = 0
    done = threading.Event()
    moving = '  moving: {bindings: [{exchange: moves, routing_key: "move.*"}]}'
    old = FILE.replace("queues:", f"  moves: {{type: topic}}\nqueues:\n{moving}", 1)
    new = old.replace('"move.*"', '"move.#"')
    site.write(old)
    site.settled()

    def publish() -> None:
        nonlocal sent
        with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            while not done.is_set():
                try:
                    channel.basic_publish("moves", "move.x", str(sent).encode(), mandatory=True)
                except pika.exceptions.UnroutableError:
                    lost.append(str(sent))
                sent += 1

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        for file in (new, old, new):
            so_far = sent
            eventually(lambda before=so_far: sent > before + 10)  # it goes on while the file changes
            site.write(file)
            site.settled()
    finally:
        done.set()
        publisher.join()
    assert sent > 20
    assert lost == []
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as other:
        other.channel().queue_purge("moving")


def test_what_left_the_file_goes_if_it_is_ours(site: Site, admin: Admin) -> None:
    admin("declare", "exchange", "name=theirs", "type=fanout")
    extra = "  extra: {}\nqueues:"
    site.write(FILE.replace("queues:", extra).replace("bindings: [{exchange: audit}]", "bindings: [{exchange: extra}]"))
    site.settled()
    assert ("extra", "log", "") in bindings(site)
    site.write(FILE)
    site.settled()
    exchanges = {x["name"] for x in site.vhost.get("exchanges")}
    assert "extra" not in exchanges
    assert "theirs" in exchanges
    assert bindings(site) == WHOLE


def test_a_queue_is_created_with_all_of_it_over_rest_and_listed_so(site: Site) -> None:
    binding = {"exchange": "events", "routing_key": "made"}
    body = {"queue_name": "made", "type": "quorum", "message_ttl": "5m", "delivery_limit": 3, "bindings": [binding]}
    made = site.post("/queue/create", body)
    assert (made.status_code, made.json()["converged"]) == (201, True), made.text
    assert ("events", "made", "made") in bindings(site)
    assert policies(site)["reconciler.made"]["definition"] == {"message-ttl": 300_000, "delivery-limit": 3}
    (listed,) = site.get("/queue/list", queue_names="made").json()["queues"]
    assert (listed["message_ttl"], listed["delivery_limit"], listed["synced"]) == (300, 3, True)
    assert listed["bindings"] == [{"exchange": "events", "routing_key": "made", "arguments": {}}]
    assert site.post("/queue/create", body).status_code == 200
    assert site.post("/queue/create", body | {"message_ttl": "6m"}).status_code == 409
    wrong = site.post("/queue/create", {"queue_name": "x", "type": "stream", "message_ttl": "5m"})
    assert wrong.status_code == 422
    assert "a stream queue has no message_ttl" in wrong.text
    assert site.delete("made", wait=60).status_code == 200, "a quorum queue's counts must stay zero for a while"
    eventually(lambda: "reconciler.made" not in policies(site))


def test_on_rabbitmq_4_apply_alone_brings_it_all_and_what_the_broker_adds_is_no_drift(
    broker4: TestNode, tmp_path: Path
) -> None:
    with site_on(broker4, tmp_path) as site:
        site.write(FILE)
        done = site.cli("apply", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert bindings(site) == WHOLE
        eventually(lambda: effective(site, "orders").get("delivery-limit") == 7)
        plan = site.cli("plan")
        assert (plan.returncode, plan.stdout.strip().splitlines()[0]) == (0, "nothing to do")
        with storm(site) as connection, connection.channel() as channel:
            channel.queue.unbind("shown", "events", "shown")
        plan = site.cli("plan")
        assert "drift: report only shows it" in plan.stdout, "without a daemon, too"
        assert site.cli("apply", "--yes").returncode == 1
        assert ("events", "shown", "shown") not in bindings(site)
