"""`/metrics` of a daemon that runs: what it counts, what it survives, and that deploy/ names only what it exports."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
FILE = "version: 1\nqueues:\n  work:\n    workers:\n      record: 2\n  idle: {}\n"
NAME = re.compile(r"\b(?:reconciler|process)_[a-z0-9_]+\b")


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as made:
        made.write(FILE)
        made.start()
        made.settled()
        yield made


def scraped(site: Site) -> dict[str, dict[tuple[str, ...], float]]:
    """Each sample's value by its name and the values of its labels, in the order of their names."""
    answer = site.get("/metrics")
    assert answer.status_code == 200, answer.text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(v for _, v in sorted(sample.labels.items()))] = sample.value
    return found


def processed(site: Site) -> float:
    return scraped(site)["reconciler_pool_messages_processed_total"]["work", "record"]


def test_it_is_prometheus_text_for_get_and_head(site: Site) -> None:
    answer = site.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE reconciler_reconcile_seconds histogram" in answer.text
    head = site.request("HEAD", "/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]
    assert site.post("/metrics").status_code == 405
    assert "/metrics" in site.get("/openapi.json").json()["paths"]


def test_it_says_where_things_stand(site: Site) -> None:
    found = scraped(site)
    for name in ("synced", "healthy", "broker_connected"):
        assert found[f"reconciler_{name}"] == {(): 1}
    assert found["reconciler_file_rejected"] == {(): 0}
    assert found["reconciler_pool_workers"]["work", "ready", "record"] == 2
    assert found["reconciler_pool_desired_workers"] == {("work", "record"): 2}
    assert found["reconciler_queue_messages_ready"] == {("work",): 0, ("idle",): 0}
    assert found["reconciler_actions_total"]["start", "ok"] == 2
    assert all(rss > 1e6 for rss in found["reconciler_worker_resident_memory_bytes"].values())
    assert len(found["reconciler_worker_resident_memory_bytes"]) == 2

    site.write(FILE + "nonsense: 1\n")
    eventually(lambda: scraped(site)["reconciler_file_rejected"] == {(): 1})


def test_the_counter_of_a_pool_outlives_its_processes(site: Site) -> None:
    """Killed, replaced and scaled down in turn: it counts each message once, and never goes back."""
    sent = 0
    for way in ("kill", "scale", "nothing"):
        site.send("work", [f"{way} {i}" for i in range(20)])
        sent += 20
        eventually(lambda sent=sent: processed(site) == sent)  # type: ignore[misc]
        eventually(lambda: site.vhost.queues()["work"].get("messages") == 0)  # the acks have arrived, too
        if way == "kill":
            for pid in site.pids():
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: scraped(site)["reconciler_pool_restarts_total"]["work", "record"] == 2)
        elif way == "scale":
            assert site.post("/worker/scale/work", {"worker_name": "record", "count": 1}).status_code == 200
        assert processed(site) == sent
    assert len(scraped(site)["reconciler_worker_messages_processed_total"]) == 1


def test_a_restart_of_the_daemon_shows_no_burst_of_old_messages(site: Site) -> None:
    site.send("work", map(str, range(50)))
    eventually(lambda: processed(site) == 50)
    site.kill()
    site.start()
    site.settled()
    eventually(lambda: told(site) == 50)  # what they did before is known to the next daemon, too
    assert processed(site) == 0
    for batch in (2, 3, 4):
        site.send("work", map(str, range(50)))
        eventually(lambda batch=batch: told(site) == 50 * batch)  # type: ignore[misc]
        assert processed(site) == 50 * batch - 50


def told(site: Site) -> int:
    """What the processes themselves have counted."""
    return sum(worker["processed"] for worker in site.list_workers())


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana-dashboard.json").read_text()))


def test_every_metric_that_deploy_names_is_exported(site: Site) -> None:
    site.write(FILE + "  scaled:\n    workers:\n      record: {autoscale: {max: 2, backlog: 9}}\n")
    site.settled()
    site.send("work", ["one"])
    eventually(lambda: processed(site) == 1)
    exprs = [rule["expr"] for rule in rules()]
    exprs += [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    named = {name for expr in exprs for name in NAME.findall(expr)}
    assert len(named) > 30
    unseen = {"reconciler_queue_consumers", "reconciler_pool_last_message_timestamp_seconds"}  # see the next two tests

    def all_exported() -> bool:
        missing = named - unseen - set(scraped(site))
        assert not missing, missing
        return True

    eventually(all_exported)


def test_consumers_are_exported_where_only_amqp_is_there(site: Site) -> None:
    site.stop()
    site.management_url = "http://127.0.0.1:9"
    site.start()
    site.settled()
    eventually(lambda: scraped(site)["reconciler_queue_consumers"] == {("work",): 2, ("idle",): 0})
    assert scraped(site).get("reconciler_queue_messages_unacknowledged", {}) == {}


def test_the_time_of_the_last_message(site: Site) -> None:
    site.send("work", ["one"])
    found = eventually(lambda: scraped(site).get("reconciler_pool_last_message_timestamp_seconds"))
    assert found["work", "record"] > 1.7e9


def test_each_alert_says_what_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Reconciler[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {len(rule["annotations"][part]) > 20 for part in ("summary", "description")} == {True}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)


def test_the_scrape_example_goes_with_the_rules() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]
    (job,) = {job["job_name"] for job in config["scrape_configs"]}
    assert f'job="{job}"' in (DEPLOY / "alerts.yml").read_text()


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    found = dashboard()
    assert found["title"]
    assert found["uid"]
    kinds = {variable["name"]: variable["type"] for variable in found["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "queue": "query"}
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
