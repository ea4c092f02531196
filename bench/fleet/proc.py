"""What the kernel says of processes: who belongs to a run, what they cost, when they end. Linux only."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

MARK = "BENCH_FLEET"


def parents() -> dict[int, int]:
    """Each process that lives, no zombie, and its parent."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[int(entry.parent.name)] = int(fields[1])
    return found


def marked(mark: str, known: Iterable[int] = ()) -> set[int]:
    """The processes with `MARK=mark` in their environment, those `known` to belong, and all of their children."""
    tree = parents()
    text = f"{MARK}={mark}".encode()
    found = {pid for pid in tree if text in _environment(pid)} | (set(known) & tree.keys())
    while more := {pid for pid, parent in tree.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def pss(pids: Iterable[int]) -> int:
    """Bytes: private memory, and of what is shared with others each one's part."""
    return sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids) * 1024


def rss(pids: Iterable[int]) -> int:
    """Bytes."""
    return sum(_kilobytes(pid, "status", "VmRSS:") for pid in pids) * 1024


def _kilobytes(pid: int, file: str, key: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0


def cpu(pids: Iterable[int]) -> float:
    """Seconds of processor time so far, user and system, ended threads included; to the nanosecond."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime(~pid << 3 | 2)  # the clock that clock_getcpuclockid(3) names
    return total


class Ends:
    """Waits for processes to end, by pidfd."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._poll = select.poll()
        self._left: set[int] = set()
        for pid in pids:
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                self._left.add(fd)
                self._poll.register(fd, select.POLLIN)

    def wait(self, seconds: float) -> float:
        """The monotonic time when the last one had ended. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while self._left:
            ready = self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                raise TimeoutError(f"{len(self._left)} processes run on after {seconds:.0f} s")
            for fd, _ in ready:
                self._poll.unregister(fd)
                self._left.discard(fd)
                os.close(fd)
        return time.monotonic()


def sweep(mark: str, known: Iterable[int] = ()) -> None:
    """Ends everything of a run, also what is started while we look."""
    for _ in range(50):
        left = marked(mark, known)
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
