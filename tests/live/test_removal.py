"""Removal is careful: only what is ours, never with messages in it, never many at once without a person."""

from __future__ import annotations

import itertools
import json
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.nodes import TestVhost
from tests.system import System
from tests.waiting import eventually


@contextmanager
def foreign(vhost: TestVhost) -> Iterator[BlockingChannel]:
    """A client that is not ours."""
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        yield connection.channel()


def file_with(*queues: str, **properties: str) -> str:
    lines = [f"  {name}: {{{properties.get(name, '')}}}\n" for name in queues]
    return "version: 1\nqueues:" + ("\n" + "".join(lines) if lines else " {}\n")


def held(site: System, queue: str) -> dict[str, Any]:
    """What holds the removal of `queue`, once something does."""

    def look() -> dict[str, Any] | None:
        actions = (site.status()["held"] or {"actions": []})["actions"]
        return next((action for action in actions if action["queue"] == queue), None)

    return eventually(look)


def gone(vhost: TestVhost, *queues: str, within: float = 30) -> bool:
    return bool(eventually(lambda: not (set(queues) & vhost.queues().keys()), within))


def test_an_empty_queue_of_ours_goes(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b"))
    live_system.settled()
    live_system.write(file_with("b"))
    assert gone(vhost, "a")
    assert "b" in vhost.queues()


def test_a_queue_that_was_there_before_us_is_used_and_stays(live_system: System, vhost: TestVhost) -> None:
    with foreign(vhost) as channel:
        channel.queue_declare("theirs", durable=True)
    live_system.write(file_with("theirs", "ours"))
    live_system.settled()
    assert live_system.publish("theirs", 1).status_code == 200
    with foreign(vhost) as channel:
        channel.queue_purge("theirs")
    assert live_system.delete("theirs").status_code == 409
    live_system.write(file_with("x"))
    assert gone(vhost, "ours")
    live_system.settled()
    assert "theirs" in vhost.queues()


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_with_messages_is_held_with_their_number_and_goes_once_it_is_empty(
    live_system: System, vhost: TestVhost, kind: str
) -> None:
    live_system.write(file_with("full", "other", full=f"type: {kind}"))
    live_system.settled()
    for n in range(3):
        assert live_system.publish("full", n).status_code == 200
    if kind == "quorum":  # its counts follow a tick
        eventually(lambda: vhost.queues()["full"]["messages"] == 3)
    refused = live_system.delete("full")
    assert (refused.status_code, refused.json()["messages"]) == (409, 3)
    live_system.write(file_with("other"))
    why = held(live_system, "full")
    assert why["messages"] == 3
    assert "force" in why["reason"]
    assert "full" in vhost.queues()
    with foreign(vhost) as channel:
        channel.queue_purge("full")
    assert gone(vhost, "full", within=60)
    live_system.settled()


def test_a_message_in_flight_holds_a_queue_that_looks_empty(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("flight", "other"))
    live_system.settled()
    live_system.publish("flight", 1)
    with foreign(vhost) as channel:
        method, _, _ = channel.basic_get("flight")
        assert method is not None
        assert vhost.queues()["flight"]["messages_ready"] == 0
        live_system.write(file_with("other"))
        assert held(live_system, "flight")["messages"] == 1
        live_system.get("/healthz")
        assert "flight" in vhost.queues()
        channel.basic_ack(method.delivery_tag)
        assert gone(vhost, "flight")


def test_a_consumer_that_is_not_ours_holds_a_queue(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("used", "other"))
    live_system.settled()
    with foreign(vhost) as channel:
        channel.basic_consume("used", lambda *_: None)
        live_system.write(file_with("other"))
        assert "consumer" in held(live_system, "used")["reason"]
        assert "used" in vhost.queues()
    assert gone(vhost, "used")


def test_its_workers_finish_before_a_queue_goes(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("worked", "other", worked="workers: {echo: 2}"))
    live_system.settled()
    live_system.write(file_with("other"))
    assert gone(vhost, "worked")
    assert live_system.list_workers() == []
    exits = live_system.get("/worker/list", state="exited").json()["workers"]
    assert {worker["reason"] for worker in exits} == {"stopped"}


def test_on_remove_keep_leaves_and_delete_takes_the_messages_along(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("kept", "taken", "x", kept="on_remove: keep", taken="on_remove: delete"))
    live_system.settled()
    live_system.publish("kept", 1)
    live_system.publish("taken", 1)
    live_system.write(file_with("x"))
    assert gone(vhost, "taken")
    live_system.settled()
    assert vhost.queues()["kept"]["messages"] == 1


def test_force_deletes_what_holds_messages(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("full", "x"))
    live_system.settled()
    live_system.publish("full", 1)
    assert live_system.delete("full", force="true").status_code == 200
    assert "full" not in vhost.queues()


def test_force_also_takes_what_has_left_the_file_and_is_held(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("full", "x"))
    live_system.settled()
    live_system.publish("full", 1)
    live_system.write(file_with("x"))
    held(live_system, "full")
    assert live_system.delete("full", force="true").status_code == 200
    assert "full" not in vhost.queues()


MANY = [f"q{n}" for n in range(10)]


def test_more_than_three_and_a_third_wait_for_a_person(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with(*MANY, q0="workers: {echo: 1}"))
    live_system.settled()
    (worker,) = live_system.list_workers()
    live_system.write(file_with(*MANY[4:]))
    assert held(live_system, "q0")["needs_confirmation"]
    status = live_system.status()
    assert (status["synced"], status["held"]["needs_confirmation"]) == (False, True)
    assert live_system.cli("sync").returncode == 2
    assert vhost.queues().keys() == set(MANY)
    assert [w["pid"] for w in live_system.list_workers()] == [worker["pid"]], "what drains them goes on, too"
    wrong = live_system.post("/sync", {"confirm": "0" * 64})
    assert wrong.status_code == 409
    assert live_system.cli("sync", "--confirm", status["held"]["revision"]).returncode in (0, 2)
    assert gone(vhost, *MANY[:4])
    live_system.settled()
    assert vhost.queues().keys() == set(MANY[4:])


def test_what_a_retry_implies_makes_many_look_no_fewer(live_system: System, vhost: TestVhost) -> None:
    """Of each of these five queues are ours, of which one is an entry of the file."""
    entries = "".join(f"  q{number}: {{retry: {{attempts: 3, delays: [1s, 10s]}}}}\n" for number in range(4))
    live_system.write(f"version: 1\nqueues:\n{entries}")
    live_system.settled()
    there = set(vhost.queues())
    assert len(there) == 20
    live_system.write("version: 1\nqueues: {}\n")
    assert held(live_system, "q0")["needs_confirmation"]
    assert set(vhost.queues()) == there


def test_a_confirmation_is_for_that_revision_alone(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with(*MANY))
    live_system.settled()
    live_system.write(file_with(*MANY[4:]))
    held(live_system, "q0")
    live_system.post("/sync", {"confirm": live_system.status()["held"]["revision"]})
    assert gone(vhost, *MANY[:4])
    live_system.write(file_with("q9"))
    assert held(live_system, "q5")["needs_confirmation"]
    assert set(MANY[4:]) <= vhost.queues().keys()
    live_system.write(file_with(*MANY))
    live_system.settled()
    live_system.write(file_with(*MANY[4:]))
    assert held(live_system, "q0")["needs_confirmation"], "a return to it is asked about again"


def test_three_at_once_need_nobody(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with(*MANY[:4]))
    live_system.settled()
    live_system.write(file_with(MANY[3]))
    assert gone(vhost, *MANY[:3])


@pytest.mark.parametrize(
    "broken", ["", "version: 1\n", "version: 1\nqueues:\n", "version: 1\nqueues:\n  q0:\n", "\0", "a: ["]
)
def test_a_file_cut_short_removes_nothing(live_system: System, vhost: TestVhost, broken: str) -> None:
    live_system.write(file_with("q0", "q1"))
    good = live_system.settled()["revision"]
    live_system.write(broken)
    eventually(lambda: live_system.status()["file_error"])
    assert live_system.status()["revision"] == good
    assert live_system.status()["held"] is None
    assert vhost.queues().keys() == {"q0", "q1"}


def test_a_lost_ledger_deletes_nothing(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b"))
    live_system.settled()
    live_system.stop()
    (live_system.state / "ledger.json").unlink()
    live_system.write(file_with("b"))
    live_system.start()
    live_system.settled()
    assert vhost.queues().keys() == {"a", "b"}


def test_a_queue_deleted_behind_our_back_is_made_again_and_drained_again(system: System, vhost: TestVhost) -> None:
    system.env["RECONCILER_RESYNC"] = "1"
    system.write(file_with("q", q="workers: {echo: 1}"))
    system.start()
    system.settled()
    (worker,) = system.list_workers()
    with foreign(vhost) as channel:
        channel.queue_delete("q")
    eventually(lambda: "q" in vhost.queues())
    system.settled()
    assert system.publish("q", "hello again").status_code == 200
    eventually(lambda: "hello again" in str(system.get(worker["log_url"]).json()["lines"]))
    assert [w["pid"] for w in system.list_workers()] == [worker["pid"]]
    assert drift_was_told(system)


def drift_was_told(system: System) -> bool:
    deadline = time.monotonic() + 30
    with httpx.stream("GET", f"{system.url}/events", timeout=60) as answer:  # which pings now and then
        lines = itertools.takewhile(lambda _: time.monotonic() < deadline, answer.iter_lines())
        return any(line == "event: drift" for line in lines)


def test_a_queue_with_other_properties_is_refused_with_both_values_and_left_alone(
    live_system: System, vhost: TestVhost
) -> None:
    with foreign(vhost) as channel:
        channel.queue_declare("q", durable=True, arguments={"x-max-length": 7})
        channel.basic_publish("", "q", b"precious")
    live_system.write(file_with("q", "fine", q="arguments: {x-max-length: 8}"))
    reason = held(live_system, "q")["reason"]
    assert "7 at the broker" in reason
    assert "8 in the file" in reason
    assert "fine" in vhost.queues(), "the rest of the plan goes on"
    status = live_system.status()
    assert (status["synced"], status["queues"]["q"]["synced"]) == (False, False)
    assert vhost.queues()["q"]["arguments"] == {"x-max-length": 7}
    assert vhost.queues()["q"]["messages"] == 1


def test_over_amqp_alone_nothing_is_deleted_without_force(system: System, vhost: TestVhost) -> None:
    system.management_url = "http://127.0.0.1:9"
    system.write(file_with("a", "b"))
    system.start()
    status = system.settled()
    assert status["broker"]["management"] is False
    assert status["broker"]["cannot_see"]
    assert system.delete("a").status_code == 409
    system.write(file_with("b"))
    assert "MANAGEMENT_URL" in held(system, "a")["reason"]
    assert "a" in vhost.queues()
    assert system.delete("a", force="true").status_code == 200
    assert "a" not in vhost.queues()


# -- protect, forget, and ledgers that are not what they were ---------------------------------------------------------


def test_a_protected_entry_can_only_go_after_its_flag_went(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b", a="protect: true"))
    live_system.settled()
    live_system.write(file_with("b"))
    assert "protect: true" in held(live_system, "a")["reason"]
    assert live_system.delete("a", force="true").status_code == 409
    assert live_system.post("/queue/forget/a").status_code == 409
    live_system.stop()
    live_system.start()
    assert "protect: true" in held(live_system, "a")["reason"]
    assert "a" in vhost.queues()
    live_system.write(file_with("a", "b"))
    live_system.settled()
    live_system.write(file_with("b"))
    assert gone(vhost, "a")


def test_a_queue_that_is_forgotten_stays_with_its_bindings_and_messages(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b"))
    live_system.settled()
    live_system.publish("a", "precious")
    done = live_system.post("/queue/forget/a")
    assert (done.status_code, done.json()["queue_name"]) == (200, "a")
    assert "a:" not in live_system.text
    live_system.settled()
    live_system.stop()
    live_system.start()
    live_system.settled()
    assert vhost.queues()["a"]["messages"] == 1
    assert live_system.post("/queue/forget/a").status_code == 404
    assert live_system.post("/queue/forget/none").status_code == 404


def test_what_is_held_can_be_forgotten_on_the_command_line(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b"))
    live_system.settled()
    live_system.publish("a", "precious")
    live_system.write(file_with("b"))
    assert "reconciler forget" in held(live_system, "a")["reason"]
    assert live_system.cli("forget", "a").returncode == 0
    assert live_system.settled()["held"] is None
    assert vhost.queues()["a"]["messages"] == 1


def test_a_file_cut_short_in_two_saves_is_held_as_one_that_is_cut_short_at_once(
    live_system: System, vhost: TestVhost
) -> None:
    live_system.write(file_with(*MANY[:8]))
    live_system.settled()
    live_system.stop()
    live_system.start()  # from here on they are not of this very minute
    live_system.settled()
    live_system.write(file_with(*MANY[:5]))
    assert gone(vhost, *MANY[5:8])
    live_system.write(file_with(*MANY[:2]))
    assert "3 more were just removed" in held(live_system, MANY[2])["reason"]
    assert vhost.queues().keys() == set(MANY[:5])


def test_queues_that_come_and_go_one_after_another_wait_for_nobody(live_system: System, vhost: TestVhost) -> None:
    for name in MANY[:6]:
        live_system.write(file_with(name))
        assert live_system.settled()["held"] is None
        assert vhost.queues().keys() == {name}


def test_a_ledger_restored_from_an_old_backup_deletes_nothing(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b"))
    live_system.settled()
    ledger = live_system.state / "ledger.json"
    old = ledger.read_bytes()
    live_system.write(file_with("b"))
    assert gone(vhost, "a")
    live_system.settled()
    live_system.stop()
    with foreign(vhost) as channel:
        channel.queue_declare("a", durable=True)
    ledger.write_bytes(old)
    live_system.start()
    reason = held(live_system, "a")["reason"]
    assert "restored from a backup" in reason
    assert "reconciler forget a" in reason
    assert "a" in vhost.queues()
    assert live_system.post("/queue/forget/a").status_code == 200
    assert live_system.settled()["held"] is None
    assert "a" in vhost.queues()


def test_a_queue_of_ours_that_somebody_made_anew_is_left_alone(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b", a="on_remove: delete"))
    live_system.settled()
    live_system.stop()
    with foreign(vhost) as channel:
        channel.queue_delete("a")
        channel.queue_declare("a", durable=True, arguments={"x-max-priority": 3})
        channel.basic_publish("", "a", b"precious")
    live_system.write(file_with("b"))
    live_system.start()
    assert "somebody made it anew" in held(live_system, "a")["reason"]
    assert vhost.queues()["a"]["messages"] == 1


def test_the_ledger_of_another_broker_of_the_same_name_owns_nothing_here(live_system: System, vhost: TestVhost) -> None:
    live_system.write(file_with("a", "b"))
    live_system.settled()
    live_system.stop()
    ledger = live_system.state / "ledger.json"
    known = json.loads(ledger.read_bytes())
    known["clusters"] = dict.fromkeys(known["clusters"], "rabbitmq-cluster-id-of-another")
    ledger.write_text(json.dumps(known))
    live_system.write(file_with("b"))
    live_system.start()
    live_system.settled()
    assert vhost.queues().keys() == {"a", "b"}
    assert "another one than before" in live_system.log.read_text()


def test_a_commit_of_another_project_takes_nothing_away(live_system: System, vhost: TestVhost) -> None:
    """A branch switched to the wrong commit: valid, and about other queues altogether."""
    live_system.write(file_with(*MANY))
    live_system.settled()
    live_system.write(file_with("theirs", "others"))
    assert held(live_system, MANY[0])["needs_confirmation"]
    eventually(lambda: {"theirs", "others"} <= vhost.queues().keys())
    assert set(MANY) <= vhost.queues().keys()
    live_system.write(file_with(*MANY))
    assert gone(vhost, "theirs", "others")
    assert live_system.settled()["held"] is None


def test_what_a_forgotten_queue_rejects_to_stays_with_it(live_system: System, vhost: TestVhost) -> None:
    text = file_with("x") + "  a: {dead_letter: a.dead}\n  b: {dead_letter: shared}\n"
    live_system.write(text + "  c: {dead_letter: shared}\n")
    live_system.settled()
    assert live_system.post("/queue/forget/a").status_code == 200
    assert live_system.post("/queue/forget/b").status_code == 200
    live_system.write(file_with("x"))
    assert gone(vhost, "c", "shared"), "c rejects there, too, and the last that is ours takes it along"
    assert vhost.queues().keys() == {"a", "a.dead", "b", "x"}


def test_a_deletion_that_the_file_did_not_take_makes_nothing_ours(live_system: System, vhost: TestVhost) -> None:
    with foreign(vhost) as channel:
        channel.queue_declare("theirs", durable=True)
    live_system.write(file_with("theirs", "ours"))
    live_system.settled()
    live_system.write(file_with("theirs", "ours", ours="oops: 1"))
    eventually(lambda: live_system.status()["file_error"])
    assert live_system.delete("theirs", force="true").status_code == 409
    ledger = json.loads((live_system.state / "ledger.json").read_bytes())
    assert ledger["requests"] == {}
    live_system.write(file_with("x"))
    assert gone(vhost, "ours")
    live_system.settled()
    assert "theirs" in vhost.queues()


def test_what_is_to_be_kept_is_deleted_if_somebody_asks_for_it(live_system: System, vhost: TestVhost) -> None:
    names = [f"k{n}" for n in range(20)]
    live_system.write(file_with("x", *names, **dict.fromkeys(names, "on_remove: keep")))
    live_system.settled()
    stop = threading.Event()

    def turn() -> None:  # each may see the edit before the request
        while not stop.is_set():
            live_system.post("/sync", {}, wait=0)

    turns = [threading.Thread(target=turn) for _ in range(2)]
    for thread in turns:
        thread.start()
    try:
        assert {live_system.delete(name).status_code for name in names} == {200}
    finally:
        stop.set()
        for thread in turns:
            thread.join()
    assert gone(vhost, *names)


@contextmanager
def full_disk(site: System) -> Iterator[None]:
    """Nothing can be written by the daemon."""
    assert site.process
    before = resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_ledger_follows_once_there_is_room(live_system: System, vhost: TestVhost) -> None:
    with foreign(vhost) as channel:
        channel.queue_declare("theirs", durable=True)
    live_system.write(file_with("theirs", "q", "x"))
    live_system.settled()

    def known() -> str:
        return (live_system.state / "ledger.json").read_text()

    with full_disk(live_system):
        for asked in ("adopt/theirs", "forget/q"):
            refused = live_system.post(f"/queue/{asked}")
            assert (refused.status_code, "the state folder cannot be written" in refused.text) == (507, True)
        live_system.write(file_with("theirs", "x"))
        assert gone(vhost, "q")
        assert '"q"' in known()
    eventually(lambda: live_system.post("/sync", {}) and '"q"' not in known())
