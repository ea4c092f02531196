"""Control groups for workers: what left its process group is killed all the same, and nothing is left of them.

Each test of behaviour runs twice: `used`, as this machine offers them, and `refused`. Where the machine offers none,
the first is named `not offered here` and expects what the second expects.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.supervisor import cgroup, proc
from reconciler.supervisor.cgroup import Cgroups, Group, find_base
from reconciler.supervisor.marker import owner_of
from state.processes import WorkerSpec, WorkerState
from tests.supervisor.support import GOOD, POOL, TELL, Running, is_gone, log_of, spec, supervised
from tests.supervisor.test_adopt import killed_daemon
from tests.supervisor.test_zygote import make, ready  # noqa: F401  (a fixture)
from tests.waiting import async_eventually

BASE = find_base(Path("/proc/self/mountinfo"), Path("/proc/self/cgroup"))
OFFERED = "used" if BASE else "not offered here"
RUNAWAY = (
    "import os, subprocess, sys\n"
    "child = subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=-3, stderr=-3, env={})\n"
    "print(child.pid, flush=True)\n"
)
PARENT = TELL + RUNAWAY + "tell('READY=1')\nwait()\n"
DEAF_PARENT = TELL + RUNAWAY + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntell('READY=1')\nwait()\n"


@pytest.fixture(params=[OFFERED, "refused"])
def used(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether workers have control groups."""
    if request.param == "refused":
        monkeypatch.setattr(cgroup, "_is_writable", lambda _: False)
    return request.param == "used"


@pytest.fixture
def runaways() -> Iterator[Callable[[str], int]]:
    """Reads the pid of a runaway from its parent's log; none outlives the test."""
    pids: list[int] = []

    def read(text: str) -> int:
        pids.append(int(next(line for line in text.splitlines() if line.isdigit())))
        return pids[-1]

    yield read
    for pid in pids:
        with suppress(OSError):  # it may be ending this very moment
            if not is_gone(pid) and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                os.kill(pid, signal.SIGKILL)


def folder_of(state: Path) -> Path:
    """Where the groups of this state folder are, if any."""
    return (BASE or Path("/nonexistent")) / f"reconciler-{owner_of(state)}"


def groups_of(state: Path) -> list[Path]:
    folder = folder_of(state)
    return [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []


def group_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return Path(next(line[3:] for line in lines if line.startswith("0::"))).name


async def up(it: Running, worker: WorkerSpec, slot: int = 0) -> int:
    it.supervisor.start_worker(worker, slot)
    await async_eventually(lambda: it.state(slot) is WorkerState.READY)
    return it.worker(slot).pid or 0


async def settles(child: int, killed: bool) -> None:
    """It is killed, or was given the time and still runs."""
    if killed:
        await async_eventually(lambda: is_gone(child))
    else:
        await asyncio.sleep(0.2)
        assert not is_gone(child), "the machine offers nothing to know it by"


@pytest.mark.parametrize("script", [PARENT, DEAF_PARENT], ids=["heeds SIGTERM", "deaf"])
async def test_a_child_with_a_session_of_its_own_goes_with_its_worker(
    tmp_path: Path, used: bool, runaways: Callable[[str], int], script: str
) -> None:
    async with supervised(tmp_path) as it:
        await up(it, spec(script, grace=0.2))
        child = runaways(log_of(it.worker()))
        assert not is_gone(child)
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.state() is None)
        await settles(child, used)
    assert not folder_of(tmp_path).exists()


async def test_a_child_goes_with_a_worker_that_is_killed_and_followed(
    tmp_path: Path, used: bool, runaways: Callable[[str], int]
) -> None:
    async with supervised(tmp_path) as it:
        first = await up(it, spec(PARENT))
        child = runaways(log_of(it.worker()))
        os.kill(first, signal.SIGKILL)
        await async_eventually(lambda: it.worker().pid not in (None, first) and it.state() is WorkerState.READY)
        runaways(log_of(it.worker()))
        await settles(child, used)
        await async_eventually(lambda: len(groups_of(tmp_path)) == used)
    assert not folder_of(tmp_path).exists()


async def test_a_foreign_program_is_inside_before_it_runs(tmp_path: Path, used: bool) -> None:
    shell = ("/bin/sh", "-c", "grep ^0:: /proc/self/cgroup; exec sleep 1000")
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(command=shell, grace=0.2), 0)
        await async_eventually(lambda: it.worker().pid and log_of(it.worker()))
        pid = it.worker().pid or 0
        stat = proc.read_stat(pid)
        assert stat
        assert log_of(it.worker()).strip().endswith(f"/{pid}-{stat.start_time}") is used


@pytest.mark.parametrize("zygote", [True, False], ids=["forked", "exec'd"])
async def test_a_python_worker_is_inside_before_it_consumes(
    tmp_path: Path,
    used: bool,
    runaways: Callable[[str], int],
    make: Callable[..., WorkerSpec],  # noqa: F811
    zygote: bool,
) -> None:
    starts = "\n    def __init__(self, *args, **kwargs):\n        super().__init__(*args, **kwargs)\n"
    runaway = "".join(f"        {line}\n" for line in RUNAWAY.splitlines())
    body = "\nclass Work(BaseWorker):" + starts + runaway + "    def process_message(self, *_):\n        pass\n"
    worker = make(body=body)
    worker = worker if zygote else WorkerSpec(**{**vars(worker), "zygote": False})
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(worker, 0)
        (found,) = await ready(it)
        child = runaways(log_of(found))
        assert (group_of(child) == group_of(found.pid or 0) != group_of(os.getpid())) is used
        it.supervisor.stop_worker(found.pool, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        await settles(child, used)
    assert not folder_of(tmp_path / "state").exists()


async def test_fifty_workers_leave_none(tmp_path: Path, used: bool) -> None:
    async with supervised(tmp_path) as it:
        for slot in range(50):
            it.supervisor.start_worker(spec(), slot)
        await async_eventually(lambda: {w.state for w in it.supervisor.observe()} == {WorkerState.READY}, 60)
        assert len(groups_of(tmp_path)) == 50 * used
        for slot in range(50):
            it.supervisor.stop_worker(POOL, slot)
        await async_eventually(lambda: it.supervisor.observe() == ())
        await async_eventually(lambda: groups_of(tmp_path) == [])
    assert not folder_of(tmp_path).exists()


async def test_one_that_dies_at_once_leaves_none(tmp_path: Path, used: bool) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(command=("/bin/false",)), 0)
        await async_eventually(lambda: it.worker().restarts >= 2)
    assert not folder_of(tmp_path).exists()


async def test_one_that_is_stopped_on_its_way_leaves_nothing(tmp_path: Path, used: bool) -> None:
    async with supervised(tmp_path) as it:
        for _ in range(20):
            it.supervisor.start_worker(spec(command=("/bin/sleep", "1000"), grace=0.2), 0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            it.supervisor.stop_worker(POOL, 0)
            await async_eventually(lambda: it.supervisor.observe() == ())
    assert not folder_of(tmp_path).exists()


async def test_an_adopted_one_keeps_its_group(tmp_path: Path, runaways: Callable[[str], int]) -> None:
    with killed_daemon(tmp_path, DEAF_PARENT, PARENT) as pids:
        async with supervised(tmp_path) as it:
            children = [runaways(log_of(worker)) for worker in it.supervisor.observe()]
            assert not any(is_gone(child) for child in children)
            assert len(groups_of(tmp_path)) == 2 * bool(BASE)
            os.kill(pids[0], signal.SIGKILL)
            await settles(children[0], bool(BASE))
            assert not is_gone(children[1])
            it.supervisor.stop_worker(POOL, 1)
            await async_eventually(lambda: is_gone(pids[1]))
            await settles(children[1], bool(BASE))
    assert not folder_of(tmp_path).exists()


async def test_what_died_while_no_daemon_ran_is_swept(tmp_path: Path, runaways: Callable[[str], int]) -> None:
    with killed_daemon(tmp_path, PARENT, GOOD) as pids:
        logs = [path.read_text() for path in (tmp_path / "logs").rglob("*.log")]
        child = runaways(next(text for text in logs if any(line.isdigit() for line in text.splitlines())))
        os.kill(pids[0], signal.SIGKILL)
        await async_eventually(lambda: is_gone(pids[0]))
        async with supervised(tmp_path) as it:
            assert it.worker(1).pid == pids[1]
            await settles(child, bool(BASE))
            await async_eventually(lambda: len(groups_of(tmp_path)) == bool(BASE))
            assert not is_gone(pids[1])


async def test_groups_below_where_an_earlier_daemon_was_are_found(
    tmp_path: Path, runaways: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_daemon(tmp_path, PARENT) as (pid,):
        monkeypatch.setattr(cgroup, "_is_writable", lambda _: False)  # this daemon has no base
        async with supervised(tmp_path) as it:
            child = runaways(log_of(it.worker()))
            os.kill(pid, signal.SIGKILL)
            await settles(child, bool(BASE))


async def test_other_state_folders_are_left_alone(tmp_path: Path, used: bool) -> None:
    async with supervised(tmp_path / "one") as one:
        pid = await up(one, spec())
        async with supervised(tmp_path / "two"):
            pass
        assert not is_gone(pid)
        assert len(groups_of(tmp_path / "one")) == used


class Folder:
    """A base that is plain files: what a kernel without `cgroup.kill`, and one that counts memory, would show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cgroups = Cgroups(path, "test")

    def group(self, *pids: int) -> Group:
        path = self.path / "reconciler-test" / "1-1"
        path.mkdir(parents=True)
        (path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return Group(path, self.cgroups)


async def test_without_cgroup_kill_each_is_killed(tmp_path: Path) -> None:
    """`cgroup.kill` cannot be written: it is a folder."""
    with subprocess.Popen(["sleep", "1000"]) as child, subprocess.Popen(["sleep", "1000"]) as other:
        group = Folder(tmp_path).group(child.pid)
        (group.path / "cgroup.kill").mkdir()
        await group.end()
        assert child.wait(30) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()


async def test_it_tells_how_often_memory_was_wanting(tmp_path: Path) -> None:
    group = Folder(tmp_path).group()
    await group.end()
    assert group.oom_kills is None, "nobody counts"
    (group.path / "memory.events").write_text("oom 1\noom_kill 1\n")
    await group.end()
    assert group.oom_kills == 1


async def test_a_base_that_refuses_costs_the_group_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert await Cgroups(tmp_path / "file", "test").enter(os.getpid(), 1) is None
    assert await Cgroups(None, "test").enter(os.getpid(), 1) is None


async def test_the_loop_goes_on_while_the_kernel_moves_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving, moved = threading.Event(), threading.Event()

    def slow(path: Path, pid: int) -> bool:
        moving.set()
        return moved.wait(30)

    monkeypatch.setattr(cgroup, "_make", slow)
    entering = asyncio.create_task(Cgroups(tmp_path, "test").enter(1, 1))
    await async_eventually(moving.is_set)
    assert not entering.done()
    moved.set()
    assert await entering


V2 = "31 23 0:28 {root} {point} rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Path | None]:
    """What `find_base` says of a daemon in the group `own`, where `root` of the hierarchy is mounted."""

    def place(own: str, root: str = "/", mounts: str = V1 + V2) -> Path | None:
        point = tmp_path / "cgroup fs"
        for group in (point, point / "a", point / "a" / "b"):
            group.mkdir(exist_ok=True, parents=True)
            (group / "cgroup.procs").touch()
        (tmp_path / "mountinfo").write_text(mounts.format(root=root, point=str(point).replace(" ", "\\040")))
        (tmp_path / "membership").write_text(f"1:cpu:/\n0::{own}\n" if own else "1:cpu:/\n")
        found = find_base(tmp_path / "mountinfo", tmp_path / "membership")
        return found.relative_to(point) if found else None

    return place


def test_only_what_was_delegated(place: Callable[..., Path | None], monkeypatch: pytest.MonkeyPatch) -> None:
    delegated: set[str] = set()
    monkeypatch.setattr(cgroup, "_is_delegated", lambda path: path.name in delegated)
    assert place("/a/b") is None
    delegated.add("b")
    assert place("/a/b") == Path("a/b")
    delegated.add("a")  # DelegateSubgroup=: ours is one of several below what was delegated
    assert place("/a/b") == Path("a")
    assert place("/x/a/b", root="/x") == Path("a")
    assert place("/elsewhere", root="/x") is None
    assert place("") is None
    assert place("/a/b", mounts=V1) is None


@pytest.mark.parametrize("systemd", [True, False])
def test_the_topmost_one_where_no_systemd_rules(
    place: Callable[..., Path | None], monkeypatch: pytest.MonkeyPatch, systemd: bool
) -> None:
    monkeypatch.setattr(cgroup, "_systemd_rules", lambda: systemd)
    assert place("/") == (None if systemd else Path("."))


def test_delegation_is_read_where_systemd_writes_it(tmp_path: Path) -> None:
    assert not cgroup._is_delegated(tmp_path)
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError:  # this file system keeps none: there is nothing to be read
        assert not cgroup._is_delegated(tmp_path)
    else:
        assert cgroup._is_delegated(tmp_path)
    assert not cgroup._is_delegated(tmp_path / "none")


def test_what_cannot_be_written_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    assert cgroup._is_writable(tmp_path)
    (tmp_path / "cgroup.procs").unlink()
    assert not cgroup._is_writable(tmp_path)
