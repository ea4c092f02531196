"""Whose child a worker is: how its end is known, and how what is left of its group is killed.

A process group may be signalled only while its leader, living or not yet reaped, still keeps the number. So killing
the group is its parent's affair; for one whose parent is unknown each member is looked at.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from reconciler.supervisor import proc
from reconciler.supervisor.marker import MARKER
from reconciler.supervisor.zygote import Zygote
from reconciler.supervisor.zygotes import Zygotes

PATIENCE = 2.0  # seconds for a zygote to tell how a child of its ended
LOOKS = (0.0, 0.002, 0.01, 0.05, 0.2)  # seconds between looks at what the kernel has kept of a process
_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO: _IOWR(0xFF, 11, 64 bytes)
_INFO_EXIT = 1 << 3
_INFO = struct.Struct("Q52xi")  # the mask, what we do not need, the wait status


class Parent(Protocol):
    """Who reaps a worker."""

    async def bury(self, pid: int, pidfd: int) -> int | None:
        """After its end: kills what is left of its group, and sees that it is reaped.

        The exit code, minus the signal's number if a signal ended it; None if nobody can know.
        """

    def kill_group(self, pid: int) -> None:
        """SIGKILL to the rest of the group while the leader lives."""


class Daemon:
    """This process: it was exec'd by us, or by what we were before we exec'd ourselves."""

    async def bury(self, pid: int, pidfd: int) -> int | None:
        if pidfd < 0:  # nobody watches over it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        code = self._exit_code(pid)
        self.kill_group(pid)
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED)
        return code

    def kill_group(self, pid: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def _exit_code(self, pid: int) -> int | None:
        try:
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # SIGCHLD is ignored: the kernel reaps by itself
            return None
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


class Stranger:
    """Somebody else, init for the most part: an earlier daemon's child, or one whose zygote has died."""

    def __init__(self, mark: str) -> None:
        self._mark = mark  # in its environment: how its children are known

    async def bury(self, pid: int, pidfd: int) -> int | None:
        code = proc.code_of_zombie(pid)  # its number is its own until it is reaped
        if code is None:
            code = await exit_code_kept(pidfd)
        self.kill_group(pid)
        return code

    def kill_group(self, pid: int) -> None:
        # It may be reaped at any moment, and its number pass on: look at each member.
        for _ in range(3):
            members = list(session(pid)) if _exists(pid) else []
            for member in members:
                kill_if(member, pid, self._mark)
            if not members:
                return


class ForkedBy:
    """A zygote: it kills the group before it reaps the leader."""

    def __init__(self, zygote: Zygote, zygotes: Zygotes, mark: str) -> None:
        self._zygote = zygote
        self._zygotes = zygotes
        self._otherwise = Stranger(mark)

    async def bury(self, pid: int, pidfd: int) -> int | None:
        code = await self._zygotes.code_of(pid, self._zygote, PATIENCE)
        return code if code is not None else await self._otherwise.bury(pid, pidfd)

    def kill_group(self, pid: int) -> None:
        if self._zygote.dead:
            self._otherwise.kill_group(pid)


async def exit_code_kept(pidfd: int) -> int | None:
    """What the kernel keeps of a process that was reaped while its pidfd was open; None before Linux 6.15."""
    for wait in LOOKS:
        await asyncio.sleep(wait)
        data = bytearray(_INFO.size)
        _INFO.pack_into(data, 0, _INFO_EXIT, 0)
        try:
            fcntl.ioctl(pidfd, _GET_INFO, data)
        except OSError as error:
            if error.errno in (25, 22):  # ENOTTY, EINVAL: this kernel does not know it
                return None
            continue  # not reaped yet
        mask, status = _INFO.unpack(data)
        if mask & _INFO_EXIT:
            return os.waitstatus_to_exitcode(status)
    return None


def _exists(group: int) -> bool:
    """Whether anything has that group's number; most often nothing has, and no look at all processes is needed."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def session(leader: int) -> Iterator[int]:
    for pid in proc.pids():
        stat = proc.read_stat(pid)
        if stat and stat.session == leader and stat.alive:
            yield pid


def kill_if(pid: int, session: int, mark: str) -> None:
    """SIGKILL, if it is a process of that session with that mark in its environment."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        stat = proc.read_stat(pid)
        if stat and stat.session == session and (proc.environ_of(pid, MARKER) or "").strip() == mark.strip():
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
