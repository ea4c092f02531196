"""A supervisor without processes: the same public face and the same states, driven by hand.

`die`, `say_ready`, `tell` and `retry` stand for what processes, and the time, do to a real one.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.backoff import backoff
from reconciler.supervisor import Event, EventKind
from reconciler.supervisor.report import Report
from state.processes import ObservedWorker, Pool, WorkerSpec, WorkerState

DOWN = (WorkerState.BACKOFF, WorkerState.FATAL)  # no process


@dataclass
class _Slot:
    spec: WorkerSpec
    index: int
    wanted: bool = True
    state: WorkerState = WorkerState.STARTING
    pid: int | None = None
    digest: str = ""
    started_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    reason: str | None = None
    retry_at: float | None = None
    ended_at: float | None = None
    why: str = ""
    report: Report = field(default_factory=Report)


class FakeSupervisor:
    """With `auto_ready` each process says READY=1 as soon as it was started; with `obedient` it ends when told to."""

    def __init__(
        self,
        folder: Path = Path("/nonexistent"),
        on_event: Callable[[Event], None] = lambda event: None,
        *,
        auto_ready: bool = False,
        obedient: bool = True,
    ) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.notify_address = str(folder / "notify.sock")
        self.auto_ready = auto_ready
        self.obedient = obedient
        self._on_event = on_event
        self._slots: dict[tuple[Pool, int], _Slot] = {}
        self._ended: list[ObservedWorker] = []
        self._pids = itertools.count(100_001)

    # the public face

    async def start(self) -> None:
        pass

    def observe(self) -> tuple[ObservedWorker, ...]:
        slots = sorted(self._slots.values(), key=lambda slot: (str(slot.spec.pool), slot.index))
        return tuple(self._seen(slot) for slot in slots)

    def start_worker(self, spec: WorkerSpec, slot: int) -> None:
        known = self._slots.get((spec.pool, slot))
        if not known:
            self._slots[spec.pool, slot] = self._spawn(_Slot(spec, slot))
            return
        changed = known.spec.digest != spec.digest
        changed |= known.state is WorkerState.FATAL and known.spec.terms != spec.terms
        known.spec, known.wanted = spec, True
        if changed:
            known.failures = 0
        if known.state in DOWN and changed:
            self._spawn(known)
        elif known.state not in DOWN and known.digest != spec.digest:
            self._drain(known)

    def stop_worker(self, pool: Pool, slot: int) -> None:
        if known := self._slots.get((pool, slot)):
            known.wanted = False
            self._drain(known)

    def restart_worker(self, pool: Pool, slot: int, why: str = "") -> None:
        known = self._slots.get((pool, slot))
        if known and known.wanted:
            known.failures, known.why = 0, why
            self._drain(known)

    def find(self, pid: int) -> ObservedWorker | None:
        running = (self._seen(slot) for slot in self._slots.values() if slot.state not in DOWN)
        return next((seen for seen in [*running, *self.history()] if seen.pid == pid), None)

    def history(self, pool: Pool | None = None, limit: int = 100) -> tuple[ObservedWorker, ...]:
        return tuple(seen for seen in reversed(self._ended) if pool in (None, seen.pool))[:limit]

    async def close(self, grace: float | None = None) -> None:
        self.obedient = True
        for pool, slot in list(self._slots):
            self.stop_worker(pool, slot)
            self.finish(pool, slot)

    # what befalls the processes

    def say_ready(self, pool: Pool, slot: int, **fields: str) -> None:
        """The process says READY=1, and what else is given, such as X_CONSUMER_TAG."""
        self.tell(pool, slot, READY="1", **fields)

    def tell(self, pool: Pool, slot: int, **fields: str) -> None:
        """The process sends a datagram."""
        known = self._slots[pool, slot]
        before = known.report.ready
        known.report.take(fields, time.time())
        if known.report.ready and known.state is WorkerState.STARTING:
            known.state, known.reason = WorkerState.READY, None
        elif known.state is WorkerState.READY and not known.report.ready:
            known.state = WorkerState.STOPPING if known.report.stopping else WorkerState.STARTING
        if known.report.ready != before:
            self._emit("ready" if known.report.ready else "unready", known, known.report.status or "")

    def die(self, pool: Pool, slot: int, code: int = 1, text: str = "") -> None:
        """The process ends by itself with this exit code."""
        known = self._slots[pool, slot]
        ever_ready = known.report.ready
        reason = f"exit code {code}: {text}" if text else f"exit code {code}"
        self._end(known, reason)
        known.failures, known.reason = known.failures + 1, reason
        if (most := known.spec.max_restarts) is not None and known.failures > most:
            known.state = WorkerState.FATAL
            known.reason = f"given up after {known.failures} deaths (max_restarts {most}): {reason}"
            self._emit("fatal", known, known.reason)
            return
        known.restarts += 1
        delay = backoff(known.failures - ever_ready)
        if not delay:
            self._spawn(known)
            return
        known.state, known.retry_at = WorkerState.BACKOFF, time.time() + delay
        self._emit("backoff", known, reason)

    def retry(self, pool: Pool, slot: int) -> None:
        """The time of its backoff is over."""
        self._spawn(self._slots[pool, slot])

    def finish(self, pool: Pool, slot: int) -> None:
        """A process that is draining ends."""
        known = self._slots.get((pool, slot))
        if not known or known.state is not WorkerState.STOPPING:
            return
        self._end(known, f"stopped ({known.why})" if known.why else "stopped")
        known.why = ""
        if known.wanted:
            self._spawn(known)
        else:
            self._leave(known)

    def _spawn(self, slot: _Slot) -> _Slot:
        slot.pid, slot.digest, slot.started_at = next(self._pids), slot.spec.digest, time.time()
        slot.state, slot.retry_at, slot.ended_at, slot.report = WorkerState.STARTING, None, None, Report()
        self._emit("started", slot)
        if self.auto_ready:
            self._soon(slot, lambda: self.say_ready(slot.spec.pool, slot.index))
        return slot

    def _drain(self, slot: _Slot) -> None:
        if slot.state in DOWN:
            self._spawn(slot) if slot.wanted else self._leave(slot)
            return
        if slot.state is not WorkerState.STOPPING:
            slot.state = WorkerState.STOPPING
            self._emit("stopping", slot, slot.why)
            if self.obedient:
                self._soon(slot, lambda: self.finish(slot.spec.pool, slot.index))

    def _soon(self, slot: _Slot, act: Callable[[], None]) -> None:
        pid = slot.pid
        asyncio.get_running_loop().call_soon(lambda: act() if slot.pid == pid else None)

    def _end(self, slot: _Slot, reason: str) -> None:
        slot.ended_at, slot.reason = time.time(), reason
        slot.state = WorkerState.EXITED
        self._ended.append(self._seen(slot))
        self._emit("exited", slot, reason)

    def _leave(self, slot: _Slot) -> None:
        self._slots.pop((slot.spec.pool, slot.index), None)
        self._emit("stopped", slot)

    def _seen(self, slot: _Slot) -> ObservedWorker:
        report = slot.report
        return ObservedWorker(
            pool=slot.spec.pool,
            slot=slot.index,
            pid=slot.pid,
            state=slot.state,
            digest=slot.digest,
            started_at=slot.started_at,
            restarts=slot.restarts,
            reason=None if slot.state is WorkerState.READY else report.status or slot.reason,
            retry_at=slot.retry_at,
            busy=report.busy,
            consumer_tag=report.consumer_tag,
            processed=report.processed,
            failed=report.failed,
            log_path=str(self.logs / f"{slot.pid}.log"),
            ended_at=slot.ended_at,
            heartbeat_at=report.heartbeat_at,
            terms=slot.spec.terms,
            returns=slot.wanted,
            stats=dict(report.stats),
        )

    def _emit(self, kind: EventKind, slot: _Slot, text: str = "") -> None:
        self._on_event(Event(kind, slot.spec.pool, slot.index, slot.pid, text))
