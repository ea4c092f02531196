"""One file replaced by new content, whole or not at all, and never over what somebody else wrote meanwhile.

The new content is written and synced beside the old file under another name, then the two change names in one step
(`renameat2` with RENAME_EXCHANGE). Only then is it sure what was replaced: if that is not the content that the new
one was made from, they change names back. Where a file system has no such step, the old file is looked at right
before a rename.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

LOCK_SECONDS = 30.0  # how long another process may hold the folder: each edit takes milliseconds
LOCK_STEP = 0.005

_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE = 1, 2
_PART, _READY = ".reconciler.part", ".reconciler.tmp"  # how temporary files end: being written, and whole
_LIBC = ctypes.CDLL(None, use_errno=True)


def replace(target: Path, data: bytes, expected: bytes | None) -> bool:
    """Puts `data` in the place of `expected`; None: of no file. Returns False if something else is there.

    Mode, owner, access lists and extended attributes stay as far as we may set them; a hard link of the file keeps
    the old content. Raises OSError; the old file then stands, and nothing is left beside it.
    """
    if expected is not None:
        try:
            _refuse_read_only(target)
        except FileNotFoundError:
            return False
    temporary = _write_beside(target, data, expected or b"")
    try:
        is_done = _make(temporary, target) if expected is None else _exchange(temporary, target, data, expected)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
    if is_done:
        sync_folder(target.parent)
    return is_done


def _make(temporary: str, target: Path) -> bool:
    try:
        _rename(temporary, target, _NOREPLACE)
    except FileExistsError:
        return False
    except OSError:  # not offered here, or for a reason that the plain rename meets, too
        if os.path.lexists(target):
            return False
        os.replace(temporary, target)
    return True


def _exchange(temporary: str, target: Path, data: bytes, expected: bytes) -> bool:
    if not _holds(target, expected):
        return False
    try:
        _rename(temporary, target, _EXCHANGE)
    except FileNotFoundError:
        return False
    except OSError:  # as above
        os.replace(temporary, target)
        return True
    if _holds(temporary, expected):
        return True
    _put_back(temporary, target, data)
    return False


def _holds(path: str | Path, expected: bytes) -> bool:
    return not is_being_written(path) and _content(path) == expected


def _content(path: str | Path) -> bytes | None:
    """None if it cannot be read, for whatever reason."""
    try:
        with open(path, "rb", opener=open_at_once) as file:
            return file.read()
    except OSError:
        return None


def _put_back(temporary: str, target: Path, data: bytes) -> None:
    """What came out goes back in. If then something else comes out than we had put in, that is newer still."""
    ours: bytes | None = data
    while True:
        theirs = _content(temporary)
        _rename(temporary, target, _EXCHANGE)
        if _content(temporary) == ours:
            return
        ours = theirs


def is_being_written(path: str | Path) -> bool:
    """Whether a process has the file open for writing, so that more may come. False where the kernel does not say.

    Asked by a lease, which is given only on a file that nobody writes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Who opens the file in this very moment sends us a signal. This one is ignored by default, SIGIO kills.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # not our file, or a file system without leases
        return False
    finally:
        os.close(fd)
    return False


def _rename(old: str, new: Path, flags: int) -> None:
    try:
        call = _LIBC.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, "renameat2 is missing") from None
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _refuse_read_only(target: Path) -> None:
    """A rename would not ask. Root may write everything, so a file that nobody may write counts for root too."""
    if not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK, effective_ids=True):
        number = errno.EROFS if os.statvfs(target).f_flag & os.ST_RDONLY else errno.EACCES
        raise PermissionError(number, os.strerror(number))


# -- the temporary file ------------------------------------------------------------------------------------------


def _write_beside(target: Path, data: bytes, expected: bytes) -> str:
    """The new content under a name that says what it is and what it replaces, so that `sweep` knows it."""
    fd, temporary = tempfile.mkstemp(prefix=_prefix(target), suffix=_PART, dir=target.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            copy_attributes(target, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        ready = temporary.removesuffix(_PART) + f".{_digest(expected)}.{_digest(data)}{_READY}"
        os.rename(temporary, ready)
        return ready
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _prefix(target: Path) -> str:
    return f".{target.name[:40]}."  # with the rest at most 255 bytes


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:12]


def sweep(target: Path) -> None:
    """Removes what a killed process left beside `target`; for the holder of the folder's lock.

    What somebody else wrote is never removed: if the process was killed between changing names and changing them back,
    that is done now. Raises OSError.
    """
    for entry in os.scandir(target.parent):
        if not entry.name.startswith(_prefix(target)):
            continue
        if entry.name.endswith(_PART):
            os.unlink(entry.path)
        elif entry.name.endswith(_READY):
            _sweep_ready(entry.path, target)


def _sweep_ready(temporary: str, target: Path) -> None:
    old, new = temporary.removesuffix(_READY).split(".")[-2:]
    if not _is(temporary, old, new):
        if not _is(target, new):
            return  # not ours, and no longer needed where it was: left for a person
        _rename(temporary, target, _EXCHANGE)
    os.unlink(temporary)


def _is(path: str | Path, *digests: str) -> bool:
    content = _content(path)
    return content is not None and _digest(content) in digests


def copy_attributes(source: Path, fd: int) -> None:
    """Gives `fd` the mode and, where we may, the owner, access list and extended attributes of `source`."""
    try:
        status = source.stat()
    except FileNotFoundError:
        os.fchmod(fd, 0o644)
        return
    for owner in ((status.st_uid, status.st_gid), (-1, status.st_gid)):
        with suppress(PermissionError):
            os.fchown(fd, *owner)
            break
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    with suppress(OSError):
        _copy_extended(source, fd)


def _copy_extended(source: Path, fd: int) -> None:
    wanted = os.listxattr(source)
    for name in {*os.listxattr(fd)} - {*wanted}:  # an access list that the folder gives to new files
        with suppress(OSError):
            os.removexattr(fd, name)
    for name in wanted:
        with suppress(OSError):
            os.setxattr(fd, name, os.getxattr(source, name))


# -- the folder --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """One process of ours at a time. Raises TimeoutError after LOCK_SECONDS, OSError if there is no such folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, folder)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process holds the lock of the folder {folder}") from None
        except OSError:  # a network file system without locks: the exchange alone has to do
            return
        time.sleep(LOCK_STEP)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_at_once(path: str, flags: int) -> int:
    """As `os.open`, but a named pipe does not keep it waiting for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)
