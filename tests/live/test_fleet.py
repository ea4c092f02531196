"""A pool under way: rolls that are halted, pauses, restarts, and limits that reach running processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from state.reader import parse
from tests.live.sites import RECORD, Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

FILE = """\
version: 1
queues:
  # mail
  work:   # the queue
    on_remove: delete
    workers:
      record: {count: 8, prefetch: 1}
"""
# Imports, and dies as soon as it is run, unless $OUT/mended is there.
DIES = RECORD.replace(
    "        super()",
    '        if not (Path(os.environ["OUT"]) / "mended").exists():\n'
    '            raise RuntimeError("no database")\n'
    "        super()",
)


@pytest.fixture(scope="module")
def shared(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("fleet")) as site:
        site.env["RECONCILER_RESYNC"] = "600"  # nothing here comes true because somebody happens to look
        site.start()
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    """Eight workers that record what they consume, and no traces of the test before."""
    shared.empty()
    shared.worker("record", RECORD)
    for trace in shared.out.iterdir():
        trace.unlink()
    shared.write(FILE)
    eventually(lambda: len(shared.pids()) == 8)
    shared.settled()
    return shared


def work(site: Site) -> dict[str, Any]:
    return dict(site.status()["queues"]["work"])


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


# -- a roll that is halted ---------------------------------------------------------------------------------------


def halted(site: Site) -> str:
    held = site.status()["held"]
    assert held, "nothing is held"
    return str(held["reason"])


def test_code_whose_process_dies_at_its_start_costs_one_worker_and_the_others_go_on_with_the_old(site: Site) -> None:
    before = site.pids()
    site.worker("record", DIES)
    reason = eventually(lambda: halted(site))
    assert reason.startswith(
        "record: roll halted after 1 of 8: exit code 1: RuntimeError: no database; the other 7 stay"
    )
    for _ in range(3):
        site.post("/sync")
    left = site.pids()
    assert len(left) == 7
    assert left < before
    assert not work(site)["healthy"]
    assert "roll halted" in work(site)["reason"]
    site.send("work", map(str, range(200)))
    eventually(lambda: len(set(site.recorded())) == 200)
    assert {int(path.name) for path in site.out.iterdir() if path.stat().st_size} <= left

    (site.out / "mended").touch()
    assert site.post("/worker/restart/work").status_code in (200, 202)
    eventually(lambda: len(site.pids()) == 8 and not site.pids() & before)
    site.settled()


def test_a_halted_roll_ends_with_better_code_or_with_the_old_code_again(site: Site) -> None:
    before = site.pids()
    for mended in (RECORD, RECORD + "\n# mended\n"):
        site.worker("record", DIES)
        eventually(lambda: halted(site))
        site.worker("record", mended)
        eventually(lambda: len(site.pids()) == 8 and site.status()["synced"])
        kept = len(site.pids() & before)
        assert kept >= 7 if mended == RECORD else kept == 0, "back to the old code only one was replaced"


# -- limits ------------------------------------------------------------------------------------------------------


def test_other_limits_are_taken_on_without_a_restart_and_other_kernel_limits_with_one(site: Site) -> None:
    before = site.pids()
    site.write(FILE.replace("prefetch: 1", "prefetch: 1, max_memory: 1GiB, log_max: 1MB, max_unavailable: 1"))
    site.settled()
    eventually(lambda: "apply the new limits to worker work/record[7]" in site.said())
    assert site.pids() == before
    site.write(FILE.replace("prefetch: 1", "prefetch: 1, limits: {core: 0}"))
    eventually(lambda: len(site.pids()) == 8 and not site.pids() & before)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "user: nobody-at-all",
            "7:32: queues.work.workers.record.user: there is no user nobody-at-all on this machine",
        ),
        ("cpu_affinity: [8000]", "queues.work.workers.record.cpu_affinity: this machine has no processor 8000"),
        ("max_memory: 1G", "queues.work.workers.record.max_memory: '1G' does not fit (a size is"),
    ],
)
def test_what_this_machine_does_not_have_is_a_fault_of_the_file(site: Site, keys: str, said: str) -> None:
    before = site.pids()
    site.write(FILE.replace("count: 8, prefetch: 1", f"count: 8, {keys}"))
    eventually(lambda: said in (site.status()["file_error"] or ""))
    assert site.pids() == before
    body = {"queue_name": "other", "workers": {"record": {"user": "nobody-at-all"}}}
    site.write(FILE)
    site.settled()
    answer = site.post("/queue/create", body)
    assert (answer.status_code, answer.json()["details"][0]["path"]) == (422, "workers.record.user")


# -- a pause -----------------------------------------------------------------------------------------------------


def test_a_pause_in_the_file_drains_the_workers_and_is_no_fault_and_its_end_brings_them_back(site: Site) -> None:
    text = FILE.replace("    on_remove", '    paused: {reason: "the mail server moves"}\n    on_remove')
    site.write(text)
    eventually(lambda: not site.list_workers())
    status = site.settled()
    queue = status["queues"]["work"]
    assert queue["paused"]["reason"] == "the mail server moves"
    assert queue["reason"].startswith("paused: the mail server moves (since ")
    assert queue["workers"] == {"record": {"desired": 8, "ready": 0, "restarts": 0}}
    site.send("work", ["waits"])
    site.post("/sync")
    assert not site.list_workers()
    site.write(FILE)
    eventually(lambda: len(site.pids()) == 8)
    eventually(lambda: site.recorded() == ["waits"])
    eventually(lambda: work(site)["paused"] is None)


def test_pause_and_resume_by_rest_write_the_file_and_leave_no_trace_in_it(site: Site) -> None:
    paused = site.post("/queue/pause/work", {"reason": "a: b", "until": in_minutes(60)})
    assert paused.status_code == 200, paused.text
    body = paused.json()
    assert (body["paused"], body["converged"], body["workers_stopped"], body["queue_name"]) == (True, True, 8, "work")
    assert not site.list_workers()
    assert parse(site.file.read_bytes()).queues["work"].paused
    assert site.text.startswith(FILE)
    since = work(site)["paused"]["since"]

    again = site.post("/queue/pause/work")
    assert (again.status_code, again.json()["paused"]) == (200, True)
    assert "    paused: true\n" in site.text
    assert work(site)["paused"] == {"reason": None, "since": since, "until": None}

    resumed = site.post("/queue/resume/work")
    assert (resumed.status_code, resumed.json()["paused"], resumed.json()["converged"]) == (200, False, True)
    assert site.text == FILE
    assert len(site.pids()) == 8
    revision = site.status()["revision"]
    assert site.post("/queue/resume/work").json()["revision"] == revision, "nothing to resume, nothing written"


@pytest.mark.timeout(240)
def test_a_pause_ends_by_itself(site: Site) -> None:
    assert site.post("/queue/pause/work").status_code == 200  # however long they take to stop
    until = datetime.now(UTC) + timedelta(seconds=12)
    answer = site.post("/queue/pause/work", {"until": until.isoformat()})
    assert answer.status_code == 200
    there = site.list_workers()
    assert not there or datetime.now(UTC) >= until
    # Not by /status, which has it look again: it is by itself that it looks, and not with the next resync.
    eventually(lambda: len(site.pids()) == 8, within=60)
    assert datetime.now(UTC) >= until.replace(microsecond=0)
    assert site.settled()["queues"]["work"]["paused"] is None


def test_scaling_a_paused_queue_writes_the_count_for_when_it_is_resumed(site: Site) -> None:
    site.post("/queue/pause/work")
    scaled = site.post("/worker/scale/work", {"count": 3})
    body = scaled.json()
    assert (scaled.status_code, body["converged"], body["current_count"], body["target_count"]) == (200, True, 0, 3)
    assert body["paused"]
    assert "0 of 3 workers while the queue is paused" in body["message"]
    restarted = site.post("/worker/restart/work").json()
    assert (restarted["restarted"], restarted["converged"]) == (0, True)
    assert site.post("/queue/resume/work").status_code == 200
    assert len(site.pids()) == 3


def test_a_daemon_that_starts_beside_a_paused_queue_knows_since_when(site: Site) -> None:
    site.post("/queue/pause/work", {"reason": "move"})
    paused = work(site)["paused"]
    time.sleep(1.1)  # `since` is told in whole seconds
    site.stop()
    site.start()
    assert work(site)["paused"] == paused
    assert not site.list_workers()


def test_a_queue_that_a_default_pauses_is_resumed_by_a_word_of_its_own(site: Site) -> None:
    site.write("version: 1\ndefaults:\n  queue: {paused: true}\nqueues:\n  work: {workers: {record: 1}}\n  other: {}\n")
    eventually(lambda: site.status()["revision"] and not site.list_workers())
    site.settled()
    assert site.post("/queue/resume/work").status_code == 200
    queues = parse(site.file.read_bytes()).queues
    assert (queues["work"].paused, queues["other"].paused is not None) == (None, True)
    assert len(site.pids()) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/queue/pause/none", None, 404, "is not in queues.yaml"),
        ("/queue/resume/none", None, 404, "is not in queues.yaml"),
        ("/worker/restart/none", None, 404, "is not in queues.yaml"),
        ("/queue/pause/work", {"until": "soon"}, 422, "a moment is written as 2026-12-01T09:00Z"),
        ("/queue/pause/work", {"until": 5}, 422, "not text"),
        ("/queue/pause/work", {"until": "2001-01-01T00:00Z"}, 422, "has passed already"),
        ("/queue/pause/work", {"reason": 5}, 422, "not text"),
        ("/queue/pause/work", {"reason": "two\nlines"}, 422, "one line"),
        ("/queue/pause/work", {"for": "ever"}, 422, "unknown field"),
        ("/queue/resume/work", {"now": True}, 422, "unknown field"),
        ("/worker/restart/work", {"worker_name": "nobody"}, 404, "has no worker nobody (known are record)"),
        ("/worker/restart/work", {"worker_name": 5}, 422, "not text"),
        ("/worker/restart/work", {"pid": "5"}, 422, "the number of a process"),
        ("/worker/restart/work", {"pid": True}, 422, "the number of a process"),
        ("/worker/restart/work", {"pid": 1}, 404, "no process 1 belongs to queue work"),
        ("/worker/restart/work", {"slot": 1}, 422, "unknown field"),
        ("/worker/restart/work", [1], 422, "send a JSON object"),
    ],
)
def test_what_cannot_be_paused_or_restarted_says_why_and_changes_nothing(
    shared: Site, path: str, body: Any, status: int, said: str
) -> None:
    if shared.text != FILE:
        shared.write(FILE)
        eventually(lambda: len(shared.pids()) == 8)
    answer = shared.post(path, body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]
    assert shared.text == FILE


# -- a restart ---------------------------------------------------------------------------------------------------


def test_a_restart_replaces_every_process_batch_by_batch_and_loses_nothing(site: Site) -> None:
    before, text = site.pids(), site.text
    site.send("work", map(str, range(500)))
    answer = site.post("/worker/restart/work", wait=60)
    body = answer.json()
    assert (answer.status_code, body["restarted"], body["converged"]) == (200, 8, True), body
    assert body["message"] == "Restarted 8 workers of queue work"
    assert len(site.pids()) == 8
    assert not site.pids() & before
    assert site.text == text
    eventually(lambda: len(set(site.recorded())) == 500)


def test_one_process_is_restarted_by_its_pid_in_its_slot(site: Site) -> None:
    before = {worker["slot"]: worker["pid"] for worker in site.list_workers()}
    answer = site.post("/worker/restart/work", {"pid": before[3], "worker_name": "record"})
    assert (answer.status_code, answer.json()["restarted"]) == (200, 1)
    after = {worker["slot"]: worker["pid"] for worker in site.list_workers()}
    assert {slot for slot in before if before[slot] != after[slot]} == {3}


def test_a_restart_ends_a_backoff_at_once(site: Site) -> None:
    site.write(FILE.replace("count: 8", "count: 1"))
    site.worker("record", DIES)
    eventually(lambda: any((w["restarts"] >= 3) for w in site.list_workers(state="backoff")), within=60)
    (site.out / "mended").touch()
    answer = site.post("/worker/restart/work")
    assert (answer.status_code, answer.json()["restarted"]) == (200, 1)
    assert len(site.pids()) == 1


def test_a_restart_without_waiting_is_202_and_comes_true(site: Site) -> None:
    before = site.pids()
    answer = site.post("/worker/restart/work", wait=0)
    assert (answer.status_code, answer.json()["converged"]) == (202, False)
    assert "the rest follows" in answer.json()["message"]
    eventually(lambda: len(site.pids()) == 8 and not site.pids() & before)
