"""A daemon that was killed and the one that comes after it: nobody lost, nobody twice, no stranger touched."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.supervisor import FolderInUse, Supervisor, proc
from reconciler.supervisor.marker import MARKER, Mark, owner_of, read_mark
from reconciler.supervisor.zygotes import Zygotes
from state.processes import Pool, WorkerState
from tests.supervisor.support import GOOD, POOL, TELL, fields, is_gone, log_of, spec, supervised
from tests.waiting import async_eventually

CHATTY = TELL + (
    "tell('READY=1\\nX_CONSUMER_TAG=ct')\n"
    "while True:\n    print('still here', flush=True); time.sleep(0.05)\n"
    "    try: tell('WATCHDOG=1')\n    except OSError: pass\n"
)


@contextmanager
def killed_daemon(folder: Path, *scripts: str) -> Iterator[list[int]]:
    """The pids of the workers that a daemon left behind when it was killed; by slot."""
    arguments = [f"{slot}={script}" for slot, script in enumerate(scripts)]
    command = [sys.executable, "-m", "tests.supervisor.daemon", str(folder), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        assert daemon.stdout.readline() == "up\n"
        daemon.kill()
    records = [fields(path) for path in (folder / "processes").glob("*.json")]
    pids = [record["pid"] for record in sorted(records, key=lambda record: record["slot"])]
    try:
        yield pids
    finally:
        for pid in pids:
            mark = read_mark(proc.environ_of(pid, MARKER))
            if mark and mark.owner == owner_of(folder):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def test_they_go_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    with killed_daemon(tmp_path, CHATTY, GOOD, CHATTY) as pids:
        async with supervised(tmp_path) as it:
            workers = it.supervisor.observe()
            assert [worker.pid for worker in workers] == pids
            assert {worker.state for worker in workers} == {WorkerState.READY}
            assert [worker.consumer_tag for worker in workers] == ["ct", None, "ct"]
            assert {(worker.digest, worker.restarts) for worker in workers} == {("one", 0)}
            assert [event.kind for event in it.events] == ["adopted"] * 3
            written = Path(workers[0].log_path or "").stat().st_size
            await async_eventually(lambda: Path(workers[0].log_path or "").stat().st_size > written)
            await async_eventually(lambda: it.worker(0).heartbeat_at)
            for slot in range(3):
                it.supervisor.start_worker(spec(GOOD, grace=0.5), slot)
            assert [worker.pid for worker in it.supervisor.observe()] == pids
        assert all(is_gone(pid) for pid in pids)


async def test_what_one_says_while_it_is_taken_over_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that it is ready, which a program says once in its life."""
    go, said = tmp_path / "go", tmp_path / "said"
    slow = TELL + (
        f"tell('READY=1')\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"tell('X_CONSUMER_TAG=late')\nopen({str(said)!r}, 'w').close()\nwait()\n"
    )
    reconnect = Zygotes.reconnect

    async def meanwhile(zygotes: Zygotes) -> None:
        go.touch()
        await async_eventually(said.exists)
        await asyncio.sleep(0.05)  # for a reader that listens already to hear it, and not to know whose it is
        await reconnect(zygotes)

    monkeypatch.setattr(Zygotes, "reconnect", meanwhile)
    with killed_daemon(tmp_path, slow) as (pid,):
        async with supervised(tmp_path) as it:
            await async_eventually(lambda: it.worker().consumer_tag == "late")
            assert it.worker().pid == pid


async def test_an_adopted_one_that_dies_is_followed(tmp_path: Path) -> None:
    with killed_daemon(tmp_path, GOOD) as (pid,):
        async with supervised(tmp_path) as it:
            os.kill(pid, signal.SIGKILL)
            await async_eventually(lambda: it.worker().pid not in (None, pid) and it.state() is WorkerState.READY)
            assert it.worker().restarts == 1
            ended = it.supervisor.find(pid)
            assert ended
            # Unknown if init has reaped it before we looked, and the kernel is older than 6.15.
            assert ended.reason in ("killed by SIGKILL", "exit status unknown")


async def test_the_family_of_an_adopted_one_is_killed_with_it(tmp_path: Path) -> None:
    family = TELL + (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "print(child.pid, flush=True); tell(f'READY=1\\nX_CHILD={child.pid}')\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwait()\n"
    )
    with killed_daemon(tmp_path, family, family) as pids:
        async with supervised(tmp_path) as it:
            children = [int(log_of(worker)) for worker in it.supervisor.observe()]
            assert not any(is_gone(child) for child in children)
            os.kill(pids[0], signal.SIGKILL)
            await async_eventually(lambda: is_gone(children[0]))
            assert not is_gone(children[1])
            it.supervisor.stop_worker(POOL, 1)
            await async_eventually(lambda: is_gone(pids[1]) and is_gone(children[1]))


async def test_those_that_ended_meanwhile(tmp_path: Path) -> None:
    orphan = (
        TELL
        + "import subprocess\nprint(subprocess.Popen(['sleep', '1000']).pid, flush=True)\ntell('READY=1')\nwait()\n"
    )
    with killed_daemon(tmp_path, orphan) as (pid,):
        os.kill(pid, signal.SIGKILL)
        await async_eventually(lambda: is_gone(pid))
        async with supervised(tmp_path) as it:
            assert it.supervisor.observe() == ()
            ended = it.supervisor.find(pid)
            assert ended
            assert ended.state is WorkerState.EXITED
            assert (ended.reason or "").startswith("ended while no daemon was running; exit status unknown")
            left_behind = int(log_of(ended))
            await async_eventually(lambda: is_gone(left_behind))


async def test_one_without_a_record_is_drained_and_blocks_its_slot(tmp_path: Path) -> None:
    stubborn = GOOD.replace("sys.exit(0)", "time.sleep(0.3); sys.exit(0)")
    with killed_daemon(tmp_path, stubborn) as (pid,):
        for path in (tmp_path / "processes").glob("*.json"):
            path.write_text(path.read_text()[:50])
        async with supervised(tmp_path) as it:
            assert (it.state(), it.worker().pid) == (WorkerState.STOPPING, pid)
            it.supervisor.start_worker(spec(), 0)
            beside: list[bool] = []

            def ready() -> bool:
                beside.append(it.worker().pid not in (None, pid) and not is_gone(pid))
                return it.state() is WorkerState.READY

            await async_eventually(ready)
            assert it.worker().pid != pid
            assert not any(beside)


async def test_one_that_was_being_stopped_is_stopped(tmp_path: Path) -> None:
    with killed_daemon(tmp_path, GOOD) as (pid,):
        edit_record(tmp_path, stopping=True)
        async with supervised(tmp_path) as it:
            assert it.state() is WorkerState.STOPPING
            await async_eventually(lambda: it.supervisor.observe() == ())
            assert is_gone(pid)


@pytest.mark.parametrize("change", [{"start_time": 12345}, {"boot_id": "another boot"}])
async def test_a_number_that_passed_on_to_a_stranger(tmp_path: Path, change: dict[str, object]) -> None:
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            with killed_daemon(tmp_path, GOOD) as (pid,):
                os.kill(pid, signal.SIGKILL)
                await async_eventually(lambda: is_gone(pid))
                stat = proc.read_stat(stranger.pid)
                assert stat
                edit_record(tmp_path, **{"pid": stranger.pid, "start_time": stat.start_time} | change)
                async with supervised(tmp_path) as it:
                    assert it.supervisor.observe() == ()
                    assert (it.supervisor.find(stranger.pid) or it.worker()).state is WorkerState.EXITED
            assert stranger.poll() is None
        finally:
            stranger.kill()


async def test_two_records_of_one_slot(tmp_path: Path) -> None:
    """The newer is kept, the older drained."""
    with killed_daemon(tmp_path, GOOD, GOOD) as pids:
        for path in (tmp_path / "processes").glob("*.json"):
            path.write_text(json.dumps(fields(path) | {"slot": 0}))
        async with supervised(tmp_path) as it:
            assert len(it.supervisor.observe()) == 1
            kept = it.worker().pid
            other = next(pid for pid in pids if pid != kept)
            await async_eventually(lambda: is_gone(other))
            assert it.worker().pid == kept
            assert it.supervisor.find(other)


async def test_only_one_daemon_for_each_folder(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        second = Supervisor(tmp_path, lambda _: None)
        with pytest.raises(FolderInUse, match="RECONCILER_STATE"):
            await second.start()
        await second.close()
        assert it.state() is WorkerState.READY


async def test_taking_over_is_quick(tmp_path: Path) -> None:
    """By one of those that come after each other: others use this machine."""
    took: list[float] = []
    with killed_daemon(tmp_path, *[GOOD] * 20):
        while len(took) < 20 and min(took, default=1.0) >= 1.0:
            supervisor = Supervisor(tmp_path, lambda _: None)
            began = time.perf_counter()
            await supervisor.start()
            took.append(time.perf_counter() - began)
            assert len(supervisor.observe()) == 20
            supervisor.leave()
        async with supervised(tmp_path) as it:
            assert len(it.supervisor.observe()) == 20
    assert min(took) < 1.0


def test_marks_survive_any_name(tmp_path: Path) -> None:
    mark = Mark(owner_of(tmp_path), Pool('a/"b"\n☃', "w,\\"), 12)
    assert read_mark(str(mark)) == mark
    assert read_mark(None) is None
    assert read_mark("[1, 2]") is None


def edit_record(folder: Path, **changes: object) -> None:
    (path,) = (folder / "processes").glob("*.json")
    path.write_text(json.dumps(fields(path) | changes))
