"""Looks at the site again and again while everything happens, and notes what must never be."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from tests.live.chaos.world import World
from tests.supervisor.support import fields

EVERY = 0.25  # seconds between two looks
RECENT = 5.0  # seconds in which the daemon must have taken in what the file says
LASTING = 1.0  # seconds that too many must be seen: between two looks at different things, things change
LOOKS = 4  # one after another that must see it: on a busy machine two looks may lie that far apart


@dataclass(frozen=True)
class Footprint:
    """What a process holds."""

    pid: int
    descriptors: int
    rss: int  # bytes


def footprint(pid: int) -> Footprint:
    """Raises OSError if there is no such process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Footprint(pid, len(os.listdir(f"/proc/{pid}/fd")), pages * os.sysconf("SC_PAGE_SIZE"))


class Watch:
    """`breaches`: pools that had more workers than they may, in words. `looks`: how often it could be judged."""

    def __init__(self, world: World) -> None:
        self.breaches: list[str] = []
        self.looks = 0
        self._world = world
        self._asked: deque[tuple[float, dict[str, int]]] = deque()
        self._since: dict[str, float] = {}
        self._seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            try:
                self._look()
            except Exception as error:
                self.breaches.append(f"the watch failed: {error!r}")
                raise

    def _look(self) -> None:
        now = time.monotonic()
        self._asked.append((now, self._world.wanted()))
        while self._asked[0][0] < now - RECENT:
            self._asked.popleft()
        stopping = self.stopping()
        alive = Counter(one.pool for one in self._world.alive() if one.pid not in stopping)
        desired = self._desired()
        if desired is None:  # nobody there who could start one too many
            self._since.clear()
            self._seen.clear()
            return
        self.looks += 1
        for pool in self._since.keys() - alive.keys():
            self._forget(pool)
        for pool, count in alive.items():
            self._judge(pool, count, max(desired.get(pool, 0), *(asked[pool] for _, asked in self._asked)), now)

    def _judge(self, pool: str, count: int, most: int, now: float) -> None:
        if count <= most:
            self._forget(pool)
            return
        self._seen[pool] += 1
        if now - self._since.setdefault(pool, now) >= LASTING and self._seen[pool] >= LOOKS:
            alive = ", ".join(f"{one.pid} [{one.slot}]" for one in self._world.alive() if one.pool == pool)
            self._world.note(f"TOO MANY: {count} workers of {pool} that are not stopping, {most} wanted: {alive}")
            self.breaches.append(self._world.diary[-1])
            self._since[pool] = float("inf")  # told once, until it is over

    def _forget(self, pool: str) -> None:
        self._since.pop(pool, None)
        self._seen.pop(pool, None)

    def stopping(self) -> set[int]:
        """Pids that were told to stop, as the daemon and its records have it."""
        found = set()
        for path in (self._world.site.state / "processes").glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                record = fields(path)
                if record.get("stopping"):
                    found.add(int(record["pid"]))
        listed = self._world.ask("/worker/list", state="stopping") or {"workers": []}
        return found | {worker["pid"] for worker in listed["workers"] if worker["pid"]}

    def _desired(self) -> dict[str, int] | None:
        status = self._world.ask("/status")
        if status is None or "queues" not in status:
            return None
        pools = status["queues"].items()
        return {f"{queue}/{name}": one["desired"] for queue, seen in pools for name, one in seen["workers"].items()}
