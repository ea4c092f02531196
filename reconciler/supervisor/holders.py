"""Who writes to a log file: the worker itself, and children that it gave its output to. Looked up only to rotate."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from reconciler.supervisor import proc

OUTPUTS = (1, 2)


def is_alive(pid: int) -> bool:
    stat = proc.read_stat(pid)
    return stat is not None and stat.alive


def hears_hangup(pid: int) -> bool:
    """Whether it catches SIGHUP: one that does not yet, or whose module took that back, would die of it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def writes_to(pid: int, file: os.stat_result) -> bool:
    """Whether its stdout or stderr is this file."""
    for fd in OUTPUTS:
        with suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), file):
                return True
    return False


def children_hold(pid: int, file: os.stat_result) -> bool:
    """Whether a process below it has this file as its output, and would go on writing to it after a rename."""
    return any(writes_to(child, file) for child in descendants(pid))


def descendants(pid: int) -> Iterator[int]:
    """All processes below it, as of about now."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                    yield int(child)
                    yield from descendants(int(child))
