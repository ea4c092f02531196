"""One running process, held by its pidfd: signalled, watched and buried without ever meeting another one.

A pid is only a number that may pass on to someone else. A pidfd never does.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from reconciler.supervisor.cgroup import Group
from reconciler.supervisor.oom import oom_kills, oom_kills_lately
from reconciler.supervisor.parents import Parent
from reconciler.supervisor.records import Record
from reconciler.supervisor.report import Report


class Process:
    """A worker, started by us or by an earlier daemon. Leads its own session and group.

    One of ours waits at its `gate` until `release`: its record is on disk before it may take a message.
    """

    def __init__(self, record: Record, pidfd: int, parent: Parent, gate: int = -1, group: Group | None = None) -> None:
        self.record = record
        self.report = Report(ready=record.ready_since is not None, consumer_tag=record.consumer_tag)
        self.pidfd = pidfd  # readable once the process has ended; -1 after that was told
        self.killed = False  # by us, after its grace
        self._oom_kills = oom_kills_lately()
        self._parent = parent
        self._gate = gate
        self._group = group
        self._burial: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self.record.pid

    @property
    def alive(self) -> bool:
        """Until its end was told."""
        return self.pidfd >= 0

    @property
    def starved(self) -> bool:
        """Whether the kernel has killed for want of memory since it started, and we have not killed it ourselves."""
        if self._group and self._group.oom_kills is not None:
            return not self.killed and self._group.oom_kills > 0
        return not self.killed and oom_kills() > self._oom_kills

    def release(self) -> None:
        """Lets it begin."""
        if self._gate >= 0:
            with suppress(OSError):
                os.write(self._gate, b"\n")
            os.close(self._gate)
            self._gate = -1

    def watch(self, loop: asyncio.AbstractEventLoop, ended: Callable[[int | None], None]) -> None:
        """Calls `ended(code)` once, when it has ended and nothing of its group is left that was not killed.

        The code is minus the signal's number if a signal ended it, None if nobody can know.
        """
        loop.add_reader(self.pidfd, self._over, loop, ended)

    def terminate(self) -> None:
        """SIGTERM to the leader alone: what it does with its children is its affair until grace is over."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process would not hear the first

    def kill(self) -> None:
        """SIGKILL to all of its group, and with its burial to all of its control group."""
        self.killed = True
        self._parent.kill_group(self.pid)
        self._signal(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """A signal to the leader; nothing if it has ended."""
        self._signal(number)

    def let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leaves it to the next daemon."""
        if self.alive:
            loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

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
        with suppress(ProcessLookupError, PermissionError, OSError):
            signal.pidfd_send_signal(self.pidfd, number)

    def _over(self, loop: asyncio.AbstractEventLoop, ended: Callable[[int | None], None]) -> None:
        loop.remove_reader(self.pidfd)
        self._burial = loop.create_task(self._bury(ended))

    async def _bury(self, ended: Callable[[int | None], None]) -> None:
        code = await self._parent.bury(self.pid, self.pidfd)
        if self._group:
            await self._group.end()
        if self.pidfd < 0:  # let go meanwhile: the next daemon buries it
            return
        os.close(self.pidfd)
        self.pidfd = -1
        self.release()
        ended(code)
