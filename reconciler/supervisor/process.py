"""One running process, held by its pidfd: signalled, watched, ended and reaped without ever meeting another one.

A pid is only a number that may pass on to someone else. A pidfd never does; and a process group is killed only
while its leader, living or not yet reaped, still keeps the number.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress

from reconciler.supervisor import proc
from reconciler.supervisor.marker import MARKER
from reconciler.supervisor.records import Record
from reconciler.supervisor.report import Report


class Process:
    """A child of ours (with its `child`), or one that an earlier daemon started. Leads its own session and group."""

    def __init__(
        self, record: Record, pidfd: int, child: subprocess.Popen[bytes] | None = None, mark: str = ""
    ) -> None:
        self.record = record
        self.report = Report(ready=record.ready_since is not None, consumer_tag=record.consumer_tag)
        self.pidfd = pidfd  # readable once the process has ended; -1 after `reap`
        self._child = child
        self._mark = mark  # of one that is not our child: how its children are known

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def alive(self) -> bool:
        """Until it has been reaped."""
        return self.pidfd >= 0

    def terminate(self) -> None:
        """SIGTERM to the leader alone: what it does with its children is its affair until grace is over."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process would not hear the first

    def kill(self) -> None:
        """SIGKILL to all of its group."""
        self._kill_group()
        self._signal(signal.SIGKILL)

    def reap(self) -> int | None:
        """After its end: kills what is left of the group, then lets go of it.

        The exit code, minus the signal's number if a signal ended it; None if nobody can know.
        """
        code = self._exit_code()
        self._kill_group()
        if self._child:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED)
            self._child.returncode = code if code is not None else 0  # or Popen would look for it again
        os.close(self.pidfd)
        self.pidfd = -1
        return code

    def group_lingers(self) -> bool:
        """Whether killed members of its group have yet to vanish; they take a moment.

        Orphans fall to init, which is ourselves in a container without one: then they are reaped here.
        """
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, 0)
            with suppress(ChildProcessError):
                while os.waitid(os.P_PGID, self.pid, os.WEXITED | os.WNOHANG):
                    pass
            return True
        return False

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(self.pidfd, number)

    def _exit_code(self) -> int | None:
        if not self._child:
            return None
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:  # SIGCHLD is ignored: the kernel reaps by itself
            return None
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _kill_group(self) -> None:
        if self._child:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            return
        # Someone else's child may be reaped at any moment, and its number pass on: look at each member.
        for _ in range(3):
            members = list(self._session())
            for pid in members:
                kill_if(pid, self.pid, self._mark)
            if not members:
                return

    def _session(self) -> Iterator[int]:
        for pid in proc.pids():
            stat = proc.read_stat(pid)
            if stat and stat.session == self.pid and stat.alive:
                yield pid


def kill_if(pid: int, session: int, mark: str) -> None:
    """SIGKILL, if it is a process of that session with that mark in its environment."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        stat = proc.read_stat(pid)
        if stat and stat.session == session and proc.environ_of(pid, MARKER) == mark:
            with suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
