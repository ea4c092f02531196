"""Keeps worker processes running: wishes in, processes out, and what is there for the next turn to see.

All of it happens in the daemon's asyncio loop: a pidfd wakes it when a process ends, the notify socket when one
speaks, a timer only while something is pending. With nothing to do it does nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from reconciler.errors import Permanent
from reconciler.supervisor.cgroup import Cgroups
from reconciler.supervisor.checkup import Checkup
from reconciler.supervisor.event import Event
from reconciler.supervisor.holders import hears_hangup
from reconciler.supervisor.lingering import PATIENCE, Lingering
from reconciler.supervisor.marker import owner_of
from reconciler.supervisor.notify import NotifySocket
from reconciler.supervisor.process import Process
from reconciler.supervisor.records import Record, Records
from reconciler.supervisor.rotation import Rotation, Writer
from reconciler.supervisor.slot import Slot
from reconciler.supervisor.spawn import Launcher
from reconciler.supervisor.starts import StartQueue
from reconciler.supervisor.survivors import find_survivors
from reconciler.supervisor.workshop import Workshop
from reconciler.supervisor.zygotes import Zygotes
from state.processes import ObservedWorker, Pool, WorkerSpec

log = logging.getLogger(__name__)
TIDY = 5.0  # seconds before a zygote that nobody needs goes: a pool that was scaled to zero may soon be back
FORKS_AT_ONCE = 32  # forked and not ready yet: enough to keep every core and the broker busy
# Adopted workers are asked what they have done, some at a time: a thousand at once would delay what is urgent.
ASK_AFTER, ASK_EVERY = 0.5, 0.002  # seconds


class FolderInUse(Permanent):
    """Another daemon is running on this state folder; stop it, or give this one its own RECONCILER_STATE."""


class Supervisor:
    """The worker processes of one daemon. Call everything from the loop that `start` ran in.

    `folder` is the state folder; in it are `notify.sock`, `processes/` (records) and `logs/`. `on_event` is called for
    every change of a slot, from within the loop; it carries no duty but to look again.
    """

    def __init__(self, folder: Path, on_event: Callable[[Event], None]) -> None:
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self._on_event = on_event
        self._records = Records(self.folder / "processes", self.logs)
        self._notify = NotifySocket(self.folder, self._hear)
        self._slots: dict[tuple[Pool, int], Slot] = {}
        self._strays: set[Slot] = set()  # survivors beside one that holds their slot; on their way out
        self._lingering: Lingering | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._shop: Workshop | None = None
        self._zygotes: Zygotes | None = None
        self._cgroups: Cgroups | None = None
        self._checkup: Checkup | None = None
        self._rotation = Rotation(
            self.logs, self._reopen_log, lambda: self._records.expire(time.time()), ended=self._records.rules
        )
        self._rotating: asyncio.Task[None] | None = None
        self._given_up: dict[tuple[Pool, int], Record] = {}  # by an earlier daemon
        self._changed = asyncio.Event()
        self._closing = False
        self._lock = -1

    @property
    def notify_address(self) -> str:
        """The workers' NOTIFY_SOCKET."""
        return self._notify.address

    @property
    def children(self) -> set[int]:
        """The processes that are reaped here: workers and zygotes."""
        return set(self._shop.by_pid if self._shop else ()) | (self._zygotes.pids if self._zygotes else set())

    async def start(self) -> None:
        """Binds the socket and takes in hand what an earlier daemon left. Raises FolderInUse, OSError."""
        for folder in (self.folder / "processes", self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self.folder / "processes" / "lock")
        try:
            self._notify.open(asyncio.get_running_loop())
            await self._take_over()
            self._notify.listen()
        except BaseException:
            self._let_go()
            raise

    def observe(self) -> tuple[ObservedWorker, ...]:
        """One for each slot that is wanted or still running, by pool and slot."""
        slots = sorted(self._slots.values(), key=lambda slot: (str(slot.spec.pool), slot.index))
        return tuple(slot.observe() for slot in slots)

    def start_worker(self, spec: WorkerSpec, slot: int) -> None:
        """From now on there is such a slot, and a process in it that runs as `spec` says.

        Idempotent. With another digest than the slot's, its process is drained and followed by a new one.
        """
        if self._closing:
            return
        self._tidy_soon()
        if self._checkup:
            self._checkup.wake()
        if known := self._slots.get((spec.pool, slot)):
            known.keep(spec)
            return
        new = Slot(self._workshop(), spec, slot)
        new.recall(self._records.deaths(spec.pool, slot, spec.digest))
        self._slots[spec.pool, slot] = new
        before = self._given_up.pop((spec.pool, slot), None)
        if before and (before.spec.digest, before.spec.terms) == (spec.digest, spec.terms):
            new.stay_given_up(before)
        else:
            new.fill()

    def stop_worker(self, pool: Pool, slot: int) -> None:
        """SIGTERM, after its grace SIGKILL to the group; then the slot is gone. Nothing if there is none."""
        if known := self._slots.get((pool, slot)):
            known.stop()

    def restart_worker(self, pool: Pool, slot: int, why: str = "") -> None:
        """Drains it and starts it again, or starts it now if it is in backoff. Nothing if it is not wanted.

        `why` is for people, such as "over max_memory"; it is told in events and in the history.
        """
        known = self._slots.get((pool, slot))
        if known and known.wanted:
            known.restart(why)

    def find(self, pid: int) -> ObservedWorker | None:
        """The worker with this pid: the one that runs, else the newest that ended."""
        if self._shop and (slot := self._shop.by_pid.get(pid)):
            return slot.observe()
        return next((record.observed() for record in self._records.ended() if record.pid == pid), None)

    def history(self, pool: Pool | None = None, limit: int = 100) -> tuple[ObservedWorker, ...]:
        """Workers that have ended, newest first; of one pool, or of all."""
        ended = (record for record in self._records.ended() if pool in (None, record.spec.pool))
        return tuple(record.observed() for record, _ in zip(ended, range(limit), strict=False))

    async def close(self, grace: float | None = None) -> None:
        """Drains all at once, each within its own grace, and lets go of everything.

        `grace` in seconds cuts longer ones short; a second call with 0 kills whatever the first still waits for.
        """
        self._closing = True
        for slot in self._everyone():
            slot.stop(grace, forgive=False)
        await self._until_empty()
        if self._lingering:
            await self._lingering.until_gone()
        if self._zygotes:
            await self._zygotes.close()
        if self._cgroups:
            await self._cgroups.close()
        self._let_go()

    def leave(self) -> None:
        """Lets go of everything, and has the workers go on: the next daemon adopts them."""
        self._closing = True
        for slot in self._everyone():
            slot.leave_running()
        self._slots.clear()
        self._strays.clear()
        self._let_go()

    def _workshop(self) -> Workshop:
        if not self._shop:
            raise RuntimeError("the supervisor is not running")
        return self._shop

    async def _take_over(self) -> None:
        loop, owner = asyncio.get_running_loop(), owner_of(self.folder)
        cold = StartQueue(loop)
        lingering = self._lingering = Lingering(loop)
        zygotes = self._zygotes = Zygotes(self.folder / "zygotes", loop, cold)
        cgroups = self._cgroups = Cgroups.find(owner)
        self._shop = Workshop(
            loop=loop,
            launcher=Launcher(owner, self.logs, self._notify, zygotes, cgroups),
            records=self._records,
            cold=cold,
            forks=StartQueue(loop, FORKS_AT_ONCE),
            emit=self._emit,
            catch_up=self._notify.read,
            ended=lingering.add,
            gone=self._gone,
        )
        await zygotes.reconnect()
        survivors = find_survivors(self._records, owner, zygotes, cgroups)
        await cgroups.sweep()
        self._given_up = self._records.given_up()
        self._rotating = loop.create_task(self._rotation.run(self._writers))
        self._checkup = Checkup(self._slots.values, loop)
        self._adopt(survivors.adopt)
        self._drain(survivors.drain)

    def _let_go(self) -> None:
        self._shop = None
        if self._rotating:
            self._rotating.cancel()
        if self._checkup:
            self._checkup.close()
        if self._zygotes:
            self._zygotes.let_go()
            self._zygotes = None
        if self._lingering:
            self._lingering.close()
        if self._tidying:
            self._tidying.cancel()
        self._notify.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _everyone(self) -> list[Slot]:
        return [*self._slots.values(), *self._strays]

    def _adopt(self, processes: Iterable[Process]) -> None:
        loop = asyncio.get_running_loop()
        for number, process in enumerate(processes):
            slot = self._house(process)
            self._slots[slot.spec.pool, slot.index] = slot
            loop.call_later(ASK_AFTER + number * ASK_EVERY, ask_again, process)
            self._emit(Event("adopted", slot.spec.pool, slot.index, process.pid))

    def _drain(self, processes: Iterable[Process]) -> None:
        for process in processes:
            slot = self._house(process)
            if self._slots.setdefault((slot.spec.pool, slot.index), slot) is not slot:
                self._strays.add(slot)
            slot.stop()

    def _house(self, process: Process) -> Slot:
        slot = Slot(self._workshop(), process.record.spec, process.record.slot)
        slot.restarts, slot.failures = process.record.restarts, process.record.failures
        slot.recall(self._records.deaths(slot.spec.pool, slot.index, slot.spec.digest))
        slot.hold(process)
        return slot

    def _hear(self, pid: int, fields: Mapping[str, str]) -> None:
        by_pid = self._workshop().by_pid
        slot = by_pid.get(pid)
        if not slot:
            with suppress(ProcessLookupError, PermissionError):
                slot = by_pid.get(os.getsid(pid))  # a helper such as systemd-notify speaks for its session
        if slot:
            slot.hear(fields)

    def _writers(self) -> Iterator[Writer]:
        """Who writes logs now. One that is another user's could not open its log anew."""
        for slot in self._everyone():
            if slot.process and slot.process.alive:
                record = slot.process.record
                yield Writer(record.pid, record.log_path, slot.spec.log, reopens(record))

    def _reopen_log(self, pid: int) -> None:
        if (slot := self._workshop().by_pid.get(pid)) and slot.process:
            slot.process.send(signal.SIGHUP)

    def _gone(self, slot: Slot) -> None:
        self._strays.discard(slot)
        if self._slots.get((slot.spec.pool, slot.index)) is slot:
            del self._slots[slot.spec.pool, slot.index]
        self._changed.set()
        self._tidy_soon()

    def _tidy_soon(self) -> None:
        if not self._tidying and self._shop:
            self._tidying = self._shop.loop.call_later(TIDY, self._tidy)

    def _tidy(self) -> None:
        """Lets zygotes go that nobody needs any more."""
        self._tidying = None
        if self._zygotes and self._shop:
            launcher = self._shop.launcher
            self._zygotes.retire({launcher.image_of(s.spec).key for s in self._slots.values() if s.spec.zygote})

    def _emit(self, event: Event) -> None:
        if event.kind in ("started", "adopted"):
            self._rotation.wake()  # its log is one more
        try:
            self._on_event(event)
        except Exception:
            log.exception("a listener failed on %s", event)

    async def _until_empty(self) -> None:
        slowest = max((slot.spec.grace for slot in self._everyone()), default=0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(slowest + PATIENCE):
                while self._everyone():
                    self._changed.clear()
                    await self._changed.wait()


def ask_again(process: Process) -> None:
    """Has an adopted worker tell what an idle one has no reason to tell again: it opens its log anew, and tells all."""
    if process.alive and reopens(process.record) and hears_hangup(process.pid):
        process.send(signal.SIGHUP)


def reopens(record: Record) -> bool:
    """Whether it is of our runtime, and can open its log anew."""
    return record.spec.module is not None and record.spec.limits.user is None


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise FolderInUse from None
    return lock
