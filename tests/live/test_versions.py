"""The whole system on RabbitMQ 4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

FILE = """\
version: 1
exchanges:
  events: {type: topic}
queues:
  plain: {workers: {record: 1}}
  safe:
    type: quorum
    dead_letter: safe.dead
    max_length: 1000
    bindings: [{exchange: events, routing_key: "order.*"}]
    workers: {record: 2}
  history: {type: stream, max_age: 7d}
policies:
  ttl: {pattern: "^dev", apply_to: classic_queues, definition: {message-ttl: 60000}}
"""
REST = "version: 1\nqueues:\n  plain: {workers: {record: 1}}\n"


@pytest.fixture
def site(broker4: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker4, tmp_path) as site:
        yield site


def test_a_life_on_rabbitmq_4(site: Site) -> None:
    site.write(FILE)
    site.start()
    status = site.settled(within=120)
    assert status["broker"]["version"].startswith("4.")
    assert status["warnings"] == []
    assert site.queues() == {"plain", "safe", "safe.dead", "history"}
    for queue in ("plain", "safe"):
        for number in range(20):
            assert site.publish(queue, f"{queue} {number}").status_code == 200
    eventually(lambda: len(site.recorded()) == 40)
    assert site.cli("plan").returncode == 0, "what 4.x adds to a queue is no difference"
    site.write(REST)
    site.settled(within=120)  # the counts of quorum queues and streams must stay zero for a while
    assert site.queues() == {"plain"}
    assert [x["name"] for x in site.vhost.get("exchanges") if x["name"] and not x["name"].startswith("amq.")] == []
    assert site.vhost.get("policies") == []


def test_a_classic_queue_is_classic_whatever_the_virtual_host_makes_by_default(site: Site) -> None:
    with site.vhost.node.api() as api:
        path = f"/api/vhosts/{quote(site.vhost.name, safe='')}"
        api.put(path, json={"default_queue_type": "quorum"}).raise_for_status()
    site.write("version: 1\nqueues:\n  plain: {}\n")
    site.start()
    site.settled(within=120)
    assert [queue["type"] for queue in site.vhost.queues().values()] == ["classic"]
    assert site.cli("plan").returncode == 0


def test_what_4_refuses_or_ignores_is_said_where_people_look(site: Site) -> None:
    mirrored = "policies:\n  ha: {pattern: x, definition: {ha-mode: all}}\n"
    site.write("version: 1\nqueues:\n  brief: {durable: false}\n" + mirrored)
    site.start()

    def warned() -> dict[str, str]:
        return {w["path"]: w["severity"] for w in site.status()["warnings"]}

    eventually(lambda: warned() == {"policies.ha.definition.ha-mode": "error", "queues.brief.durable": "warning"})
    checked = site.cli("validate")
    assert checked.returncode == 1
    assert "queues.yaml:3:20: warning: queues.brief.durable: transient queues" in checked.stderr
    assert "queues.yaml:5:33: policies.ha.definition.ha-mode: RabbitMQ 4.0 has no mirrored queues" in checked.stderr
    older = site.cli("validate", "--broker-version", "3.10.8")
    assert older.returncode == 0
    assert "mirrored queues are gone in RabbitMQ 4.0" in older.stderr
    assert site.cli("validate", "--broker-version", "new").returncode == 1
    assert "mirrored queues" in site.said()
