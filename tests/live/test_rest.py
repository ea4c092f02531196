"""REST writes the file: shapes, errors, names of every kind, a hundred writers at once, and nothing else changed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pika
import pytest

from state.reader import parse
from tests.nodes import TestNode, TestVhost
from tests.system import System
from tests.waiting import eventually

NAMES = [
    "with space",
    "a/b",
    "a..b",
    "ünï·cødé 😀",
    "%2F",
    "q?x=1#y",
    "007",
    "on",
    "~",
    "- x",
    "x: y",
    "é" * 127,
    "q" * 255,
]
WORKER_KEYS = {
    "pid", "worker_name", "queue_name", "slot", "state", "started_at", "restarts", "consumer_tag", "processed",
    "failed", "rss_bytes", "cpu_percent", "log_url", "view_url",
}  # fmt: skip
QUEUE_KEYS = {
    "name", "type", "durable", "arguments", "vhost", "state", "messages", "messages_ready", "messages_unacknowledged",
    "worker_count", "workers", "worker_pids", "managed", "synced",
}  # fmt: skip
SLOW = """\
import os, time
from .base import BaseWorker

class Slow(BaseWorker):
    def process_message(self, ch, method, properties, body):
        self.logger.info("began")
        while not os.path.exists("go"):
            time.sleep(0.02)
        self.logger.info("ended")
"""


@pytest.fixture(scope="module")
def vhost(broker: TestNode) -> Iterator[TestVhost]:
    made = broker.make_vhost("rest")
    yield made
    broker.drop_vhost(made.name)


@pytest.fixture(scope="module")
def site(vhost: TestVhost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One daemon for this module; each test has queues of its own."""
    made = System(tmp_path_factory.mktemp("rest") / "site", vhost.amqp_url, vhost.management_url)
    made.worker("slow", SLOW)
    made.start()
    yield made
    made.stop()


def path_of(kind: str, name: str) -> str:
    return f"{kind}/{quote(name, safe='')}"


def messages_in(vhost: TestVhost, queue: str) -> int:
    return int(vhost.queues()[queue]["messages"])  # type: ignore[call-overload]


# -- the life of a queue -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_a_queue_of_any_name_lives_its_life(site: System, vhost: TestVhost, name: str) -> None:
    created = site.post("/queue/create", {"queue_name": name})
    assert (created.status_code, created.json()["queue_name"]) == (201, name)
    assert created.json()["message"]
    assert created.json()["revision"]
    assert name in parse(site.file.read_bytes()).queues
    published = site.request("POST", path_of("/queue/publish", name), json={"message": {"to": "ann"}})
    assert (published.status_code, published.json()["queue"]) == (200, name)
    assert messages_in(vhost, name) == 1
    assert site.delete(name).status_code == 409
    cleared = site.request("POST", path_of("/queue/clear", name))
    assert (cleared.status_code, cleared.json()["messages_removed"], cleared.json()["workers_stopped"]) == (200, 1, 0)
    scaled = site.request("POST", path_of("/worker/scale", name), json={"worker_name": "echo", "count": 1})
    assert (scaled.status_code, scaled.json()["current_count"]) == (200, 1), scaled.text
    assert site.request("GET", path_of("/worker", name)).json()["worker_count"] == 1
    assert site.delete(name).status_code == 200
    assert name not in vhost.queues()
    assert name not in parse(site.file.read_bytes()).queues


def test_create_again_is_200_and_with_other_properties_409(site: System) -> None:
    body = {"queue_name": "again", "arguments": {"x-max-length": 5}, "workers": {"echo": 1}}
    assert site.post("/queue/create", body).status_code == 201
    before = site.text
    assert site.post("/queue/create", body).status_code == 200
    other = site.post("/queue/create", {**body, "arguments": {"x-max-length": 6}})
    assert other.status_code == 409
    assert "is in queues.yaml with other properties" in other.json()["error"]
    assert "x-max-length" in other.json()["error"]
    assert site.text == before


def test_create_again_is_converged_no_sooner_than_it_is_true(system: System) -> None:
    system.amqp_url, system.management_url = "amqp://127.0.0.1:1/", None
    system.start(ready=False)
    for status in (202, 200):
        answer = system.post("/queue/create", {"queue_name": "again"}, wait=0)
        assert (answer.status_code, answer.json()["converged"]) == (status, False)


def test_create_beside_a_foreign_queue_with_other_properties_is_409_and_writes_nothing(
    site: System, vhost: TestVhost
) -> None:
    declare(vhost, "foreign", arguments={"x-max-length": 1})
    before = site.text
    assert site.post("/queue/create", {"queue_name": "foreign"}).status_code == 409
    assert site.text == before


def test_an_edit_changes_the_lines_it_must_and_no_other(live_system: System) -> None:
    site = live_system
    site.write(
        "# head\nversion: 1   # one\n\nqueues:\n\n  'b':   {}  # bee\n  # about a\n  a:\n    workers: {echo: 1} # e\n"
    )
    site.settled()
    before = site.text.splitlines()
    assert site.post("/worker/scale/a", {"count": 2}).status_code == 200
    after = site.text.splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ("    workers: {echo: 1} # e", "    workers: {echo: 2} # e")
    ]


# -- the answers' shapes -----------------------------------------------------------------------------------------


def test_the_shapes_of_lists_and_scaling(site: System) -> None:
    site.post("/queue/create", {"queue_name": "shapes", "type": "quorum", "workers": {"echo": 1}})
    scaled = site.post("/worker/scale/shapes", {"count": 3, "worker_name": "echo"}).json()
    assert (scaled["previous_count"], scaled["current_count"], scaled["target_count"]) == (1, 3, 3)
    assert (scaled["workers_added"], scaled["workers_removed"], scaled["status"]) == (2, 0, "scaled")
    assert scaled["success"] is True
    assert scaled["message"]
    site.settled()  # all of them are ready, which the turn that started them need not have seen yet
    listed = site.get("/queue/list", queue_names="shapes,no such").json()
    assert (listed["status"], listed["queue_count"]) == ("success", 1)
    (queue,) = listed["queues"]
    assert queue.keys() >= QUEUE_KEYS
    assert (queue["type"], queue["managed"], queue["synced"], queue["worker_count"]) == ("quorum", True, True, 3)
    workers = site.get("/worker/list", queue_name="shapes", worker_name="echo", state="ready").json()
    assert workers["worker_count"] == 3
    assert all(worker.keys() >= WORKER_KEYS for worker in workers["workers"])
    assert {w["pid"] for w in workers["workers"]} == set(queue["worker_pids"])
    with_logs = site.post("/worker/workers", {"queue_name": "shapes"}).json()["workers"]
    assert all(httpx.get(w["log_file"]["full_url"], timeout=60).status_code == 200 for w in with_logs)


def test_the_body_on_the_queue_is_what_clients_expect(site: System, vhost: TestVhost) -> None:
    site.post("/queue/create", {"queue_name": "body"})
    request = {"message": [1, {"a": "ü"}], "headers": {"h": "v"}, "priority": 3, "expiration": 600000}
    answer = site.post("/queue/publish/body", request).json()
    properties, body = take(vhost, "body")
    assert json.loads(body).keys() == {"message", "timestamp", "message_id"}
    assert json.loads(body)["message"] == [1, {"a": "ü"}]
    assert json.loads(body)["message_id"] == answer["message_id"] == properties.message_id
    assert (properties.delivery_mode, properties.priority, properties.expiration) == (2, 3, "600000")
    assert properties.headers == {"h": "v"}


# -- errors ------------------------------------------------------------------------------------------------------

HOSTILE = [b"", b"  ", b"{", b"nul", b"\xff\xfe", b'{"count": NaN}', b'{"a": 1e999}', b"[" * 100_000, b'{"a":' * 50_000]


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body[:12]))
def test_what_is_not_json_is_400(site: System, body: bytes) -> None:
    for path in ("/queue/create", "/worker/scale/x", "/queue/publish/x", "/worker/workers"):
        answer = site.request("POST", path, content=body)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["error"]


def test_the_status_counts_what_came_since_the_last_turn(site: System) -> None:
    site.post("/queue/create", {"queue_name": "counted"})
    site.post("/queue/publish/counted", {"message": 1})
    eventually(lambda: site.get("/status").json()["queues"]["counted"]["messages"] == 1)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/queue/create", [], 422),
        ("/queue/create", {}, 422),
        ("/queue/create", {"queue_name": 5}, 422),
        ("/queue/create", {"queue_name": ""}, 422),
        ("/queue/create", {"queue_name": "q" * 256}, 422),
        ("/queue/create", {"queue_name": "amq.q"}, 422),
        ("/queue/create", {"queue_name": "\ud800"}, 422),
        ("/queue/create", {"queue_name": "x", "durable": "yes"}, 422),
        ("/queue/create", {"queue_name": "x", "tpye": "quorum"}, 422),
        ("/queue/create", {"queue_name": "x", "retry": {}}, 422),
        ("/queue/create", {"queue_name": "x", "arguments": {"a": "\ud800"}}, 422),
        ("/queue/create", {"queue_name": "x", "workers": {"no_such_module": 1}}, 422),
        ("/worker/scale/known", {}, 422),
        ("/worker/scale/known", {"count": "3"}, 422),
        ("/worker/scale/known", {"count": True}, 422),
        ("/worker/scale/known", {"count": -1}, 422),
        ("/worker/scale/known", {"count": 1.5}, 422),
        ("/worker/scale/known", {"count": 10**30}, 422),
        ("/worker/scale/known", {"count": 1, "worker_name": "nobody"}, 400),
        ("/worker/scale/no%20such", {"count": 1, "worker_name": "echo"}, 404),
        ("/queue/publish/known", {}, 422),
        ("/queue/publish/known", {"message": 1, "headers": []}, 422),
        ("/queue/publish/known", {"message": 1, "headers": {"n": 2**70}}, 422),
        ("/queue/publish/known", {"message": 1, "priority": 300}, 422),
        ("/queue/publish/known", {"message": 1, "expiration": "soon"}, 422),
        ("/queue/publish/no%20such", {"message": 1}, 404),
        ("/queue/clear/no%20such", {}, 404),
        ("/worker/workers", {"queue_name": "no such"}, 404),
        ("/sync", {"confirm": "0123456789"}, 409),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_breaks_the_schema_says_what_would_be_right(site: System, path: str, body: object, status: int) -> None:
    site.post("/queue/create", {"queue_name": "known", "workers": {"echo": 0}})
    before = site.text
    answer = site.request("POST", path, content=json.dumps(body).encode())
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]
    if status == 422:
        assert all(fault.keys() == {"path", "message"} for fault in answer.json()["details"])
    if status == 400:
        assert "echo" in answer.json()["available_names"]
    assert site.text == before


def test_other_errors_are_json_too(site: System) -> None:
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("PUT", "/queue/create", 405),
        ("GET", "/logs/workers/logs/4194304", 404),  # more than the kernel ever gives
        ("GET", "/logs/workers/logs/x", 404),
        ("GET", "/worker/list?state=happy", 400),
        ("POST", "/queue/create?wait=soon", 400),
        ("DELETE", "/queue/delete/no%20such", 404),
        ("DELETE", "/queue/delete/x?force=perhaps", 400),
    ):
        answer = site.request(method, path, json={"queue_name": "x"} if method == "POST" else None)
        assert (answer.status_code, bool(answer.json()["error"])) == (status, True), (path, answer.text)


def test_ten_megabytes_go_through_and_too_much_is_413(site: System, vhost: TestVhost) -> None:
    site.post("/queue/create", {"queue_name": "large"})
    # Twice is once too often for nobody here; a busy broker may not confirm so much within the time that an answer has.
    eventually(lambda: site.publish("large", "x" * 10_000_000).status_code == 200)
    assert len(json.loads(take(vhost, "large")[1])["message"]) == 10_000_000
    assert site.publish("large", "x" * 17_000_000).status_code == 413
    assert site.request("POST", "/queue/create", content=b" " * 40_000_000).status_code == 413
    arguments = {"queue_name": "larger", "arguments": {"x-a": "x" * 10_000_000}}
    assert site.post("/queue/create", arguments).status_code == 422, "RabbitMQ would close the connection over it"


def test_however_deep_a_body_is_nested_it_is_answered(site: System) -> None:
    site.post("/queue/create", {"queue_name": "deep"})
    before = site.text
    with httpx.Client(base_url=site.url, timeout=60, trust_env=False) as http:
        for depth in (30, *range(900, 1010), 100_000):  # what reads, checks and writes JSON each gives up elsewhere
            nested = "[" * depth + "]" * depth
            created = http.post("/queue/create", content=f'{{"queue_name": "x", "arguments": {{"x-a": {nested}}}}}')
            assert created.status_code in (400, 422), created.text
            published = http.post("/queue/publish/deep", content=f'{{"message": {nested}}}')
            assert published.status_code in (200, 400), published.text
    assert site.text == before


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "http://127.0.0.1:1", ""])
def test_a_page_of_another_site_may_not_write(site: System, origin: str) -> None:
    before = site.text
    for method, path in (("POST", "/queue/create"), ("POST", "/sync"), ("DELETE", "/queue/delete/x")):
        answer = site.request(method, path, json={"queue_name": "x"}, headers={"Origin": origin})
        assert (answer.status_code, bool(answer.json()["error"])) == (403, True)
    assert site.get("/healthz").status_code == 200
    assert site.text == before


def test_this_servers_own_page_may(site: System) -> None:
    own = site.request("POST", "/queue/create", json={"queue_name": "own"}, headers={"Origin": site.url})
    assert own.status_code == 201


def test_without_waiting_a_write_is_202_and_becomes_true(site: System, vhost: TestVhost) -> None:
    # Its worker takes its time, so that it cannot be true already.
    answer = site.post("/queue/create", {"queue_name": "later", "workers": {"echo": 1}}, wait=0)
    assert (answer.status_code, answer.json()["converged"]) == (202, False)
    eventually(lambda: "later" in vhost.queues())
    assert site.request("DELETE", "/queue/delete/later", params={"wait": "60"}).status_code == 200


def test_head_is_answered_everywhere_and_leaves_the_connection_free_for_the_next(site: System) -> None:
    site.post("/queue/create", {"queue_name": "head", "workers": {"echo": 1}})
    (worker,) = site.list_workers(queue_name="head")
    paths = ("/", "/status", "/queue/list", "/events", f"/logs/workers/stream_logs/{worker['pid']}", "/openapi.json")
    with httpx.Client(base_url=site.url, timeout=60, trust_env=False) as http:
        for path in paths:
            assert (http.head(path).status_code, http.head(path).content) == (200, b"")


def test_looking_at_the_plan_changes_nothing(site: System, vhost: TestVhost) -> None:
    site.post("/queue/create", {"queue_name": "looked-at"})
    site.settled()
    before, ledger = vhost.queues().keys(), (site.state / "ledger.json").read_bytes()
    text = site.text
    try:
        site.write("version: 1\nqueues: {other: {workers: {nobody: 1}}}\n")
        assert "nobody" in site.get("/plan").json()["file_error"]
        plan = site.cli("plan", "--json")
        assert (plan.returncode, vhost.queues().keys()) == (1, before)
    finally:
        site.write(text)
    assert site.get("/plan").json()["actions"] == []
    assert (site.state / "ledger.json").read_bytes() == ledger


def test_an_edit_of_a_faulty_file_is_409_and_publishing_goes_on(site: System) -> None:
    site.post("/queue/create", {"queue_name": "faulty"})
    text = site.text
    try:
        site.write("version: 1\nqueues: [\n")
        for method, path in (("POST", "/queue/create"), ("DELETE", "/queue/delete/faulty")):
            answer = site.request(method, path, json={"queue_name": "more"})
            assert answer.status_code == 409
            assert "queues.yaml:3:1" in answer.json()["error"]
        assert site.publish("faulty", 1).status_code == 200
        assert site.text == "version: 1\nqueues: [\n"
    finally:
        site.write(text)


# -- dead letters, and what has left the file ---------------------------------------------------------------------


def test_an_implied_dead_letter_queue_is_cleared_and_kept_while_it_is_used(site: System, vhost: TestVhost) -> None:
    site.post("/queue/create", {"queue_name": "mail", "dead_letter": "mail.dead"})
    assert site.publish("mail.dead", 1).status_code == 200
    refused = site.delete("mail.dead")
    assert (refused.status_code, "dead-letter queue of mail" in refused.json()["error"]) == (409, True)
    assert site.post("/queue/clear/mail.dead").json()["messages_removed"] == 1
    assert "mail.dead:" not in site.text, "clearing lists nothing that was not listed"
    assert site.delete("mail").status_code == 200
    eventually(lambda: "mail.dead" not in vhost.queues())


def test_deleting_what_has_left_the_file_but_holds_messages_is_409_until_it_is_forced(
    site: System, vhost: TestVhost
) -> None:
    site.post("/queue/create", {"queue_name": "left", "dead_letter": "left.dead"})
    site.publish("left.dead", 1)
    assert site.delete("left").status_code == 200
    refused = site.delete("left.dead")
    assert (refused.status_code, refused.json()["messages"]) == (409, 1)
    assert site.delete("left.dead", force="true").status_code == 200
    assert "left.dead" not in vhost.queues()


# -- many at once ------------------------------------------------------------------------------------------------


async def test_a_hundred_writes_at_once_lose_nothing_and_the_file_is_valid_at_every_instant(
    live_system: System,
) -> None:
    site = live_system
    site.write("version: 1\n# stays\nqueues:\n  base: {workers: {echo: 0}}\n")
    site.settled()
    broken: list[str] = []
    done = threading.Event()
    reader = threading.Thread(target=keep_reading, args=(site.file, done, broken))
    reader.start()
    try:
        async with httpx.AsyncClient(base_url=site.url, timeout=300) as http:
            creates = [http.post("/queue/create", json={"queue_name": f"many-{n}"}) for n in range(80)]
            scales = [
                http.post("/worker/scale/base?wait=1", json={"count": n % 3, "worker_name": "echo"}) for n in range(20)
            ]
            answers = await asyncio.gather(*creates, *scales)
    finally:
        done.set()
        reader.join()
    assert broken == []
    assert all(answer.status_code in (200, 201, 202) for answer in answers), [a.text for a in answers]
    queues = parse(site.file.read_bytes()).queues
    assert {f"many-{n}" for n in range(80)} <= queues.keys()
    assert "# stays" in site.text
    site.settled()


async def test_of_many_who_create_the_same_queue_one_has_created_it(site: System) -> None:
    async with httpx.AsyncClient(base_url=site.url, timeout=120) as http:
        create = "/queue/create?wait=60"
        answers = await asyncio.gather(*(http.post(create, json={"queue_name": "same"}) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert site.text.count("same:") == 1


def keep_reading(file: Path, done: threading.Event, broken: list[str]) -> None:
    while not done.is_set():
        try:
            parse(file.read_bytes())
        except Exception as error:
            broken.append(str(error))
        time.sleep(0.001)


# -- clearing under work, logs, the broker gone ------------------------------------------------------------------


def test_clear_waits_for_the_workers_and_keeps_them_stopped(site: System, vhost: TestVhost) -> None:
    site.post("/queue/create", {"queue_name": "busy", "workers": {"slow": {"count": 1, "prefetch": 1}}})
    for n in range(3):
        site.publish("busy", n)
    eventually(lambda: site.list_workers(queue_name="busy")[0]["busy"])
    early = site.request("POST", "/queue/clear/busy", params={"wait": "0.3"})
    assert (early.status_code, early.json()["converged"], early.json()["messages_removed"]) == (202, False, 0)
    # One that had not been told to stop yet would take the other messages, too.
    eventually(lambda: site.list_workers(queue_name="busy")[0]["state"] == "stopping")
    (site.folder / "go").touch()
    answer = site.post("/queue/clear/busy")
    assert (answer.status_code, answer.json()["messages_removed"]) == (200, 2)
    assert parse(site.file.read_bytes()).queues["busy"].workers["slow"].count == 0
    assert messages_in(vhost, "busy") == 0


def test_a_log_is_paged_streamed_and_stays_after_the_end(site: System) -> None:
    site.post("/queue/create", {"queue_name": "logs", "workers": {"echo": 1}})
    for n in range(5):
        site.publish("logs", f"line {n}")
    (worker,) = site.list_workers(queue_name="logs")
    url = worker["log_url"]
    eventually(lambda: "line 4" in str(site.get(url).json()["lines"]))
    page = site.get(url, lines=2).json()
    assert len(page["lines"]) == 2
    assert page["pid"] == worker["pid"]
    older = site.get(url, lines=100, before=page["offset"]).json()
    assert older["lines"] + page["lines"] == site.get(url, lines=1000).json()["lines"]
    assert all("line 3" in line for line in site.get(url, q="LINE 3").json()["lines"])
    assert site.get(url, level="ERROR").json()["lines"] == []
    first, second = streamed(site, worker["pid"], "0", 2)
    assert streamed(site, worker["pid"], first[0], 1) == [second]
    os.kill(worker["pid"], signal.SIGKILL)
    eventually(lambda: site.list_workers(queue_name="logs")[0]["pid"] not in (None, worker["pid"]))
    assert site.get(url, lines=1000).json()["lines"][: len(older["lines"])] == older["lines"]
    assert site.get(worker["view_url"]).status_code == 200


def streamed(site: System, pid: int, last_id: str, count: int) -> list[tuple[str, str]]:
    """The first events of a log stream: id and data."""
    found, event = [], ""
    headers = {"Last-Event-ID": last_id}
    deadline = time.monotonic() + 60  # there are pings, so that a stream without an event is not silent
    with httpx.stream("GET", f"{site.url}/logs/workers/stream_logs/{pid}", headers=headers, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            assert time.monotonic() < deadline, found
            if line.startswith("id: "):
                event = line[4:]
            elif line.startswith("data: "):
                found.append((event, line[6:]))
            if len(found) == count:
                return found
    raise AssertionError(f"the stream ended after {found}")


def test_what_happens_is_streamed_and_goes_on_where_a_client_left_off(site: System) -> None:
    site.post("/queue/create", {"queue_name": "told", "workers": {"echo": 1}})
    first = happened(site, None, lambda events: any("told/echo[0] ready" in event["text"] for event in events))
    assert "create classic queue told" in [event["text"] for event in first]
    last, kept = first[-3]["id"], first[-2:]
    assert happened(site, str(last), lambda events: len(events) == 2) == kept
    site.post("/queue/create", {"queue_name": "told-later"})
    news = happened(site, str(first[-1]["id"]), lambda events: any("told-later" in event["text"] for event in events))
    assert news[0]["id"] == first[-1]["id"] + 1


def happened(site: System, last_id: str | None, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """What `/events` tells, until it is enough."""
    found: list[dict[str, Any]] = []
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    deadline = time.monotonic() + 60
    with httpx.stream("GET", f"{site.url}/events", headers=headers, timeout=60) as answer:
        for line in answer.iter_lines():
            assert time.monotonic() < deadline, found
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
            if enough(found):
                return found
    raise AssertionError(f"the stream ended after {found}")


def test_a_broker_that_is_gone_is_503_within_five_seconds(own_broker: TestNode, tmp_path: Path) -> None:
    site = System(tmp_path / "gone", own_broker.amqp_url, own_broker.management_url)
    site.write("version: 1\nqueues: {q: {}}\n")
    site.start()

    def refused(method: str, path: str, body: Any) -> bool:
        began = time.monotonic()
        answer = site.request(method, path, json=body)
        took = time.monotonic() - began
        if (answer.status_code, bool(answer.json()["error"])) != (503, True):
            raise RuntimeError(answer.text)  # at no time, whereas the machine may take its time once
        assert took < 5, took
        return True

    try:
        site.settled()
        own_broker.kill()
        for method, path, body in (
            ("POST", "/queue/publish/q", {"message": 1}),
            ("GET", "/queue/list", None),
            ("DELETE", "/queue/delete/q", None),
        ):
            eventually(partial(refused, method, path, body))
        assert "q" in parse(site.file.read_bytes()).queues
    finally:
        site.stop()


# -- other people's clients --------------------------------------------------------------------------------------


def declare(vhost: TestVhost, queue: str, **more: object) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        connection.channel().queue_declare(queue, durable=True, **more)  # type: ignore[arg-type]


def take(vhost: TestVhost, queue: str) -> tuple[pika.BasicProperties, bytes]:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        _, properties, body = connection.channel().basic_get(queue, auto_ack=True)
        assert properties is not None
        assert body is not None
        return properties, body


def test_git_diff_shows_exactly_the_edit(site: System) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(site.folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "queues.yaml"], check=True)
    subprocess.run([*git, "commit", "-qm", "before"], check=True)
    assert site.post("/queue/create", {"queue_name": "diffed"}).status_code == 201
    diff = subprocess.run([*git, "diff", "--numstat"], capture_output=True, text=True, check=True).stdout
    assert diff.split()[:2] == ["1", "0"]
