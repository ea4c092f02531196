"""Who runs, on disk: one small file for each process, so that the next daemon knows whom it finds.

`spawn` makes a record, the slot keeps it up to date, and once the process has ended it stays for a while, so that
its log can still be read by pid. A record holds its worker's environment: the folder is for the owner alone.

The first line of a file is the whole record, each further one what may have changed since. A line that is not whole
counts for nothing, so a daemon may be killed at any moment.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from reconciler.journal.parts import delete_log
from state.file import remove
from state.processes import LogRules, ObservedWorker, Pool, WorkerSpec, WorkerState

KEPT_PER_POOL = 50
KEPT_IN_ALL = 500


@dataclass
class Record:
    """One process, living or ended. Times are seconds since the epoch, but for `start_time` (see proc.Stat)."""

    pid: int
    start_time: int
    boot_id: str
    spec: WorkerSpec
    slot: int
    log_path: str
    started_at: float
    restarts: int = 0
    failures: int = 0
    ready_since: float | None = None  # None whenever it is not ready
    ever_ready: bool = False
    stopping: bool = False
    consumer_tag: str | None = None
    processed: int = 0
    failed: int = 0
    ended_at: float | None = None
    exit_code: int | None = None  # minus the signal's number if one ended it; None if nobody knows
    reason: str | None = None
    died: bool = False  # it ended by itself, and nobody has forgiven that since
    fatal: bool = False  # given up with this death
    cgroup: str | None = None  # the folder of its control group

    @property
    def file_name(self) -> str:
        return f"{self.pid}-{self.start_time}.json"

    def observed(self) -> ObservedWorker:
        """The ended worker as the rest of the project sees it."""
        return ObservedWorker(
            pool=self.spec.pool,
            slot=self.slot,
            pid=self.pid,
            state=WorkerState.EXITED,
            digest=self.spec.digest,
            started_at=self.started_at,
            restarts=self.restarts,
            reason=self.reason,
            consumer_tag=self.consumer_tag,
            processed=self.processed,
            failed=self.failed,
            log_path=self.log_path,
            ended_at=self.ended_at,
        )


_RECORD = TypeAdapter(Record)
_CHANGES = {field.name for field in dataclasses.fields(Record)} - {"spec", "boot_id", "log_path"}
MOST_LINES = 200  # of one file: then it is written anew


class Records:
    """The folder of records, and the ended ones in memory, oldest first."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs
        self._ended: list[Record] = []
        self._lines: dict[str, int] = {}  # of each living process' file

    def load(self) -> list[Record]:
        """Reads the folder; returns those that had not ended when they were written."""
        records = [record for path in self._folder.glob("*.json") if (record := self._read(path))]
        ended = [record for record in records if record.ended_at is not None]
        self._ended = sorted(ended, key=lambda record: record.ended_at or 0.0)
        return [record for record in records if record.ended_at is None]

    def save(self, record: Record) -> None:
        """Writes it down. A full disk is no reason to stop: the process is then found by its environment."""
        name, lines = record.file_name, self._lines.get(record.file_name, 0)
        if lines >= MOST_LINES and self._write_anew(record):
            self._lines[name] = 1
        else:
            text = json.dumps({name: getattr(record, name) for name in _CHANGES}) if lines else _text(record)
            self._lines[name] = lines + append(self._folder / name, text)

    def end(self, record: Record) -> None:
        """Keeps a record that now says how its process ended, and forgets the oldest beyond the bounds."""
        record.spec = dataclasses.replace(record.spec, env={})
        self._write_anew(record)
        self._lines.pop(record.file_name, None)
        self._ended.append(record)
        same_pool = [old for old in self._ended if old.spec.pool == record.spec.pool]
        for old in same_pool[:-KEPT_PER_POOL] or self._ended[:-KEPT_IN_ALL]:
            self._forget(old)

    def expire(self, now: float) -> None:
        """Forgets those that ended longer ago than their log rules keep them; `now` in seconds since the epoch."""
        for old in [record for record in self._ended if now - (record.ended_at or now) > record.spec.log.max_age]:
            self._forget(old)

    def rules(self) -> dict[Path, LogRules]:
        """What is kept of the logs of those that have ended, by their log."""
        return {Path(record.log_path): record.spec.log for record in self._ended}

    def given_up(self) -> dict[tuple[Pool, int], Record]:
        """The slots whose last process was the one with which they were given up."""
        last = {(record.spec.pool, record.slot): record for record in self._ended}
        return {where: record for where, record in last.items() if record.fatal}

    def deaths(self, pool: Pool, slot: int, digest: str) -> list[float]:
        """When processes of this slot with this digest died that are not forgiven, oldest first."""
        return [record.ended_at or 0.0 for record in self._dead(pool, slot) if record.spec.digest == digest]

    def forgive(self, pool: Pool, slot: int) -> None:
        """The next daemon is to know of no death in this slot."""
        for record in self._dead(pool, slot):
            record.died = record.fatal = False
            self._write_anew(record)

    def _dead(self, pool: Pool, slot: int) -> list[Record]:
        return [record for record in self._ended if record.died and (record.spec.pool, record.slot) == (pool, slot)]

    def ended(self) -> Iterator[Record]:
        """Those that have ended, newest first; not what never became a process."""
        return (record for record in reversed(self._ended) if record.pid)

    def _read(self, path: Path) -> Record | None:
        try:
            data = path.read_bytes()
            record = _RECORD.validate_python(_fields(data))
        except OSError:
            return None
        except ValueError:
            remove(path)  # if its process lives, it is found by its environment
            return None
        self._lines[record.file_name] = data.count(b"\n")
        return record

    def _write_anew(self, record: Record) -> bool:
        path = self._folder / record.file_name
        temporary = path.with_suffix(".tmp")
        try:
            temporary.unlink(missing_ok=True)
            if append(temporary, _text(record)):
                temporary.rename(path)
                return True
        except OSError:
            pass
        remove(temporary)
        return False

    def _forget(self, record: Record) -> None:
        self._ended.remove(record)
        remove(self._folder / record.file_name)
        log = Path(record.log_path)
        if log.is_relative_to(self._logs):
            delete_log(log)


def never_born(spec: WorkerSpec, slot: int, reason: str | None, restarts: int) -> Record:
    """What stands for a slot that was given up before any process of its could be started."""
    now = time.time()
    return Record(
        pid=0,
        start_time=time.time_ns(),
        boot_id="",
        spec=spec,
        slot=slot,
        log_path="",
        started_at=now,
        restarts=restarts,
        ended_at=now,
        reason=reason,
        died=True,
        fatal=True,
    )


def append(path: Path, text: str) -> bool:
    """Adds it in one write, on a line of its own whatever there is before. False if the disk is full."""
    data = f"\n{text}".encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            return os.write(fd, data) == len(data)
        finally:
            os.close(fd)
    except OSError:
        return False


def _text(record: Record) -> str:
    return json.dumps(_RECORD.dump_python(record))  # ASCII: a path may be no valid Unicode


def _fields(data: bytes) -> dict[str, object]:
    """What the lines that are whole say together."""
    fields: dict[str, object] = {}
    for line in filter(None, data.split(b"\n")):
        with suppress(ValueError, TypeError):
            fields.update(json.loads(line))
    return fields
