"""One slot of a pool: a place that one process holds at a time, and that is filled again when it dies.

Wishes come from the supervisor (`keep`, `restart`, `stop`), facts from the kernel (`_exited`) and from the process
itself (`hear`). Each is taken in at once, and changes at most what happens next; nothing here ever waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from reconciler.backoff import backoff
from reconciler.supervisor.deaths import Deaths
from reconciler.supervisor.event import Event, EventKind
from reconciler.supervisor.logfiles import append_line, exit_line, last_lines, start_line
from reconciler.supervisor.process import Process
from reconciler.supervisor.reason import ending, explain, is_abnormal
from reconciler.supervisor.records import Record, never_born
from reconciler.supervisor.spawn import SpawnFailed, Unfit
from reconciler.supervisor.view import observed
from reconciler.supervisor.workshop import Workshop
from state.processes import ObservedWorker, WorkerSpec

HEALTHY = 60.0  # seconds of being ready that make up for all earlier failures


class Slot:
    """`process` is the one it holds, or the last one it held while it waits in backoff."""

    def __init__(self, shop: Workshop, spec: WorkerSpec, index: int) -> None:
        self.shop = shop
        self.spec = spec
        self.index = index
        self.wanted = True
        self.process: Process | None = None
        self.failures = 0
        self.restarts = 0
        self.deaths = Deaths()
        self.fatal = False
        self.reason: str | None = None
        self.retry_at: float | None = None
        self._because = "first start"  # why its next process is started
        self.since = time.time()
        self.draining = False
        self._forgiven = True  # once it is stopped
        self._timer: asyncio.TimerHandle | None = None  # the next try, or the end of grace
        self._launch: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    def fill(self) -> None:
        """Asks for a process; `spawn` follows when its turn has come."""
        self._cancel_timer()
        self._leave_queue()
        self.process = None
        queue = self.shop.forks if self.shop.launcher.is_forked(self.spec) else self.shop.cold
        queue.add(self, failed_before=self.failures > 1)

    def keep(self, spec: WorkerSpec) -> None:
        """From now on run as `spec` says; a process that runs otherwise is drained and followed by a new one."""
        changed = spec.digest != self.spec.digest
        forgiven = changed or (self.fatal and spec.terms != self.spec.terms)
        self.spec, self.wanted = spec, True
        if changed:
            self._because = "other settings or code"
        if forgiven:
            self._forgive()
        if self.process and self.process.alive:
            if self.process.record.spec.digest != spec.digest:
                self._drain()
        elif forgiven:
            self.fill()

    def restart(self, why: str) -> None:
        """Starts afresh: now if it waits in backoff or was given up, else after its process was drained."""
        self._forgive()
        self._because = why or "restart"
        if self.alive:
            self._drain(why=why)
        else:
            self.fill()

    def stop(self, grace: float | None = None, *, forgive: bool = True) -> None:
        """Drains it; the slot is gone once its process is. `grace` cuts the spec's own short.

        Without `forgive` the next daemon knows of its deaths, and one that was given up stays so.
        """
        self.wanted, self._forgiven = False, forgive
        if self.alive:
            self._drain(grace)
        else:
            self._leave()

    def hold(self, process: Process) -> None:
        """Takes a running process that is on file into the slot."""
        self.process = process
        self.shop.by_pid[process.pid] = self
        process.watch(self.shop.loop, self._exited)

    def spawn(self) -> None:
        """Called by the start queue. A failure is this slot's own."""
        self._launch = self.shop.loop.create_task(self._spawn())

    async def _spawn(self) -> None:
        try:
            process = await self.shop.launcher.launch(self.spec, self.index)
        except Unfit:
            self.fill()  # in the other queue now
        except SpawnFailed as failed:
            self._leave_queue()
            self.since = time.time()
            self._fail(str(failed), ever_ready=False)
        else:
            record = process.record
            record.restarts, record.failures = self.restarts, self.failures
            where = record.spec.pool, record.slot, record.pid
            append_line(Path(record.log_path), start_line(*where, record.spec.digest, self._because, time.time()))
            self.shop.records.save(record)
            self.hold(process)
            process.release()
            self._emit("started")

    def hear(self, fields: Mapping[str, str]) -> None:
        """One datagram from its process, or from a helper in its session."""
        if not self.process:
            return
        report, record = self.process.report, self.process.record
        report.take(fields, time.time())
        self._settle()
        self._bound_its_end(self.process)
        if report.ready != (record.ready_since is not None):
            self._turn(self.process)

    def leave_running(self) -> None:
        """Lets go of a process that goes on for the next daemon; one that was only asked for ends at its gate."""
        self._cancel_timer()
        self._leave_queue()
        if self.process:
            self.process.let_go(self.shop.loop)

    def observe(self) -> ObservedWorker:
        """As it is now."""
        return observed(self)

    def _bound_its_end(self, process: Process) -> None:
        """One that somebody else has told to stop has its grace, too, and no more."""
        if self.draining or not process.alive:
            return
        if not process.report.stopping:
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.shop.loop.call_later(process.record.spec.grace, process.kill)

    def _turn(self, process: Process) -> None:
        """It has become ready, or no longer is."""
        record, report = process.record, process.report
        if report.ready:
            record.ready_since, record.ever_ready = time.time(), True
            record.consumer_tag = report.consumer_tag
            self.reason = None
        else:
            self._count_health(process)
            record.ready_since = None
        self.shop.records.save(record)
        self._emit("ready" if report.ready else "unready", report.status or "")

    def _count_health(self, process: Process) -> None:
        since = process.record.ready_since
        if since is not None and time.time() - since >= HEALTHY:
            self.failures = 0

    def _drain(self, grace: float | None = None, why: str = "") -> None:
        process = self.process
        if not process or (self.draining and grace is None):
            return
        self._cancel_timer()
        allowed = process.record.spec.grace if grace is None else min(grace, process.record.spec.grace)
        self._timer = self.shop.loop.call_later(allowed, process.kill)
        process.terminate()
        if not self.draining:
            self.draining = process.record.stopping = True
            process.record.reason = why or None
            self.shop.records.save(process.record)
            self._emit("stopping", why)

    def _exited(self, code: int | None) -> None:
        process = self.process
        if not process:
            return
        self.shop.catch_up()  # its last words may still be in the socket
        self.shop.ended(process)
        self._cancel_timer()
        self.shop.by_pid.pop(process.pid, None)
        self._settle()
        self._count_health(process)
        drained, self.draining = self.draining, False
        reason = self._tell_end(process, code, drained)
        process.record.died = self.wanted and not drained
        self._file(process, code, reason)
        self._emit("exited", reason)
        self._after(process, reason, drained)

    def _tell_end(self, process: Process, code: int | None, drained: bool) -> str:
        """Writes how it ended into its log, and answers it in words."""
        log, starved = Path(process.record.log_path), process.starved
        reason = explain(code, last_lines(log), out_of_memory=starved)
        how = ending(code, told_to_stop=drained, killed=process.killed, out_of_memory=starved)
        where = self.spec.pool, self.index, process.pid
        append_line(log, exit_line(*where, how, time.time(), abnormal=is_abnormal(code, told_to_stop=drained)))
        return _after_drain(code, reason, process.record.reason) if drained else reason

    def _file(self, process: Process, code: int | None, reason: str) -> None:
        record, report = process.record, process.report
        record.processed, record.failed, record.consumer_tag = report.processed, report.failed, report.consumer_tag
        record.ended_at, record.exit_code, record.reason = time.time(), code, reason
        record.ready_since = None
        self.shop.records.end(record)

    def _after(self, process: Process, reason: str, drained: bool) -> None:
        if not self.wanted:
            self._leave(reason)
        elif drained:
            self.reason = None
            self.fill()
        else:
            self._fail(reason, process.record.ever_ready)

    def _fail(self, reason: str, ever_ready: bool) -> None:
        now = time.time()
        self.failures += 1
        self.deaths.add(now)
        self.reason = self.deaths.told(reason)
        if (most := self.spec.max_restarts) is not None and max(self.failures, self.deaths.count) > most:
            self._give_up(most)
            return
        self.restarts += 1
        self._because = f"restart {self.restarts} after {reason}"
        # The first death of one that had worked costs no wait; one that never worked waits from the start.
        failures = max(self.failures - ever_ready, self.deaths.beyond)
        delay = backoff(failures, jitter=random.random())
        if delay <= 0:
            self.fill()
            return
        self.retry_at = now + delay
        self._timer = self.shop.loop.call_later(delay, self.fill)
        self._emit("backoff", f"{self.reason}; next try in {delay:.0f} s")

    def _give_up(self, most: int) -> None:
        self.fatal = True
        self.reason = (
            f"given up after {max(self.failures, self.deaths.count)} deaths (max_restarts {most}): {self.reason} "
            f"(mend the code or the file, or POST /worker/restart)"
        )
        if self.process:
            self.process.record.fatal, self.process.record.reason = True, self.reason
            self.shop.records.save(self.process.record)
        else:
            self.shop.records.end(never_born(self.spec, self.index, self.reason, self.restarts))
        self._emit("fatal", self.reason)

    def stay_given_up(self, last: Record) -> None:
        """An earlier daemon gave it up with this process, and nothing has changed since."""
        self.fatal, self.reason, self.restarts = True, last.reason, last.restarts
        self.since = last.started_at

    def recall(self, deaths: Iterable[float]) -> None:
        """An earlier daemon saw these: a crash loop does not begin anew with each daemon."""
        for at in deaths:
            self.deaths.add(at)

    def _forgive(self) -> None:
        self.shop.records.forgive(self.spec.pool, self.index)
        self.failures, self.fatal, self.deaths = 0, False, Deaths()

    def _leave(self, text: str = "") -> None:
        self._cancel_timer()
        self._leave_queue()
        if self._forgiven:
            self.shop.records.forgive(self.spec.pool, self.index)
        self.shop.gone(self)
        self._emit("stopped", text)

    def _settle(self) -> None:
        """Its place in the queue is free: it has come up, or ended."""
        self.shop.cold.settled(self)
        self.shop.forks.settled(self)

    def _leave_queue(self) -> None:
        """Gives up an attempt that is waiting or under way; a child that was forked for it ends at its gate."""
        self.shop.cold.remove(self)
        self.shop.forks.remove(self)
        if self._launch and self._launch is not asyncio.current_task():
            self._launch.cancel()
        self._launch = None

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self.retry_at = None

    def _emit(self, kind: EventKind, text: str = "") -> None:
        pid = self.process.pid if self.process else None
        self.shop.emit(Event(kind, self.spec.pool, self.index, pid, text))


def _after_drain(code: int | None, how: str, why: str | None) -> str:
    ended = "stopped" if code == 0 else f"told to stop; {how}"
    return f"{ended} ({why})" if why else ended
