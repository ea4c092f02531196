"""Why a queue is as it is, asked of a running daemon on a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pika
import pytest

from reconciler.broker import node
from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

BAD = """\
from .base import BaseWorker


class Bad(BaseWorker):
    def __init__(self, channel, queue_name):
        super().__init__(channel, queue_name)
        raise ModuleNotFoundError("boto3")

    def process_message(self, ch, method, properties, body):
        return True
"""
FILE = "version: 1\nqueues:\n  emails:\n    workers: {echo: 1, bad: 2}\n  a/b ü: {}\n"


@pytest.fixture(scope="module")
def site(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("explain")) as site:
        site.worker("bad", BAD)
        site.write(FILE)
        site.start()
        eventually(lambda: "emails" in site.queues())
        yield site


def sentences(site: Site, queue: str) -> str:
    found = site.get(f"/explain/{quote(queue, safe='')}")
    assert found.status_code == 200, found.text
    assert found.json()["queue_name"] == queue
    return "\n".join(found.json()["sentences"])


def test_a_crash_loop_is_told_with_the_last_words_and_the_next_try(site: Site) -> None:
    def told() -> bool:
        found = sentences(site, "emails")
        assert "echo: desired 1, running 1." in found
        assert 'running 0 because two are in backoff (exit code 1: "ModuleNotFoundError: boto3"' in found
        assert ", next try in " in found
        return True

    eventually(told)
    eventually(lambda: "bad: desired 2, running 0 because" in site.cli("explain", "emails").stdout)


def test_a_queue_with_an_odd_name_is_found_and_one_that_nobody_knows_is_not(site: Site) -> None:
    assert "Queue a/b ü is in the file" in sentences(site, "a/b ü")
    found = site.get("/explain/emials")
    assert found.status_code == 404
    assert "did you mean emails?" in found.json()["error"]
    lost = site.cli("explain", "emials")
    assert lost.returncode == 1
    assert "did you mean emails?" in lost.stderr


def test_a_drift_is_told_with_the_connection_that_made_it(site: Site) -> None:
    parameters = pika.URLParameters(site.vhost.amqp_url)
    parameters.client_properties = {"connection_name": "ops-script"}
    ops = pika.BlockingConnection(parameters)
    try:
        for times in ("once", "twice"):
            eventually(lambda: "emails" in site.queues())  # a drift is told of before it is mended
            ops.channel().queue_delete("emails")

            def told(times: str = times) -> bool:
                ops.process_data_events(0)
                found = sentences(site, "emails")
                assert f"Drift was corrected {times} within an hour" in found
                assert found.count('by connection "ops-script"') == 1
                assert "nobody knows" not in found
                return True

            eventually(told)
    finally:
        ops.close()


def test_with_the_event_exchange_a_drift_is_mended_at_once_and_a_client_that_is_gone_is_known_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "PLUGINS", (*node.PLUGINS, "rabbitmq_event_exchange"))
    broker = TestNode(tmp_path / "broker")
    broker.start()
    try:
        with site_on(broker, tmp_path) as site:
            site.env["RECONCILER_RESYNC"] = "600"
            site.write("version: 1\nqueues:\n  emails: {}\n")
            site.start()
            site.settled()
            eventually(lambda: "listening to" in site.said())
            parameters = pika.URLParameters(site.vhost.amqp_url)
            parameters.client_properties = {"connection_name": "ops-script"}
            with pika.BlockingConnection(parameters) as ops:
                ops.channel().queue_delete("emails")
            eventually(lambda: "emails" in site.queues())
            eventually(lambda: 'by connection "ops-script"' in sentences(site, "emails"))
            with broker.api() as api:
                api.delete(f"/api/queues/{quote(site.vhost.name, safe='')}/emails").raise_for_status()
            eventually(lambda: "over the HTTP API" in sentences(site, "emails"))
            eventually(lambda: "once by connection" in sentences(site, "emails"))
    finally:
        broker.stop()
