"""How often the kernel killed for want of memory: with SIGKILL, the only trace that it leaves in an exit code."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

MACHINE = Path("/proc/vmstat")
FRESH = 0.2  # seconds for which a count will do: two hundred processes may be started within two


@dataclass
class Look:
    at: float = float("-inf")
    found: int = 0


_last = Look()


def oom_kills_lately() -> int:
    """On the whole machine, as of at most `FRESH` seconds ago."""
    if time.monotonic() - _last.at > FRESH:
        _last.at, _last.found = time.monotonic(), oom_kills()
    return _last.found


def oom_kills(cgroup: Path | None = None) -> int:
    """So far, in the cgroup of one worker, else on the whole machine (or container). 0 if nobody knows.

    A worker that died by a SIGKILL that was not ours died of it if this has grown in its lifetime.
    """
    counters = MACHINE if cgroup is None else cgroup / "memory.events"
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return next((int(fields[1]) for fields in found if len(fields) == 2 and fields[0] == "oom_kill"), 0)
