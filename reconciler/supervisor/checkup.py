"""Looks every second whether a worker is over its limits, and has the slot replace it: gently, one of a pool at a time.

With no worker that has limits to look at, nothing is scheduled.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from reconciler.supervisor.limits import hung, is_watched, overdue
from state.processes import Limits, ObservedWorker, Pool, WorkerSpec, WorkerState

EVERY = 1.0  # seconds between two looks
MEMORY_EVERY = 5.0  # seconds between two looks at the memory of one process
ASLEEP = 5.0  # seconds between two looks after which it was we who were away, not they
AWAY = (WorkerState.STARTING, WorkerState.STOPPING, WorkerState.BACKOFF)
PAGE = os.sysconf("SC_PAGE_SIZE")

Process = tuple[int, float]  # pid, and when it started


class Replaceable(Protocol):
    """The part of a slot that is used here."""

    @property
    def spec(self) -> WorkerSpec: ...

    def observe(self) -> ObservedWorker: ...

    def restart(self, why: str) -> None: ...


@dataclass
class Patient:
    """What is remembered of one process between two looks. Times are seconds since the epoch."""

    known_since: float
    memory: int | None = None
    memory_at: float = 0.0
    breach_at: float | None = None


class Checkup:
    """`slots` gives all there are, also those without limits: they count when a pool's workers are away."""

    def __init__(self, slots: Callable[[], Iterable[Replaceable]], loop: asyncio.AbstractEventLoop) -> None:
        self._slots = slots
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        self._patients: dict[Process, Patient] = {}

    def wake(self) -> None:
        """Some slot may have got limits: to be called when one is made or given another spec."""
        if self._timer is None:
            self._timer = self._loop.call_later(EVERY, self._look)

    def close(self) -> None:
        """Looks no more."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def look(self, now: float) -> None:
        """One look at all of them. The first one, and the first after a pause, only takes note.

        Then what they have said is still to be read, and on a machine that slept they slept, too.
        """
        after_pause = now - self._looked_at > ASLEEP
        earlier = {} if after_pause else self._patients
        self._looked_at = now
        pools = [[(slot, slot.observe()) for slot in pool] for pool in self._watched_pools()]
        keys = [_key(worker) for pool in pools for _, worker in pool if worker.pid is not None]
        self._patients = {key: earlier.get(key) or Patient(known_since=now) for key in keys}
        if not after_pause:
            for pool in pools:
                self._replace_one(pool, now)

    def _look(self) -> None:
        self._timer = None
        if self._watched_pools():
            self.look(time.time())
            self.wake()

    def _watched_pools(self) -> list[list[Replaceable]]:
        pools: defaultdict[Pool, list[Replaceable]] = defaultdict(list)
        for slot in self._slots():
            pools[slot.spec.pool].append(slot)
        return [pool for pool in pools.values() if any(is_watched(slot.spec.limits) for slot in pool)]

    def _replace_one(self, pool: list[tuple[Replaceable, ObservedWorker]], now: float) -> None:
        breaches: list[tuple[float, int, Replaceable, str]] = []
        for slot, worker in pool:
            if not is_watched(slot.spec.limits) or worker.pid is None:
                continue
            why, deaf = self._examine(worker, slot.spec.limits, now)
            patient = self._patients[_key(worker)]
            if why is None:
                patient.breach_at = None
            elif deaf:
                slot.restart(why)  # it does no work, so nothing is won by waiting for the others
            else:
                patient.breach_at = patient.breach_at or now
                breaches.append((patient.breach_at, worker.slot, slot, why))
        for _, _, slot, why in sorted(breaches, key=lambda breach: breach[:2]):
            if not any(other is not slot and other.observe().state in AWAY for other, _ in pool):
                slot.restart(why)
                return

    def _examine(self, worker: ObservedWorker, limits: Limits, now: float) -> tuple[str | None, bool]:
        """Why it is to be replaced, if so, and whether it is deaf to being told."""
        patient = self._patients[_key(worker)]
        # One that was adopted, or slept as we did, has had no chance to be heard before we knew it.
        worker = replace(worker, heartbeat_at=max(worker.heartbeat_at or 0.0, patient.known_since))
        why = overdue(worker, limits, now, self._memory_of(worker, limits, patient, now))
        return why, why is not None and why == hung(worker, limits, now)

    def _memory_of(self, worker: ObservedWorker, limits: Limits, patient: Patient, now: float) -> int | None:
        if limits.max_memory is None or worker.pid is None:
            return None
        if now - patient.memory_at >= MEMORY_EVERY:
            patient.memory_at = now
            patient.memory = private_memory(worker.pid, limits.max_memory)
        return patient.memory


def _key(worker: ObservedWorker) -> Process:
    return worker.pid or 0, worker.started_at


def private_memory(pid: int, enough: int = 0) -> int | None:
    """Bytes that are its own, not shared with another process; None if they cannot be read.

    If all it has in memory is no more than `enough`, that is the answer: it is never less, and quicker to read.
    """
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE
        if resident <= enough:
            return resident
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (OSError, ValueError, IndexError):
        return None
    rows = (line.split() for line in text.splitlines())
    return 1024 * sum(int(row[1]) for row in rows if row and row[0] in ("Private_Clean:", "Private_Dirty:"))
