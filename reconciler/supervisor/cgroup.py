"""A control group (v2) for each worker, where we may: it holds all that the worker ever starts.

A child that made itself a session has left the group that a signal reaches, but not this one. `spawn` has a worker
enter before it leaves its gate, its burial kills what is left inside, and the next daemon finds it by its record.

We may where the kernel lets us write *and* our own group was given to us to divide: by systemd (`Delegate=`), or
because it is the topmost one and no systemd rules there, as in a container. Elsewhere, and whenever the kernel says
no, a worker has no control group, and its process group has to do.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from reconciler.supervisor import proc
from reconciler.supervisor.oom import oom_kills

log = logging.getLogger(__name__)
T = TypeVar("T")
LOOKS = (0.0, 0.005, 0.02, 0.1, 0.3, 1.0, 3.0)  # seconds between tries to remove a group whose processes were killed
DELEGATED = ("user.delegate", "trusted.delegate")  # as systemd marks what is its service's own to divide
LEAF = re.compile(r"(\d+)-(\d+)")


class Group:
    """The control group of one worker: `path` is its folder, below the one of its daemons' state folder."""

    def __init__(self, path: Path, cgroups: Cgroups) -> None:
        self.path = path
        self.oom_kills: int | None = None  # once it has ended: how often the kernel killed in it; None if not counted
        self._cgroups = cgroups

    async def end(self) -> None:
        """SIGKILL to all that are in it. It is removed as soon as they are gone."""
        await self._cgroups.end(self)


class Cgroups:
    """The groups of one state folder's workers, below `base`; without that it gives none.

    The kernel moves a process within 10 ms, but takes far longer under load, and has all others wait meanwhile. So
    everything is done in one thread of its own, in order.
    """

    def __init__(self, base: Path | None, owner: str) -> None:
        self._name = f"reconciler-{owner}"
        self._folder = base / self._name if base else None
        self._folders = {self._folder} if self._folder else set()  # an earlier daemon may have been elsewhere
        self._held: set[Path] = set()
        self._thread = ThreadPoolExecutor(1, "cgroups")
        self._removals: set[asyncio.Task[None]] = set()

    @classmethod
    def find(cls, owner: str) -> Cgroups:
        """Those that are ours to make; `owner` as in `marker.owner_of`."""
        base = find_base(Path("/proc/self/mountinfo"), Path("/proc/self/cgroup"))
        if base is None:
            log.debug("no control groups for workers: none was delegated to the daemon")
        return cls(base, owner)

    async def enter(self, pid: int, start_time: int) -> Group | None:
        """A new group with that process in it; None if there can be none. When cancelled, nothing is left of it."""
        if self._folder is None:
            return None
        group = Group(self._folder / f"{pid}-{start_time}", self)
        try:
            made = await self._run(_make, group.path, pid)
        except asyncio.CancelledError:
            self._later(self.end(group))
            raise
        if not made:
            return None
        self._held.add(group.path)
        return group

    def know(self, path: str | None) -> None:
        """An earlier daemon had made this group, perhaps below another base."""
        if path and Path(path).parent.name == self._name:
            self._folders.add(Path(path).parent)

    def group_of(self, pid: int, start_time: int) -> Group | None:
        """The one that an earlier daemon made for a worker that lives."""
        for folder in self._folders:
            if (path := folder / f"{pid}-{start_time}").is_dir():
                self._held.add(path)
                return Group(path, self)
        return None

    async def sweep(self) -> None:
        """Ends what workers left behind that died while no daemon was running."""
        for path in await self._run(_left_over, frozenset(self._folders), frozenset(self._held)):
            await self.end(Group(path, self))

    async def end(self, group: Group) -> None:
        """As `Group.end`."""
        self._held.discard(group.path)
        group.oom_kills = await self._run(_end, group.path)
        self._later(self._remove(group.path))

    async def close(self) -> None:
        """Waits until those are removed that have ended, and removes what is empty then."""
        while self._removals:
            await asyncio.wait(self._removals)
        for folder in self._folders:
            await self._run(_remove, folder)

    async def _remove(self, path: Path) -> None:
        for wait in LOOKS:
            await asyncio.sleep(wait)
            if await self._run(_remove, path):
                return

    async def _run(self, what: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what, *arguments)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)


def find_base(mountinfo: Path, membership: Path) -> Path | None:
    """The group that is ours to divide: our own, or the one above it if that was delegated. None if we may not."""
    try:
        mount, own = _place(mountinfo.read_text(), membership.read_text())
    except (OSError, ValueError):
        return None
    if own == mount:
        ours = [own] if _is_delegated(own) or not _systemd_rules() else []
    else:
        ours = [group for group in (own.parent, own) if _is_delegated(group)]
    return next((group for group in ours if _is_writable(group)), None)


def _place(mountinfo: str, membership: str) -> tuple[Path, Path]:
    """Where cgroup2 is mounted, and our own group there. Raises ValueError without one."""
    own = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if own is None:
        raise ValueError("there is no cgroup v2")
    for line in mountinfo.splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            root, point = (_unescaped(field) for field in fields.split()[3:5])
            with suppress(ValueError):
                return Path(point), Path(point) / Path(own).relative_to(root)
    raise ValueError("our control group is not mounted")


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)


def _is_delegated(group: Path) -> bool:
    for name in DELEGATED:
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _systemd_rules() -> bool:
    with suppress(OSError):
        if Path("/proc/1/comm").read_text().strip() == "systemd":
            return True
    return Path("/run/systemd/system").exists()


def _is_writable(group: Path) -> bool:
    return all(os.access(path, os.W_OK) for path in (group, group / "cgroup.procs"))


# What follows runs in the thread.


def _make(path: Path, pid: int) -> bool:
    try:
        if not path.parent.is_dir():
            _count_memory(path.parent.parent)
            path.parent.mkdir(exist_ok=True)
            _count_memory(path.parent)
        path.mkdir()
        (path / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        log.debug("no control group for process %s: %s", pid, error)
        _remove(path)
        return False
    return True


def _count_memory(group: Path) -> None:
    """Has the groups below it tell of kills for want of memory. Refused where processes are in it, as in our own."""
    with suppress(OSError):
        (group / "cgroup.subtree_control").write_text("+memory")


def _end(path: Path) -> int | None:
    counted = oom_kills(path) if (path / "memory.events").exists() else None
    try:
        (path / "cgroup.kill").write_text("1")
    except OSError:  # before Linux 5.14, or gone
        _kill_each(path)
        _kill_each(path)  # those that were just being born
    return counted


def _kill_each(path: Path) -> None:
    pidfds: dict[int, int] = {}
    for pid in _members(path):
        with suppress(OSError):
            pidfds[pid] = os.pidfd_open(pid)
    still = set(_members(path))  # else the number may have passed on before it was opened
    for pid, pidfd in pidfds.items():
        with suppress(OSError):
            if pid in still:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _members(path: Path) -> Iterator[int]:
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            yield from map(int, Path(folder, "cgroup.procs").read_text().split())


def _remove(path: Path) -> bool:
    """Whether it is gone; those that a worker has made inside go first."""
    for folder, _, _ in os.walk(path, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    return not path.exists()


def _left_over(folders: frozenset[Path], held: frozenset[Path]) -> list[Path]:
    """The groups below `folders` that nobody holds, and whose worker is dead."""
    found: list[Path] = []
    for folder in folders:
        with suppress(OSError):
            found.extend(path for path in folder.iterdir() if path not in held and _is_left_over(path))
    return found


def _is_left_over(path: Path) -> bool:
    name = LEAF.fullmatch(path.name)
    if not name or 0 in _members(path):  # 0: processes of another container, of which we know nothing
        return False
    stat = proc.read_stat(int(name[1]))
    return not (stat and stat.alive and stat.start_time == int(name[2]))
