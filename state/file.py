"""queues.yaml on disk: read as it stands, and written so that nobody's change is lost.

A write is an edit of the newest content: read, edit, check, temporary file, fsync, and a change of names only if the
content is still what was read (`state.replace`); else the edit is done again on what is there now.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from state.edit import EditRefused, set_value, value_at
from state.faults import Rejected
from state.reader import BOM, MAX_BYTES, parse, revision_of
from state.replace import folder_lock, is_being_written, open_at_once, replace, sweep, sync_folder

Edit = Callable[[str], str]  # the text without its BOM, before and after; may raise EditRefused

ANY = "*"  # in place of a revision: whichever there is
TRIES = 20  # how often an edit is redone on content that others keep changing
WRITER_SECONDS = 2.0  # how long somebody may take who writes the file in place, before an edit gives up
WRITER_STEP = 0.02
ATOMIC = ".new"  # how the temporary files of `write_atomically` end


class WriteFailed(Exception):
    """The file could not be written; the old one stands whole. The message says why and what to do."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class Conflict(WriteFailed):
    """The file on disk does not take an edit now: it is missing or has faults."""


class MovedOn(Exception):
    """The file is not at a revision that the caller named. `revision` is the one it is at, None if there is no file."""

    def __init__(self, revision: str | None) -> None:
        at = f"it is at revision {revision}" if revision else "there is none now"
        super().__init__(f"the file moved on: {at} (look at it again, then name that revision or none)")
        self.revision = revision


@dataclass(frozen=True)
class Snapshot:
    """The file as it stood at one moment."""

    data: bytes | None  # None: there is no file
    changed_at: float  # modification time, seconds since the epoch
    error: str | None = None  # why it could not be read

    @property
    def revision(self) -> str:
        return revision_of(self.data or b"")


@dataclass(frozen=True)
class Written:
    """A write that is done; `number` counts them. `after` equals `before` if there was nothing to change."""

    revision: str
    number: int
    before: bytes | None
    after: bytes


def edited(before: Snapshot, edit: Edit, name: str, *, may_create: bool = False) -> bytes:
    """What `edit` makes of the content of `before`, checked; raises as `DesiredFile.edit` does."""
    old = before.data or b""
    after = edit(editable(before, name, may_create))
    data = (BOM if old.startswith(BOM.encode()) else "").encode() + after.encode()
    if data != before.data:
        parse(data, name)
    return data


def editable(snapshot: Snapshot, name: str, may_create: bool) -> str:
    data = snapshot.data
    if may_create and (text := started(data or b"")) is not None:
        return text
    if data is None:
        raise Conflict(f"{name}: {snapshot.error}")
    try:
        parse(data, name)
    except Rejected as rejected:
        raise Conflict(f"the file has faults that must be mended first: {rejected}") from None
    return data.decode().removeprefix(BOM)


def started(data: bytes) -> str | None:
    """A file that lists nothing yet, with the keys that it must have; its comments stay. None if it says anything."""
    try:
        text = data.decode().removeprefix(BOM)
        if value_at(text, ("queues",)) or value_at(text, ("version",)) not in (None, 1):
            return None
        return set_value(set_value(text, ("version",), 1), ("queues",), {})
    except (UnicodeDecodeError, EditRefused):
        return None


class DesiredFile:
    """The desired-state file at `path`. Methods block on the disk; edits are serialized, with other processes too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writes = 0  # how many writes have been done: what a waiting client compares
        self.written: str | None = None  # the revision of the last one
        self._lock = threading.Lock()

    def snapshot(self) -> Snapshot:
        try:
            with open(self.path, "rb", opener=open_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return Snapshot(None, 0, "the file cannot be read: it is a pipe or a device (put a file there)")
                data = file.read(MAX_BYTES + 1)
                status = os.fstat(file.fileno())  # only now: what was written while it was read has made it young
                if len(data) > MAX_BYTES:
                    return Snapshot(None, 0, f"the file has {status.st_size:,} bytes (at most {MAX_BYTES:,})")
                return Snapshot(data, status.st_mtime)
        except FileNotFoundError:
            return Snapshot(None, 0, self._missing())
        except OSError as error:
            return Snapshot(None, 0, f"the file cannot be read: {error.strerror} (check the path and its mode)")

    def _missing(self) -> str:
        if self.path.is_symlink():
            target = os.path.realpath(self.path)
            return f"the file is missing: it is a link to {target}, which is not there (restore that, or mend the link)"
        return "the file is missing (restore it, for example with git checkout)"

    def look(self, known: Collection[str | None]) -> tuple[Snapshot, bool]:
        """A snapshot, and whether somebody has the file open for writing: asked only if its revision is not known."""
        snapshot = self.snapshot()
        if snapshot.data is None or snapshot.revision in known:
            return snapshot, False
        is_open = is_being_written(self.path)  # before it is read again: who opens it later makes it young
        return self.snapshot(), is_open

    def edit(self, edit: Edit, *, may_create: bool = False, only_if: Collection[str] | None = None) -> Written:
        """Applies `edit` to the newest content.

        Raises what `edit` raises, `Rejected` if the result is not valid, `Conflict` if the file on disk is missing
        or faulty already, `WriteFailed` if the disk refuses, `MovedOn` if the file is at none of the revisions in
        `only_if`. `may_create` starts a file where none or an empty one is.
        """
        return self._write(lambda before: edited(before, edit, self.path.name, may_create=may_create), only_if)

    def put(self, data: bytes, *, only_if: Collection[str] | None = None) -> Written:
        """Puts `data` in place of whatever is there. Raises `WriteFailed` and `MovedOn` as `edit` does."""
        return self._write(lambda _: data, only_if)

    def require(self, only_if: Collection[str] | None) -> None:
        """Raises MovedOn if the file is at none of these revisions."""
        if only_if is not None:
            refuse_others(self.snapshot(), only_if)

    def sweep(self) -> None:
        """Removes what a process that was killed while it wrote has left behind. Raises OSError."""
        target = Path(os.path.realpath(self.path))
        with self._lock, folder_lock(target.parent):
            sweep(target)

    def _write(self, make: Callable[[Snapshot], bytes], only_if: Collection[str] | None) -> Written:
        with self._lock:
            for _ in range(TRIES):
                if (done := self._try(make, only_if)) is not None:
                    before, data = done
                    self.writes += 1
                    self.written = revision_of(data)
                    return Written(self.written, self.writes, before.data, data)
        raise WriteFailed(f"{self.path.name} keeps changing on disk (try again when the other writer is done)")

    def _try(self, make: Callable[[Snapshot], bytes], only_if: Collection[str] | None) -> tuple[Snapshot, bytes] | None:
        """One write over what is there now. None if that changed meanwhile."""
        target = Path(os.path.realpath(self.path))
        try:
            with folder_lock(target.parent):
                self._await_writer(target)
                before = self.snapshot()
                if only_if is not None:
                    refuse_others(before, only_if)
                data = make(before)
                if before.data is None and target.exists():
                    raise Conflict(f"{self.path.name}: {before.error}")
                if data != before.data:
                    is_there_still = os.path.realpath(self.path) == str(target)
                    if not (is_there_still and replace(target, data, before.data)):
                        return None
                return before, data
        except OSError as error:
            raise self._failed(error, target) from None

    def _await_writer(self, target: Path) -> None:
        """Lets somebody finish who writes the file in place: a part of it may look whole."""
        deadline = time.monotonic() + WRITER_SECONDS
        while is_being_written(target):
            if time.monotonic() > deadline:
                way_out = "try again when it is done"
                raise WriteFailed(f"another program has {self.path.name} open for writing ({way_out})")
            time.sleep(WRITER_STEP)

    def _failed(self, error: OSError, target: Path) -> WriteFailed:
        hint = {
            errno.EBUSY: "it is mounted by itself; mount its folder instead of the file",
            errno.EACCES: "check the modes of the file and its folder",
            errno.EPERM: "check the attributes of the file and its folder",
            errno.EROFS: "mount the folder so that it can be written",
            errno.ENOSPC: "free some space",
            errno.EDQUOT: "free some space",
            errno.ENOENT: f"make the folder {target.parent} first",
        }.get(error.errno or 0, "try again")
        why = error.strerror or str(error)
        return WriteFailed(f"{target} cannot be written: {why} ({hint}; the old file stands)", error.errno)


def refuse_others(snapshot: Snapshot, only_if: Collection[str]) -> None:
    there = snapshot.data is not None
    if not there or not (ANY in only_if or snapshot.revision in only_if):
        raise MovedOn(snapshot.revision if there else None)


def remove(path: Path) -> None:
    """Whether it is there or not, as far as the disk lets us: a read-only one refuses even what is not there."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data`, whole or not at all. Raises OSError."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=ATOMIC, dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sweep_atomic(folder: Path) -> None:
    """Removes what `write_atomically` left in a folder that only we write, when we were killed. Raises OSError."""
    for entry in os.scandir(folder):
        if entry.name.startswith(".") and entry.name.endswith(ATOMIC):
            os.unlink(entry.path)
