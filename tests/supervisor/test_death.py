"""Processes that end by themselves: why, in words, and when they are tried again."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.backoff import backoff
from reconciler.supervisor import Event, proc, slot
from reconciler.supervisor.reason import explain
from state.processes import ObservedWorker, WorkerState
from tests.supervisor.support import POOL, TELL, is_gone, log_of, spec, supervised, zombies
from tests.waiting import async_eventually


async def test_killed_while_healthy_it_is_back_within_milliseconds(tmp_path: Path) -> None:
    """One of those that are killed one after the other, each in a slot of its own: others use this machine."""
    took: list[float] = []
    async with supervised(tmp_path) as it:
        while len(took) < 20 and min(took, default=1.0) >= 0.25:
            number = len(took)
            it.supervisor.start_worker(spec(), number)
            await async_eventually(lambda n=number: it.state(n) is WorkerState.READY)
            old = it.worker(number).pid or 0
            began = time.perf_counter()
            os.kill(old, signal.SIGKILL)
            await async_eventually(lambda n=number, old=old: it.worker(n).pid not in (None, old))
            took.append(time.perf_counter() - began)
            await async_eventually(lambda n=number: it.state(n) is WorkerState.READY)
            assert it.worker(number).restarts == 1
            ended = it.supervisor.find(old)
            assert ended
            assert ended.reason == "killed by SIGKILL"
            assert zombies() == []
    assert min(took) < 0.25


async def test_even_a_good_end_is_not_wanted(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec("raise SystemExit(0)"), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        assert it.worker().reason == "exit code 0"


async def test_a_crash_loop_waits_longer_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    seen: list[ObservedWorker] = []

    def chosen(failures: int, jitter: float) -> float:
        waits.append(backoff(failures, jitter=jitter))
        return waits[-1]

    def hear(event: Event) -> None:  # at that moment: by the time a test looks it may have been tried again
        it.events.append(event)
        if event.kind == "backoff":
            seen.append(it.worker())

    monkeypatch.setattr(slot, "backoff", chosen)
    async with supervised(tmp_path) as it:
        monkeypatch.setattr(it.supervisor, "_on_event", hear)
        it.supervisor.start_worker(spec("import no_such_thing"), 0)
        await async_eventually(lambda: len(seen) >= 2)
        for failures, worker in enumerate(seen[:2], 1):
            assert (worker.state, worker.restarts) == (WorkerState.BACKOFF, failures)
            assert worker.reason == "exit code 1: ModuleNotFoundError: No module named 'no_such_thing'"
            assert worker.ended_at
            assert worker.retry_at
            # Its end is written to disk between the two.
            assert worker.retry_at - worker.ended_at > waits[failures - 1] - 0.01
        assert 0.7 < waits[0] < 1.3 < waits[1] < 2.6
        assert it.kinds()[:6] == ["started", "exited", "backoff"] * 2
        assert "next try in" in it.events[5].text


async def test_one_that_works_and_dies_again_and_again_waits_too(tmp_path: Path, patient: None) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(TELL + "tell('READY=1'); os._exit(1)"), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        assert it.worker().restarts == 2
        assert it.kinds() == ["started", "ready", "exited"] * 2 + ["backoff"]


async def test_a_healthy_time_makes_up_for_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "HEALTHY", 0.05)
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(), 0)
        for restarts in range(1, 5):
            await async_eventually(lambda: it.state() is WorkerState.READY)
            heard = time.time()  # or earlier: that counts, not when it has said so
            await async_eventually(lambda heard=heard: time.time() - heard > slot.HEALTHY)
            os.kill(it.worker().pid or 0, signal.SIGKILL)
            await async_eventually(lambda restarts=restarts: it.worker().restarts == restarts)
        assert "backoff" not in it.kinds()


async def test_what_it_left_running_is_killed(tmp_path: Path) -> None:
    family = TELL + (
        "import subprocess\n"
        "child = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 1000 & echo $!; wait'])\n"
        "tell(f'READY=1\\nX_CHILD={child.pid}')\nwait()\n"
    )
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(family), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        worker = it.worker()
        child = int(worker.stats["X_CHILD"])
        await async_eventually(lambda: log_of(worker).strip().isdigit())
        grandchild = int(log_of(worker))
        assert not is_gone(child)
        assert not is_gone(grandchild)
        os.kill(worker.pid or 0, signal.SIGKILL)
        await async_eventually(lambda: is_gone(child) and is_gone(grandchild))
        assert zombies() == []


async def test_orphans_that_fall_to_us_are_reaped(tmp_path: Path) -> None:
    """As in a container where the daemon is process 1."""
    become_subreaper(True)
    try:
        children = "import subprocess\nfor _ in range(3): subprocess.Popen(['sleep', '1000'])\n"
        async with supervised(tmp_path) as it:
            it.supervisor.start_worker(spec(TELL + children + "tell('READY=1')\nwait()"), 0)
            await async_eventually(lambda: it.state() is WorkerState.READY)
            old = it.worker().pid or 0
            os.kill(old, signal.SIGKILL)
            await async_eventually(lambda: it.worker().pid not in (None, old) and it.state() is WorkerState.READY)
            await async_eventually(lambda: zombies() == [])
    finally:
        become_subreaper(False)


def become_subreaper(wanted: bool) -> None:
    set_child_subreaper = 36
    assert ctypes.CDLL(None).prctl(set_child_subreaper, int(wanted), 0, 0, 0) == 0


async def test_one_that_puts_itself_in_the_background(tmp_path: Path, patient: None) -> None:
    """It counts as ended; what it left in a session of its own is not ours."""
    script = TELL + "if os.fork() == 0:\n    os.setsid(); time.sleep(0.5); os._exit(0)\n"
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(script), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        it.supervisor.restart_worker(POOL, 0)
        await async_eventually(lambda: it.kinds().count("exited") == 2)


@pytest.mark.parametrize(
    ("code", "log", "words"),
    [
        (0, [], "exit code 0"),
        (1, ["a", "ValueError: x", ""], "exit code 1: ValueError: x"),
        (2, ["2026-11-24T22:10:00.123Z ERROR   cannot reach it"], "exit code 2: cannot reach it"),
        (1, ["Error: Cannot find module 'x'", "    at y", "  code: 'Z'", "}", "", "Node.js v18.19.0"],
         "exit code 1: Error: Cannot find module 'x'"),
        (127, ["sh: 1: foo: not found"], "exit code 127: sh: 1: foo: not found"),
        (1, ["\x1b[31mred\x1b[0m \x07bell"], "exit code 1: red  bell"),
        (1, ["x" * 1000], "exit code 1: " + "x" * 298 + " …"),
        (-9, ["working"], "killed by SIGKILL"),
        (-15, ["working"], "killed by SIGTERM"),
        (-11, ["about to crash"], "killed by SIGSEGV: about to crash"),
        (-50, [], "killed by signal 50"),
        (None, ["last words"], "exit status unknown: last words"),
    ],
)  # fmt: skip
def test_reasons(code: int | None, log: list[str], words: str) -> None:
    assert explain(code, log) == words


@pytest.mark.parametrize(("how", "code"), [("sys.exit(7)", 7), ("os.abort()", -6), ("sys.exit(0)", 0)])
def test_how_one_ended_is_seen_before_it_is_reaped(how: str, code: int) -> None:
    assert proc.code_of_zombie(os.getpid()) is None
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", f"import os, sys\n{how}"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert proc.code_of_zombie(child.pid) == code
    assert proc.code_of_zombie(child.pid) is None


async def test_a_record_that_cannot_be_filed_keeps_no_slot_empty(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        pid = it.worker().pid
        (record,) = (tmp_path / "processes").glob("*.json")
        record.with_suffix(".tmp").mkdir()  # it can be neither written nor removed, as on a read-only disk
        os.kill(pid or 0, signal.SIGKILL)
        await async_eventually(lambda: it.state() is WorkerState.READY and it.worker().pid != pid)
