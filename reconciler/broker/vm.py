"""The processes of a private node: known by pid and start time, found by the node's mark in their environment."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from reconciler.broker.node import Node
from state.child import watched

VM_NAMES = ("rabbitmq-server", "erl", "erlexec", "beam.smp")  # one process, as it `exec`s its way to the VM


class Process:
    """A process known by pid and start time, our child or not."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._start_time = _start_time(pid)

    @property
    def alive(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        start_time = _start_time(self.pid)
        if start_time is None and self._child is not None:
            self._child.wait()  # it ended between the two looks: take it in, so that no zombie stays
        return start_time is not None and start_time == self._start_time

    @property
    def name(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/comm").read_text().strip()
        except OSError:
            return ""

    @property
    def how(self) -> str:
        """How it ended, in words; empty if that is not known: it was not our child, or still runs."""
        code = self._child.returncode if self._child is not None else None
        if code is None:
            return ""
        if -code in set(signal.Signals):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    async def ended(self) -> None:
        """Returns when it has ended. Costs nothing meanwhile."""
        with suppress(ProcessLookupError), watched(self.pid) as over:
            while self.alive:  # the pid may be another process's by now
                await over.wait()


def _start_time(pid: int) -> str | None:
    """In clock ticks since boot; None if there is no such process, or only a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def processes_of(node: Node) -> list[Process]:
    """All that runs with this node's mark in its environment, this process apart."""
    mark = f"RECONCILER_BROKER={node.mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes().split(b"\0"):
                found.append(Process(int(entry.parent.name)))
        except OSError:
            pass  # ended meanwhile, or another user's
    return found


def find_vm(node: Node) -> Process | None:
    leaders = (process for process in processes_of(node) if _leads_session(process.pid))
    return next((process for process in leaders if process.name in VM_NAMES), None)


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


async def gone(process: Process, within: float) -> bool:
    """Whether it has ended within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            await process.ended()
    return not process.alive
