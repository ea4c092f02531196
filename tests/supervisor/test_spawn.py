"""From a spec to a running process: what it is given, and what happens when it cannot be started."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from reconciler.supervisor import proc, starts
from reconciler.supervisor.logfiles import log_path
from state.processes import Pool, WorkerSpec, WorkerState
from tests.supervisor.support import GOOD, POOL, TELL, log_of, patience, spec, supervised
from tests.waiting import async_eventually

TELL_ALL = TELL + (
    "import json\n"
    "fds = [os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1, 2)]\n"
    "others = [fd for fd in os.listdir('/proc/self/fd') if int(fd) > 2]\n"
    "print(json.dumps([dict(os.environ), fds, others, os.getcwd(), os.getsid(0), os.getpgrp()]), flush=True)\n"
    "tell('READY=1')\nwait()\n"
)


async def test_what_a_process_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"):
        monkeypatch.setenv(name, "the daemon's own")
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.setenv("OVERRIDDEN", "no")
    async with supervised(tmp_path) as it:
        given = spec(TELL_ALL, env={"OVERRIDDEN": "yes", "SNOWMAN": "☃"}, cwd=str(tmp_path))
        it.supervisor.start_worker(given, 3)
        await async_eventually(lambda: it.state(3) is WorkerState.READY)
        worker = it.worker(3)
        environ, fds, others, cwd, session, group = json.loads(log_of(worker))
    assert (environ["INHERITED"], environ["OVERRIDDEN"], environ["SNOWMAN"]) == ("yes", "yes", "☃")
    assert (environ["SLOT"], environ["PYTHONUNBUFFERED"]) == ("3", "1")
    assert environ["NOTIFY_SOCKET"] == str(tmp_path / "notify.sock")
    assert not {"WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"} & set(environ)
    assert environ["RECONCILER_WORKER"]
    assert fds == ["/dev/null", worker.log_path, worker.log_path]
    assert len(others) == 1  # the one that lists them
    assert (cwd, session, group) == (str(tmp_path), worker.pid, worker.pid)
    assert Path(worker.log_path or "").stat().st_mode & 0o777 == 0o600


async def reason_of(folder: Path, **how: object) -> str:
    """Why a worker is in backoff that was started like this."""
    with patience():
        return await _reason_of(folder, spec(**how))  # type: ignore[arg-type]


async def _reason_of(folder: Path, asked: WorkerSpec) -> str:
    async with supervised(folder) as it:
        it.supervisor.start_worker(asked, 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        worker = it.worker()
        assert worker.pid is None
        assert worker.retry_at
        assert worker.restarts == 1
        assert it.kinds() == ["backoff"]
        assert list((folder / "logs").rglob("*.log")) == []
        assert worker.reason
        return worker.reason


async def test_command_not_found(tmp_path: Path) -> None:
    assert await reason_of(tmp_path, command=("no-such-program",)) == "command not found: no-such-program"


async def test_interpreter_not_found(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    assert "its interpreter /no/such/interpreter is not" in await reason_of(tmp_path, command=(str(script),))


async def test_not_executable(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("x")
    assert "not executable: ./script" in await reason_of(tmp_path, command=("./script",), cwd=str(tmp_path))


async def test_not_a_program(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("\0\1\2")
    (tmp_path / "script").chmod(0o700)
    reason = await reason_of(tmp_path, command=("./script",), cwd=str(tmp_path))
    assert reason == "cannot start ./script: Exec format error"


async def test_no_such_folder(tmp_path: Path) -> None:
    assert await reason_of(tmp_path, cwd="/no/such") == "working directory /no/such does not exist"


async def test_impossible_arguments(tmp_path: Path) -> None:
    assert "null byte" in await reason_of(tmp_path, env={"A": "b\0c"})
    assert "cannot be started" in await reason_of(tmp_path, command=("a\0b",))


async def test_no_room_for_its_log(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        (tmp_path / "logs").rmdir()
        (tmp_path / "logs").write_text("in the way")
        it.supervisor.start_worker(spec(), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        assert "cannot write its log" in (it.worker().reason or "")
        (tmp_path / "logs").unlink()
        await async_eventually(lambda: it.state() is WorkerState.READY)
        assert it.worker().reason is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_while_it_writes_is_the_workers_affair(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec("print('x' * 10, file=open('/dev/full', 'w'), flush=True)"), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        assert it.worker().reason == "exit code 1: OSError: [Errno 28] No space left on device"


async def test_a_fork_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", no_fork)
    reason = await reason_of(tmp_path)
    assert reason == f"cannot start {sys.executable}: Resource temporarily unavailable"


async def test_no_descriptor_left_for_its_pidfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fd(_: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.pidfd_open", no_fd)
    assert await reason_of(tmp_path) == "cannot watch over it: Too many open files"


@pytest.mark.parametrize("queue", ["a/b", "../../etc", "ü" * 127, "日本語/名前", " ", ".", "a\nb", "x" * 255])
def test_any_name_has_a_safe_log_path(tmp_path: Path, queue: str) -> None:
    path = log_path(tmp_path, Pool(queue, "w"), 0, 0.0)
    assert path.parent.parent == tmp_path
    assert path.name == "0-19700101T000000.000000Z.log"
    assert len(os.fsencode(path.parent.name)) < 100
    assert path.parent.name.isascii()


def test_different_pools_log_to_different_folders(tmp_path: Path) -> None:
    one, two = Pool("a/b", "c"), Pool("a", "b/c")
    assert log_path(tmp_path, one, 0, 0.0) != log_path(tmp_path, two, 0, 0.0)


async def test_a_queue_with_a_difficult_name(tmp_path: Path) -> None:
    pool = Pool("../büro/" + "☃" * 80, "w")
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(pool=pool), 0)
        await async_eventually(lambda: it.state(0, pool) is WorkerState.READY)


async def test_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With silent ones taking all places, others wait without a pid, and get theirs in the end."""
    monkeypatch.setattr(starts, "WARM_UP", 600.0)  # else they get them before a late look
    silent = spec("import time; time.sleep(60)", pool=Pool("quiet", "w"), grace=0.1)
    async with supervised(tmp_path) as it:
        for slot in range(12):
            it.supervisor.start_worker(silent, slot)
        it.supervisor.start_worker(spec(GOOD), 0)
        await async_eventually(lambda: any(worker.pid for worker in it.supervisor.observe()))
        waiting = it.worker()
        assert (waiting.state, waiting.pid) == (WorkerState.STARTING, None)
        assert waiting.reason == "waits for its turn to start"
        spawned = [worker for worker in it.supervisor.observe() if worker.pid]
        assert len(spawned) <= max(2, os.cpu_count() or 2)
        for slot in range(12):
            it.supervisor.stop_worker(Pool("quiet", "w"), slot)
        await async_eventually(lambda: it.state() is WorkerState.READY)


async def test_a_crash_loop_starves_nobody(tmp_path: Path) -> None:
    broken = spec("raise SystemExit(1)", pool=Pool("broken", "w"))
    async with supervised(tmp_path) as it:
        for slot in range(20):
            it.supervisor.start_worker(broken, slot)
        for slot in range(5):
            it.supervisor.start_worker(spec(), slot)
        await async_eventually(lambda: all(it.state(slot) is WorkerState.READY for slot in range(5)))
        assert all(worker.state is not WorkerState.READY for worker in it.supervisor.observe()[:20])


async def test_descriptors_do_not_leak(tmp_path: Path) -> None:
    """Two hundred lives, by death and by command."""
    quick = spec("raise SystemExit(0)")
    async with supervised(tmp_path) as it:
        before = len(os.listdir("/proc/self/fd"))
        for round_number in range(20):
            for slot in range(10):
                it.supervisor.start_worker(quick, slot)
            ended = (round_number + 1) * 10
            await async_eventually(lambda ended=ended: sum(e.kind == "exited" for e in it.events) >= ended)
            for slot in range(10):
                it.supervisor.stop_worker(POOL, slot)
            await async_eventually(lambda: it.supervisor.observe() == ())
        # Two for inotify, which may have come after the start.
        await async_eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
        assert proc.read_stat(os.getpid())
