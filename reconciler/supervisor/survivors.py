"""What an earlier daemon left: its records and its processes → whom to adopt, whom to drain.

Called once, before anything is spawned. A process is the one a record means only if boot, pid and start time agree,
before and after its pidfd was opened. Those without a record are known by the mark in their environment.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.supervisor import proc
from reconciler.supervisor.cgroup import Cgroups
from reconciler.supervisor.logfiles import last_lines
from reconciler.supervisor.marker import MARKER, Mark, read_mark
from reconciler.supervisor.parents import Daemon, ForkedBy, Parent, Stranger, kill_if
from reconciler.supervisor.process import Process
from reconciler.supervisor.reason import explain
from reconciler.supervisor.records import Record, Records
from reconciler.supervisor.zygotes import Zygotes
from state.processes import Pool, WorkerSpec

GRACE = 30.0  # seconds, for one that left no record of its own


@dataclass
class Survivors:
    """`adopt` holds at most one process for each slot."""

    adopt: list[Process] = field(default_factory=list)
    drain: list[Process] = field(default_factory=list)

    @property
    def pids(self) -> set[int]:
        return {process.pid for process in self.adopt + self.drain}

    @property
    def slots(self) -> set[tuple[Pool, int]]:
        return {(process.record.spec.pool, process.record.slot) for process in self.adopt}


def find_survivors(records: Records, owner: str, zygotes: Zygotes, cgroups: Cgroups) -> Survivors:
    """Opens a pidfd on each that lives, files the dead as ended, and kills what dead workers left behind."""
    found = Survivors()
    taken: set[tuple[Pool, int]] = set()
    for record in sorted(records.load(), key=lambda record: -record.started_at):
        cgroups.know(record.cgroup)
        process = _hold(record, zygotes, cgroups)
        if process is None:
            _file_as_ended(records, record, zygotes)
        elif record.stopping or (record.spec.pool, record.slot) in taken:
            found.drain.append(process)
        else:
            taken.add((record.spec.pool, record.slot))
            found.adopt.append(process)
    _look_for_marks(found, owner, zygotes, cgroups)
    return found


def _hold(record: Record, zygotes: Zygotes, cgroups: Cgroups) -> Process | None:
    if not _is(record):
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    if not _is(record):  # the number may have passed on meanwhile
        os.close(pidfd)
        return None
    group = cgroups.group_of(record.pid, record.start_time)
    return Process(record, pidfd, _parent_of(record.pid, zygotes), group=group)


def _parent_of(pid: int, zygotes: Zygotes) -> Parent:
    if (stat := proc.read_stat(pid)) and stat.parent == os.getpid():
        return Daemon()
    mark = proc.environ_of(pid, MARKER) or ""
    zygote = zygotes.parent_of(pid)
    return ForkedBy(zygote, zygotes, mark) if zygote else Stranger(mark)


def _is(record: Record) -> bool:
    stat = proc.read_stat(record.pid)
    same_boot = record.boot_id == proc.boot_id()
    return bool(same_boot and stat and stat.alive and stat.start_time == record.start_time)


def _file_as_ended(records: Records, record: Record, zygotes: Zygotes) -> None:
    code = _code_of(record, zygotes) if record.boot_id == proc.boot_id() else None
    why = explain(code, last_lines(Path(record.log_path)))
    record.ended_at, record.reason = time.time(), f"ended while no daemon was running; {why}"
    record.exit_code = code
    record.ready_since = None
    records.end(record)


def _code_of(record: Record, zygotes: Zygotes) -> int | None:
    stat = proc.read_stat(record.pid)
    if stat and (stat.parent, stat.start_time) == (os.getpid(), record.start_time):
        with suppress(ChildProcessError):  # it died while we exec'd ourselves, and waits for us
            return os.waitstatus_to_exitcode(os.waitpid(record.pid, os.WNOHANG)[1])
    return zygotes.take_code(record.pid)


def _look_for_marks(found: Survivors, owner: str, zygotes: Zygotes, cgroups: Cgroups) -> None:
    marked = _marked(owner)
    known, taken = found.pids, found.slots
    for pid, mark in marked.items():
        stat = proc.read_stat(pid)
        if not stat or not stat.alive or stat.session in known:
            continue
        if stat.session == pid and (mark.pool, mark.slot) not in taken:
            found.drain.extend(_hold_unrecorded(stat, mark, zygotes, cgroups))
        elif stat.session != pid and stat.session not in marked:
            kill_if(pid, stat.session, str(mark))


def _marked(owner: str) -> dict[int, Mark]:
    marks = ((pid, read_mark(proc.environ_of(pid, MARKER))) for pid in proc.pids())
    return {pid: mark for pid, mark in marks if mark and mark.owner == owner}


def _hold_unrecorded(stat: proc.Stat, mark: Mark, zygotes: Zygotes, cgroups: Cgroups) -> list[Process]:
    record = Record(
        pid=stat.pid,
        start_time=stat.start_time,
        boot_id=proc.boot_id(),
        spec=WorkerSpec(mark.pool, (), {}, "/", GRACE, ""),
        slot=mark.slot,
        log_path="",
        started_at=time.time(),
    )
    with suppress(OSError):
        record.log_path = os.readlink(f"/proc/{stat.pid}/fd/1")
    process = _hold(record, zygotes, cgroups)
    return [process] if process else []
