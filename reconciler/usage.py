"""What worker processes use of the machine, read when somebody asks."""

from __future__ import annotations

import os
import time
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """Memory and processor share by pid. The share is over the time since the question before."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float, float]] = {}  # pid: when, CPU seconds, share told

    def of(self, pid: int) -> tuple[int | None, float | None]:
        """Resident bytes and percent of one core; None for a process that is gone."""
        found = self.reading(pid)
        if found is None:
            self._before.pop(pid, None)
            return None, None
        rss, used = found
        return rss, self._share(pid, used)

    def reading(self, pid: int) -> tuple[int, float] | None:
        """Resident bytes and CPU seconds so far; None for a process that is gone."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return int(stat[21]) * PAGE, (int(stat[11]) + int(stat[12])) / TICKS

    def _share(self, pid: int, used: float) -> float:
        now = time.monotonic()
        then, before, share = self._before.get(pid, (now, used, 0.0))
        if now - then < 0.5 and pid in self._before:
            return share  # two who ask at once would halve each other's time
        share = round(max(0.0, used - before) / (now - then) * 100, 1) if now > then else 0.0
        if len(self._before) > 10_000:
            self._before.clear()
        self._before[pid] = (now, used, share)
        return share
