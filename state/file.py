"""queues.yaml on disk: read as it stands, and written so that nobody's change is lost.

A write is an edit of the newest content: read, edit, check, temporary file, fsync, and a rename only if the content
is still what was read; else the edit is done again on what is there now.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from state.faults import Rejected
from state.reader import BOM, parse, revision_of

Edit = Callable[[str], str]  # the text without its BOM, before and after; may raise EditRefused

TRIES = 20  # how often an edit is redone on content that others keep changing


class WriteFailed(Exception):
    """The file could not be written; the old one stands whole. The message says why and what to do."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number


class Conflict(WriteFailed):
    """The file on disk does not take an edit now: it is missing or has faults."""


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
    if may_create and (data is None or not data.strip()):
        return "version: 1\nqueues: {}\n"
    if data is None:
        raise Conflict(f"{name}: {snapshot.error}")
    try:
        parse(data, name)
    except Rejected as rejected:
        raise Conflict(f"the file has faults that must be mended first: {rejected}") from None
    return data.decode().removeprefix(BOM)


class DesiredFile:
    """The desired-state file at `path`. Methods block on the disk; edits are serialized within the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writes = 0  # how many writes have been done: what a waiting client compares
        self.written: str | None = None  # the revision of the last one
        self._lock = threading.Lock()

    def snapshot(self) -> Snapshot:
        try:
            with open(self.path, "rb", opener=open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return Snapshot(None, 0, "the file cannot be read: it is a pipe or a device (put a file there)")
                return Snapshot(file.read(), status.st_mtime)
        except FileNotFoundError:
            return Snapshot(None, 0, "the file is missing (restore it, for example with git checkout)")
        except OSError as error:
            return Snapshot(None, 0, f"the file cannot be read: {error.strerror} (check the path and its mode)")

    def edit(self, edit: Edit, *, may_create: bool = False) -> Written:
        """Applies `edit` to the newest content.

        Raises what `edit` raises, `Rejected` if the result is not valid, `Conflict` if the file on disk is missing
        or faulty already, `WriteFailed` if the disk refuses. `may_create` starts a file where none or an empty one is.
        """
        return self._write(lambda before: edited(before, edit, self.path.name, may_create=may_create))

    def put(self, data: bytes) -> Written:
        """Puts `data` in place of whatever is there. Raises `WriteFailed` if the disk refuses."""
        return self._write(lambda _: data)

    def _write(self, make: Callable[[Snapshot], bytes]) -> Written:
        with self._lock:
            for _ in range(TRIES):
                before = self.snapshot()
                data = make(before)
                if data == before.data or self._replace(data, before):
                    self.writes += 1
                    self.written = revision_of(data)
                    return Written(self.written, self.writes, before.data, data)
        raise WriteFailed(f"{self.path.name} keeps changing on disk (try again when the other writer is done)")

    def _replace(self, data: bytes, before: Snapshot) -> bool:
        """Puts `data` in the file's place, unless the content is no longer `before`'s."""
        target = Path(os.path.realpath(self.path))
        try:
            temporary = self._write_beside(target, data)
        except OSError as error:
            raise WriteFailed(
                f"{target} cannot be written: {error.strerror} (the old file stands)", error.errno
            ) from None
        try:
            if self.snapshot().data != before.data:
                return False
            os.replace(temporary, target)
            sync_folder(target.parent)
            return True
        except OSError as error:
            hint = "mount its folder instead of the file" if error.errno == errno.EBUSY else "the old file stands"
            raise WriteFailed(f"{target} cannot be replaced: {error.strerror} ({hint})", error.errno) from None
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def _write_beside(self, target: Path, data: bytes) -> str:
        fd, temporary = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                copy_owner(target, file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.unlink(temporary)
            raise
        return temporary


def open_at_once(path: str, flags: int) -> int:
    """As `os.open`, but a named pipe does not keep it waiting for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def copy_owner(source: Path, fd: int) -> None:
    """Gives `fd` the mode and, where we may, the owner of `source`."""
    try:
        status = source.stat()
    except FileNotFoundError:
        os.fchmod(fd, 0o644)
        return
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    with suppress(PermissionError):
        os.fchown(fd, status.st_uid, status.st_gid)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data`, whole or not at all. Raises OSError."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
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
