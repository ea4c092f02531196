"""Taking over a broker that others have used: import, plan, adopt, on a real broker with all that one can have."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest

from state.reader import parse
from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

ODD = [
    "on", "007", "1.10", "~", "null", "=", "<<", "-lead", "#hash", "x #y", "trail  ", " lead", "a/b", "ünï 🎉", "a\\b",
    "{x: y}", "[a]", "x: y", "&a", "*a", "!t", "%25", "nel\u0085x", "ls\u2028x", "\ufeffbom", "x" * 255, "2020-01-01",
    "q\"uo'te",
]  # fmt: skip
QUEUES: dict[str, dict[str, Any]] = {
    "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-single-active-consumer": True},
    "stream": {"x-queue-type": "stream", "x-max-age": "1D", "x-max-length-bytes": 1_000_000},
    "work": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-priority": 5},
    "dead": {"x-message-ttl": 60_000, "x-single-active-consumer": False, "x-own": [1, "x", True, [2]]},
    "circle": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "circle"},
    "lost": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "nowhere"},
    "float": {"x-own": 1.5},
    "table": {"x-own": {"a": {"b": [1, "x"]}}},
}
LEFT_OUT = {"float", "table", "tab\there", "temporary"}


@pytest.fixture
def used(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    """A site whose virtual host holds what a long life leaves behind. No daemon."""
    with site_on(broker, tmp_path) as site:
        fill(site, broker)
        yield site


def fill(site: Site, broker: TestNode) -> None:
    vhost = quote(site.vhost.name, safe="")
    with broker.api() as api:

        def put(kind: str, name: str, body: dict[str, Any]) -> None:
            answer = api.put(f"/api/{kind}/{vhost}/{quote(name, safe='')}", json={"durable": True, **body})
            assert answer.is_success, (name, answer.text)

        def bind(source: str, kind: str, name: str, key: str = "", **arguments: Any) -> None:
            path = f"/api/bindings/{vhost}/e/{quote(source, safe='')}/{kind}/{quote(name, safe='')}"
            assert api.post(path, json={"routing_key": key, "arguments": arguments}).is_success, name

        for name in (*ODD, "tab\there"):
            put("queues", name, {})
        for name, arguments in QUEUES.items():
            put("queues", name, {"arguments": arguments})
        put("queues", "transient", {"durable": False})
        put("queues", "temporary", {"auto_delete": True})
        put("exchanges", "events", {"type": "topic"})
        put("exchanges", "head", {"type": "headers"})
        put("exchanges", "inner", {"type": "fanout", "internal": True, "arguments": {"alternate-exchange": "events"}})
        put("exchanges", "1.0", {"type": "direct", "durable": False, "auto_delete": True})
        bind("events", "q", "work", "order.*")
        bind("events", "q", "on", "007")
        bind("events", "e", "inner", "x.#")
        bind("amq.topic", "q", "dead", "t")
        bind("1.0", "q", "a/b", "")
        bind("head", "q", "work", **{"x-match": "any", "type": "a", "n": 1})
        bind("head", "q", "work", "f", **{"x-match": "all", "f": 1.5})
        definition = {"message-ttl": 60_000, "dead-letter-exchange": ""}
        put("policies", "ttl", {"pattern": r"^dev\.", "definition": definition, "apply-to": "queues", "priority": 3})
        put("policies", "off", {"pattern": ".*", "definition": {"max-length": 100}})
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
        moment = datetime.datetime(2020, 1, 1)
        connection.channel().queue_declare("timed", durable=True, arguments={"x-time": moment, "x-text": "007"})


def test_the_plan_on_an_import_is_empty_and_what_is_left_out_is_named(used: Site) -> None:
    import_and_plan(used)


def test_so_it_is_on_rabbitmq_4_which_adds_arguments_of_its_own(broker4: TestNode, tmp_path: Path) -> None:
    with site_on(broker4, tmp_path) as site:
        fill(site, broker4)
        import_and_plan(site)


def import_and_plan(used: Site) -> None:
    done = used.cli("import")
    assert done.returncode == 0, done.stderr
    used.write(done.stdout)
    found = parse(done.stdout.encode())
    assert found.queues.keys() == {*used.queues()} - LEFT_OUT
    assert found.exchanges.keys() == {"events", "head", "inner", "1.0"}
    assert found.policies.keys() == {"ttl", "off"}
    assert {b.routing_key for b in found.queues["work"].bindings} == {"order.*", ""}
    assert found.queues["work"].dead_letter == "dead"
    assert found.queues["work"].max_priority == 5
    for words in (
        "queue float: ",
        "queue table: ",
        r"queue tab\there: ",
        "queue temporary: it is auto-delete",
        '"f": 1.5',
    ):
        assert words in done.stdout
    assert used.cli("validate").returncode == 0
    plan = used.cli("plan")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert plan.stdout.startswith("nothing to do\n4 other queues on this vhost are not ours.")
    assert used.cli("apply", "--yes").returncode == 0
    ledger = json.loads((used.state / "ledger.json").read_bytes())
    assert ledger["brokers"] == {}, "to have imported it makes nothing ours"


def test_an_export_of_definitions_gives_the_same_file(used: Site, broker: TestNode) -> None:
    live = used.cli("import").stdout
    with broker.api() as api:
        one = api.get(f"/api/definitions/{quote(used.vhost.name, safe='')}").json()
        every = api.get("/api/definitions").json()
    (used.folder / "one.json").write_text(json.dumps(one))
    (used.folder / "all.json").write_text(json.dumps(every))
    of_one = used.cli("import", "--definitions", "one.json")
    of_all = used.cli("import", "--definitions", "all.json", "--vhost", used.vhost.name)
    bodies = [text.partition("version: 1")[2] for text in (live, of_one.stdout, of_all.stdout)]
    assert bodies[0] == bodies[1] == bodies[2]
    used.amqp_url = None
    assert used.cli("import", "--definitions", "one.json").returncode == 0, "without a broker"
    wrong = used.cli("import", "--definitions", "queues.yaml")
    assert wrong.returncode == 1
    assert "queues.yaml: it is not JSON" in wrong.stderr


def test_another_virtual_host_can_be_imported(used: Site, broker: TestNode) -> None:
    other = broker.make_vhost("other/host")
    try:
        assert used.cli("import", "--vhost", "other/host").stdout.endswith("version: 1\n\nqueues: {}\n")
        missing = used.cli("import", "--vhost", "none")
        assert missing.returncode == 1
        assert len(missing.stderr.splitlines()) == 1
    finally:
        broker.drop_vhost(other.name)


def test_without_the_management_api_it_says_what_else_there_is(used: Site) -> None:
    used.management_url = "http://127.0.0.1:1"
    done = used.cli("import")
    assert done.returncode == 1
    assert "--definitions FILE" in done.stderr


# -- adopt ---------------------------------------------------------------------------------------------------------

LISTED = "version: 1\nqueues:\n  a/b: {}\n  work: {on_remove: delete, max_priority: 5, dead_letter: dead}\n"
LISTED += "  dead: {arguments: {x-message-ttl: 60000, x-single-active-consumer: false, x-own: [1, x, true, [2]]}}\n"


def test_what_was_adopted_goes_with_its_entry_and_what_was_not_stays(used: Site) -> None:
    used.write(LISTED)
    done = used.cli("adopt", "a/b", "work", "on", "nowhere")
    assert done.returncode == 1, "two of them are not in the file"
    assert done.stdout.splitlines() == [
        "queue a/b is ours now: out of the file it is deleted once it is empty and unused",
        "queue work is ours now: out of the file it is deleted with its messages (on_remove: delete)",
    ]
    assert "Error: queue on is not in the file, so it is left alone" in done.stderr
    assert used.cli("adopt", "work").stdout == "queue work is ours already\n"
    used.write("version: 1\nqueues: {}\n")
    assert used.cli("apply", "--yes").returncode == 0
    assert {"a/b", "work"}.isdisjoint(used.queues())
    assert "dead" in used.queues()


def test_a_running_daemon_adopts_too(used: Site) -> None:
    used.write(LISTED)
    used.start()
    used.settled()
    answer = used.post("/queue/adopt/a%2Fb")
    assert (answer.status_code, answer.json()["adopted"]) == (200, True)
    assert used.post("/queue/adopt/a%2Fb").json() == {
        "message": "queue a/b is ours already", "queue_name": "a/b", "adopted": False
    }  # fmt: skip
    assert used.post("/queue/adopt/on").status_code == 404
    assert used.post("/exchange/adopt/events").status_code == 404
    assert used.cli("adopt", "work").stdout.startswith("queue work is ours now")
    assert "queue dead is ours now" in used.cli("adopt", "--all").stdout
    assert used.cli("adopt").returncode == 1
    assert "It is ours" in used.cli("explain", "a/b").stdout
    used.write("version: 1\nqueues: {}\n")
    asked = []

    def all_gone() -> bool:
        if (held := used.status()["held"]) and held["needs_confirmation"]:
            asked.append(held)
        return {"a/b", "work", "dead"}.isdisjoint(used.queues())

    eventually(all_gone)
    assert not asked, "three are not too many"
    assert "on" in used.queues()
