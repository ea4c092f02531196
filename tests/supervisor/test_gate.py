"""The gate: nothing works that is not on file, and what is let through is what was asked for, to the byte."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import workers
from reconciler.supervisor import proc
from reconciler.supervisor.marker import MARKER, owner_of, read_mark
from state.processes import Pool, WorkerSpec, WorkerState
from tests.supervisor.support import POOL, Running, is_gone, log_of, spec, supervised
from tests.waiting import async_eventually, eventually

ENTRY = Path(workers.__path__[0]) / "__main__.py"
SAY = """
import json, os, signal, sys
told = dict(
    args=[os.fsencode(word).hex() for word in sys.argv[1:]], stdin=os.readlink("/proc/self/fd/0"), pid=os.getpid(),
    parent=os.getppid(), session=os.getsid(0), fds=sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    env=dict(os.environ), pipe=str(signal.getsignal(signal.SIGPIPE)),
    ignored=int(next(l for l in open("/proc/self/status") if l.startswith("SigIgn")).split()[1], 16),
    blocked=int(next(l for l in open("/proc/self/status") if l.startswith("SigBlk")).split()[1], 16),
)
print("TOLD", json.dumps(told), flush=True)
signal.pause()
"""
WORDS = ("two words", 'it\'s "quoted"', "", "-n", "--", "$HOME `id` \\", "a\nb\n", "☃", "*", os.fsdecode(b"\xff\xfe"))


def told_by(it: Running, slot: int = 0) -> dict[str, object] | None:
    lines = log_of(it.worker(slot)).splitlines(keepends=True)
    lines = [line for line in lines if line.startswith("TOLD ") and line.endswith("\n")]  # it may be half written
    return dict(json.loads(lines[0][5:])) if lines else None


async def told(it: Running, slot: int = 0) -> dict[str, object]:
    return await async_eventually(lambda: told_by(it, slot))


async def test_a_foreign_program_is_run_as_it_was_asked_for(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        command = (sys.executable, "-I", "-S", "-c", SAY, *WORDS)
        it.supervisor.start_worker(spec(command=command, env={"GREETING": "hällo\nyou"}), 0)
        own = await told(it)
        pid = it.worker().pid
        assert own["args"] == [os.fsencode(word).hex() for word in WORDS]
        assert (own["stdin"], own["fds"]) == ("/dev/null", [0, 1, 2])
        assert (own["pid"], own["session"], own["parent"]) == (pid, pid, os.getpid())
        assert own["env"]["GREETING"] == "hällo\nyou"  # type: ignore[index]
        assert "START_GATE" not in own["env"]  # type: ignore[operator]
        assert own["blocked"] == 0
        cmdline = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert cmdline[0] == os.fsencode(sys.executable)
        assert it.kinds() == ["started"], "the same process from the start"


async def test_variables_that_a_shell_could_not_name_arrive(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        command = (sys.executable, "-I", "-S", "-c", SAY)
        it.supervisor.start_worker(spec(command=command, env={"app.mode": "x", "A-B": "y", "1": "z"}), 0)
        env = (await told(it))["env"]
        assert [env[name] for name in ("app.mode", "A-B", "1")] == ["x", "y", "z"]  # type: ignore[index]


@pytest.mark.parametrize("code", [0, 7, 255])
async def test_its_exit_code_is_its_own(tmp_path: Path, code: int) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(command=("sh", "-c", f"exit {code}")), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        assert it.worker().reason == f"exit code {code}"


async def test_one_that_is_killed_is_told_so(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(command=("sh", "-c", "kill -ABRT $$")), 0)
        await async_eventually(lambda: it.state() is WorkerState.BACKOFF)
        assert (it.worker().reason or "").startswith("killed by SIGABRT")


# A daemon that dies at a point that is patched: argv is the state folder, the point, the kind of worker, its module.
DYING = """
import asyncio, os, pickle, sys
from pathlib import Path
from reconciler.supervisor import Supervisor, process, records, slot, spawn, zygote
state, point = Path(sys.argv[1]), sys.argv[2]
def die(*_, **__):
    os._exit(42)
def patch(where, name, when="before"):
    true = getattr(where, name)
    def before(*args, **more):
        die()
    def after(*args, **more):
        true(*args, **more)
        die()
    setattr(where, name, before if when == "before" else after)
match point:
    case "after Popen": patch(spawn, "constrain")
    case "after fork": patch(spawn.proc, "read_stat")
    case "before record": patch(records.Records, "save")
    case "half of a record":
        def half(path, text):
            Path(path).write_text(text[: len(text) // 2])
            die()
        records.append = half
    case "after record": patch(records.Records, "save", "after")
    case "before release": patch(process.Process, "release")
    case "asked to fork":
        true = zygote.Zygote._is_full
        def asked(self, message, fds=()):
            full = true(self, message, fds)
            if "fork" in message and not full:
                die()
            return full
        zygote.Zygote._is_full = asked
async def main():
    supervisor = Supervisor(state, lambda _: None)
    await supervisor.start()
    supervisor.start_worker(pickle.loads(sys.stdin.buffer.read()), 0)
    await asyncio.sleep(60)
asyncio.run(main())
"""
WORKS = """
import os
from pathlib import Path
from .base import BaseWorker
class Work(BaseWorker):
    def __init__(self, channel, queue_name):
        Path(os.environ["WORKED"]).touch()
        super().__init__(channel, queue_name)
    def process_message(self, ch, method, properties, body):
        pass
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "site" / "workers"
    folder.mkdir(parents=True)
    (folder / "work.py").write_text(WORKS)
    yield folder
    for pid in marked(tmp_path / "state"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def wanted(kind: str, site: Path, code: str = "1") -> WorkerSpec:
    """A worker that leaves a file once it works, of one of three kinds; the broker is not there."""
    worked = str(site.parent / "worked")
    if kind == "foreign":
        return replace(spec(command=("sh", "-c", f"touch {worked}; exec sleep 1000")), grace=1.0)
    env = {
        "AMQP_URL": "amqp://guest:guest@127.0.0.1:9/%2F",
        "QUEUE_NAME": "work",
        "WORKERS_FOLDER": str(site),
        "WORKED": worked,
    }
    command = (sys.executable, "-P", str(ENTRY), "run", "work")
    forked = kind == "forked"
    return WorkerSpec(POOL, command, env, str(site.parent), 1.0, code, module="work", code=code, zygote=forked)


def marked(state: Path) -> list[int]:
    """Workers of that state folder, as a daemon would find them."""
    owner = owner_of(state)
    marks = [(pid, read_mark(proc.environ_of(pid, MARKER))) for pid in proc.pids()]
    return [pid for pid, mark in marks if mark and mark.owner == owner and not is_gone(pid)]


POINTS = ("after Popen", "asked to fork", "after fork", "before record", "half of a record", "before release")


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        (kind, point)
        for kind in ("foreign", "exec'd", "forked")
        for point in POINTS
        if (point == "after Popen") <= (kind != "forked") and (point == "asked to fork") <= (kind == "forked")
    ],
)
async def test_a_daemon_that_dies_leaves_nothing_that_works(tmp_path: Path, site: Path, kind: str, point: str) -> None:
    state, worked = tmp_path / "state", site.parent / "worked"
    await die_at(point, state, wanted(kind, site))
    if point == "asked to fork":  # its child may be yet to come
        eventually(lambda: any("it does not start" in log.read_text() for log in (state / "logs").rglob("*.log")))
    eventually(lambda: marked(state) == [] and len(fellows(site)) <= 1)  # the zygote is left, and has no child
    assert not worked.exists()
    async with supervised(state) as it:
        assert it.supervisor.observe() == ()
        it.supervisor.start_worker(wanted(kind, site), 0)
        await async_eventually(worked.exists, 60)


async def test_one_that_dies_as_soon_as_the_record_is_there_leaves_nothing_either(tmp_path: Path, site: Path) -> None:
    state = tmp_path / "state"
    await die_at("after record", state, wanted("foreign", site))
    eventually(lambda: marked(state) == [])
    async with supervised(state) as it:
        assert it.supervisor.observe() == ()
        (ended,) = it.supervisor.history()
        assert (ended.reason or "").startswith("ended while no daemon was running")
    assert not (site.parent / "worked").exists()


async def die_at(point: str, state: Path, wish: WorkerSpec) -> None:
    import pickle

    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING, str(state), point, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    await asyncio.wait_for(daemon.communicate(pickle.dumps(wish)), 90)
    assert daemon.returncode == 42, f"it has not come to {point!r}"


def fellows(site: Path) -> list[int]:
    """Every process that was given this folder of workers: the zygote, and a child that it has not marked yet."""
    return [pid for pid in proc.pids() if proc.environ_of(pid, "WORKERS_FOLDER") == str(site)]


def opened(pid: int) -> list[str]:
    """What its descriptors stand for; nothing if it ends meanwhile."""
    names = []
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return names


def pipes(pid: int) -> list[str]:
    """Gates and requests that it has open; its sockets come and go, as there is no broker."""
    return [name for name in opened(pid) if name.startswith("pipe:")]


def handed(zygote: int, state: Path) -> list[str]:
    """Requests, gates and logs of children."""
    return [name for name in opened(zygote) if name.startswith(("pipe:", "/memfd:", str(state / "logs")))]


SLOW = "import time\ntime.sleep(1.5)\n" + WORKS


def descriptors(pid: int | str = "self") -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_launches_that_are_called_off_leave_nothing(tmp_path: Path, site: Path) -> None:
    """While the zygote imports: stopped; scaled down and up; changed."""
    (site / "work.py").write_text(SLOW)
    state, one, two = tmp_path / "state", wanted("forked", site), wanted("forked", site, code="2")
    async with supervised(state) as it:
        before = descriptors()
        for number in range(10):
            it.supervisor.start_worker(one, number)
        await asyncio.sleep(0.2)
        for number in range(10):
            it.supervisor.stop_worker(POOL, number)
        assert it.supervisor.observe() == ()
        for number in range(10):
            it.supervisor.start_worker(one, number)
        await asyncio.sleep(0.2)
        for number in range(10):
            it.supervisor.start_worker(two, number)  # other code while the first is still imported
        await asyncio.sleep(0.2)
        for number in range(5, 10):
            it.supervisor.stop_worker(POOL, number)
        await async_eventually(lambda: sum(w.pid is not None for w in it.supervisor.observe()) == 5, 60)
        await async_eventually(lambda: set(marked(state)) == {w.pid for w in it.supervisor.observe()})
        (zygote,) = {stat.parent for w in it.supervisor.observe() if (stat := proc.read_stat(w.pid or 0))}
        # It tells of its children first, and closes what it was handed for them then.
        await async_eventually(lambda: not handed(zygote, state))
        at_rest = descriptors(zygote)
        await async_eventually(lambda: not any(pipes(pid) for pid in marked(state)))
        for number in range(5):
            it.supervisor.stop_worker(POOL, number)
        await async_eventually(lambda: it.supervisor.observe() == ())
        for number in range(5):
            it.supervisor.start_worker(two, number)
        await async_eventually(lambda: sum(w.pid is not None for w in it.supervisor.observe()) == 5, 60)
        # What it was handed for others, it closes.
        await async_eventually(lambda: not handed(zygote, state) and descriptors(zygote) == at_rest)
        await async_eventually(lambda: not any(pipes(pid) for pid in marked(state)))
        for number in range(5):
            it.supervisor.stop_worker(POOL, number)
        await async_eventually(lambda: it.supervisor.observe() == () and marked(state) == [])
        # Each of two zygotes takes a socket and a pidfd, silent logs take inotify.
        await async_eventually(lambda: descriptors() <= before + 6)
    assert list((state / "processes").glob("*.tmp")) == []


async def test_up_and_down_quickly(tmp_path: Path, site: Path) -> None:
    state, pool = tmp_path / "state", Pool("work", "work")
    wish = replace(wanted("forked", site), pool=pool)
    async with supervised(state) as it:
        it.supervisor.start_worker(wish, 0)
        await async_eventually(lambda: it.supervisor.observe()[0].pid)
        before = descriptors()
        for _ in range(5):
            for number in range(1, 10):
                it.supervisor.start_worker(wish, number)
            await asyncio.sleep(0.02)
            for number in range(1, 10):
                it.supervisor.stop_worker(pool, number)
            await asyncio.sleep(0.02)
        await async_eventually(lambda: len(it.supervisor.observe()) == 1)
        await async_eventually(lambda: marked(state) == [it.supervisor.observe()[0].pid])
        await async_eventually(lambda: descriptors() <= before)
        logs = [path for path in (state / "logs").rglob("*") if path.is_file()]
        assert {str(path) for path in logs} >= {it.supervisor.observe()[0].log_path}
