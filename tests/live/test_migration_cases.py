"""Queues become other ones while something is unusual: an alarm, priorities, large messages, no room, two at once."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from urllib.parse import quote

import pika
import pytest

from tests.live.publishers import Publisher, first_seen, take_all
from tests.live.test_migration import BACKLOG, assert_nothing_lost, begin, file_of, is_migrated
from tests.live.test_removal import foreign
from tests.nodes import TestVhost
from tests.system import System
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(480)

PERSISTENT = pika.BasicProperties(delivery_mode=2)
MIB = 1024 * 1024


def one_queue(keys: str) -> str:
    return f"version: 1\nqueues:\n  orders: {{on_change: migrate, {keys}}}\n"


def fill(vhost: TestVhost, bodies: list[bytes], queue: str = "orders") -> None:
    with foreign(vhost) as channel:
        channel.tx_select()  # with one confirm for all of them: a disk that is slow for each takes a minute
        for body in bodies:
            channel.basic_publish("", queue, body, PERSISTENT, mandatory=True)
        channel.tx_commit()


def reason(system: System, queue: str = "orders") -> str:
    return str(system.status()["queues"][queue]["reason"])


def test_two_queues_at_once_lose_nothing_and_cannot_be_cleared_meanwhile(system: System, vhost: TestVhost) -> None:
    def text(kind: str) -> str:
        queues = "".join(f"  {name}: {{type: {kind}, on_change: migrate}}\n" for name in ("orders", "mails"))
        return f"version: 1\nqueues:\n{queues}"

    system.write(text("classic"))
    system.start()
    system.settled()
    old = {name: [f"old:{n}".encode() for n in range(1, BACKLOG + 1)] for name in ("orders", "mails")}
    for name, bodies in old.items():
        fill(vhost, bodies, name)
    both = [Publisher(vhost.amqp_url, name, "", name, 100).start() for name in old]
    system.write(text("quorum"))
    eventually(lambda: all("migrating" in reason(system, name) for name in old))
    refused = system.post("/queue/clear/orders")
    assert refused.status_code == 409
    assert "being migrated" in refused.json()["error"]
    refused = system.delete("orders", force="true")
    assert (refused.status_code, "being migrated" in refused.json()["error"]) == (409, True)
    assert "orders:" in system.text
    eventually(lambda: system.status()["synced"] and {q["type"] for q in vhost.queues().values()} == {"quorum"}, 120)
    eventually(lambda: vhost.queues().keys() == old.keys())
    for name, publisher in zip(old, both, strict=True):
        confirmed = publisher.stop()
        found = take_all(vhost.amqp_url, name)
        assert set(found) == confirmed | set(old[name])
        assert first_seen(found, "old") == list(range(1, BACKLOG + 1))


def test_in_an_alarm_it_waits_says_so_and_goes_on(on_own_broker: tuple[System, TestVhost]) -> None:
    site, vhost = on_own_broker
    begin(site, vhost, "classic", BACKLOG)
    vhost.node.ctl("set_vm_memory_high_watermark", "0.00001")
    try:
        site.write(file_of("quorum"))
        eventually(lambda: "the broker takes no messages now" in reason(site), within=60)
        assert vhost.queues()["orders"]["type"] == "classic"
    finally:
        vhost.node.ctl("set_vm_memory_high_watermark", "0.4")
    eventually(lambda: is_migrated(site, vhost, "quorum"), within=90)
    assert first_seen(take_all(vhost.amqp_url, "orders"), "old") == list(range(1, BACKLOG + 1))


def test_each_priority_keeps_its_order(system: System, vhost: TestVhost) -> None:
    system.write(one_queue("type: classic, arguments: {x-max-priority: 3}"))
    system.start()
    system.settled()
    with foreign(vhost) as channel:
        channel.confirm_delivery()
        for number in range(1, 301):
            urgent = pika.BasicProperties(delivery_mode=2, priority=number % 4)
            channel.basic_publish("", "orders", f"{number % 4}:{number}".encode(), urgent, mandatory=True)
    system.write(one_queue("type: classic, arguments: {x-max-priority: 9}"))

    def highest() -> object:
        arguments = vhost.queues().get("orders", {}).get("arguments") or {}
        return dict(arguments).get("x-max-priority")  # type: ignore[call-overload]

    eventually(lambda: highest() == 9, within=60)
    system.settled(within=60)
    found = [tuple(map(int, body.split(b":"))) for body in take_all(vhost.amqp_url, "orders")]
    assert found == sorted(found, key=lambda message: (-message[0], message[1]))
    assert sorted(number for _, number in found) == list(range(1, 301))


def test_large_messages_arrive_byte_for_byte(system: System, vhost: TestVhost) -> None:
    system.write(one_queue("type: classic"))
    system.start()
    system.settled()
    bodies = [bytes([number]) * size for number, size in enumerate((20 * MIB, 1, 40 * MIB, 0, 131_072, 131_064, 3))]
    fill(vhost, bodies)
    system.write(one_queue("type: quorum"))
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=120)
    found = take_all(vhost.amqp_url, "orders")
    assert [hashlib.sha256(body).digest() for body in found] == [hashlib.sha256(body).digest() for body in bodies]


KEEP = """
import os
import time
from .base import BaseWorker


class Keep(BaseWorker):
    def process_message(self, ch, method, properties, body):
        time.sleep(0.01)
        with open(os.environ["KEPT"], "ab") as file:
            file.write(body + b"\\n")
"""


def test_where_the_new_queue_has_no_room_the_workers_come_back_early(
    system: System, vhost: TestVhost, tmp_path: Path
) -> None:
    """Before it begins it would refuse to: so the messages that are too many come while it is under way."""
    kept = tmp_path / "kept"
    workers = f"workers: {{keep: {{count: 1, prefetch: 1, env: {{KEPT: {kept}}}}}}}"
    system.worker("keep", KEEP)
    system.write(one_queue("type: classic"))
    system.start()
    system.settled()
    fill(vhost, [f"old:{number}".encode() for number in range(1, 1001)])
    publisher = Publisher(vhost.amqp_url, "new", "", "orders", 200).start()
    system.write(one_queue(f"type: quorum, arguments: {{x-max-length: 1200, x-overflow: reject-publish}}, {workers}"))
    reasons = set()

    def is_done() -> bool:
        reasons.add(reason(system))
        return is_migrated(system, vhost, "quorum")

    eventually(is_done, within=120, every=0.02)
    confirmed = publisher.stop()
    assert [text for text in reasons if "is full" in text], reasons
    wanted = confirmed | {f"old:{number}".encode() for number in range(1, 1001)}
    # Not their order: a full queue takes the one message, and not the one before it.
    eventually(lambda: kept.exists() and set(kept.read_bytes().split()) == wanted, within=120)


def limited(vhost: TestVhost, configure: str, tags: str) -> tuple[str, str]:
    """The addresses, AMQP and HTTP, of this virtual host for a user with fewer rights."""
    name = f"limited-{hashlib.sha256(vhost.name.encode()).hexdigest()[:8]}"
    rights = {"configure": configure, "write": ".*", "read": ".*"}
    with vhost.node.api() as api:
        api.put(f"/api/users/{name}", json={"password": "secret", "tags": tags}).raise_for_status()
        api.put(f"/api/permissions/{quote(vhost.name, safe='')}/{name}", json=rights).raise_for_status()

    def at(url: str) -> str:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{name}:secret@{rest.partition('@')[2]}"

    return at(vhost.amqp_url), at(vhost.management_url)


@pytest.mark.parametrize(
    ("configure", "tags"),
    [(".*", "monitoring"), (r"^(?!.*\.caught).*$", "administrator")],
    ids=["no administrator", "may not make the queue of the firehose"],
)
def test_without_the_firehose_it_waits_until_nobody_publishes(
    system: System, vhost: TestVhost, configure: str, tags: str
) -> None:
    system.amqp_url, system.management_url = limited(vhost, configure, tags)
    begin(system, vhost, "classic", BACKLOG)
    publisher = Publisher(vhost.amqp_url, "new", "", "orders", 100).start()
    system.write(file_of("quorum"))
    eventually(lambda: "waiting for publishers to the default exchange to pause" in reason(system), within=60)
    assert vhost.queues()["orders"]["type"] == "classic"
    confirmed = publisher.stop()
    eventually(lambda: is_migrated(system, vhost, "quorum"), within=90)
    assert_nothing_lost(vhost, confirmed, BACKLOG)


def test_a_user_who_may_make_no_queue_beside_it_is_told_so_and_nothing_is_touched(
    system: System, vhost: TestVhost
) -> None:
    system.amqp_url, system.management_url = limited(vhost, "^(orders|events)$", "monitoring")
    begin(system, vhost, "classic", 10)
    system.write(file_of("quorum"))
    eventually(lambda: "not done: " in (why := reason(system)) and "refused for user" in why)
    eventually(lambda: vhost.queues().keys() == {"orders"})
    assert vhost.queues()["orders"]["type"] == "classic"
    assert take_all(vhost.amqp_url, "orders") == [f"old:{number}".encode() for number in range(1, 11)]


def test_what_rest_publishes_meanwhile_is_there(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", BACKLOG)
    taken: list[str] = []
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            text = f"rest:{len(taken) + 1}"
            answer = system.publish("orders", text)
            assert answer.status_code == 200, answer.text
            taken.append(text)

    client = threading.Thread(target=publish)
    client.start()
    try:
        system.write(file_of("quorum"))
        eventually(lambda: is_migrated(system, vhost, "quorum"), within=120)
    finally:
        stop.set()
        client.join(120)
    assert not client.is_alive()
    found = take_all(vhost.amqp_url, "orders")
    bodies = {json.loads(body)["message"] if body.startswith(b"{") else body.decode() for body in found}
    assert set(taken) <= bodies
    assert len(taken) > 5
    assert bodies - set(taken) == {f"old:{number}" for number in range(1, BACKLOG + 1)}


def test_one_whose_entry_goes_meanwhile_is_still_the_queue_that_we_made(system: System, vhost: TestVhost) -> None:
    begin(system, vhost, "classic", BACKLOG)
    system.write(file_of("quorum"))
    eventually(lambda: "migrating" in reason(system))
    system.write("version: 1\nqueues: {other: {}}\n")

    def is_replaced() -> bool:
        found = vhost.queues()
        return found.keys() == {"orders", "other"} and found["orders"]["type"] == "quorum"

    eventually(is_replaced, within=60)
    held = eventually(lambda: (system.status()["held"] or {}).get("actions"))
    eventually(lambda: f"{BACKLOG} messages" in str(system.status()["held"]))
    assert held
    assert "not the queue that we made" not in str(system.status()["held"])
    take_all(vhost.amqp_url, "orders")
    eventually(lambda: vhost.queues().keys() == {"other"}, within=60)
