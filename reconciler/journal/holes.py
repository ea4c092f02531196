"""The oldest part of a file given back to the disk while somebody writes to it; what stays keeps its offsets."""

from __future__ import annotations

import ctypes
import errno
import os

BLOCK = 4096
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_NO_SUCH = (errno.EOPNOTSUPP, errno.ENOSYS)

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class CannotPunch(OSError):
    """The file system cannot do it."""


def first_data(fd: int) -> int:
    """Where a file begins after the hole at its beginning; its size if there is nothing but a hole."""
    return data_from(fd, 0)


def data_from(fd: int, offset: int) -> int:
    """The first byte at or after `offset` that is in no hole; the file's size if there is none."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no such thing here: then there are no holes
            return offset
        return os.fstat(fd).st_size


def punch(fd: int, keep: int) -> int:
    """Makes a hole of all but about the newest `keep` bytes; returns where data begins now.

    Raises CannotPunch, OSError.
    """
    begin = first_data(fd)
    end = (os.fstat(fd).st_size - keep) // BLOCK * BLOCK
    if end <= begin:
        return begin
    if _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, 0, end) != 0:
        number = ctypes.get_errno()
        raise (CannotPunch if number in _NO_SUCH else OSError)(number, os.strerror(number))
    return end
