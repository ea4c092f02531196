"""Packs one finished file of a log: FILE → FILE.gz. A program of its own, run at low priority; nothing imports it.

    python -I -S pack.py FILE      exit 0: done; 75: somebody still has it open, or packs it; 1: it could not be done

The result is plain gzip, in members of BLOCK bytes each. An extra field of each member's header says how long it is
and where its bytes stood, so that a reader finds any of them without unpacking what lies before (packed.py).
Whenever this is killed, either FILE is still whole, or FILE.gz is.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress

BLOCK = 256 * 1024
LEVEL = 4
BUSY = 75
HEADER = struct.Struct("<4BIBBHBBHQII")  # gzip's own ten bytes, then the extra field: tag, offset, bytes, packed length
TAG = (ord("Q"), ord("R"))
PAYLOAD = 16


def member(offset: int, data: bytes) -> bytes:
    """Bytes of the file, from `offset` on, as one gzip member."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush() + struct.pack("<II", zlib.crc32(data), len(data))
    length = HEADER.size + len(body)
    return HEADER.pack(0x1F, 0x8B, 8, 4, 0, 0, 255, PAYLOAD + 4, *TAG, PAYLOAD, offset, len(data), length) + body


def pack(path: str) -> int:
    try:
        source = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(source).st_nlink == 0:
            return 0
        if is_held(source):
            return BUSY
        return replace(path, source)
    except BlockingIOError:
        return BUSY
    finally:
        os.close(source)


def replace(path: str, source: int) -> int:
    temporary, packed = f"{path}.gz.tmp", f"{path}.gz"
    status = os.fstat(source)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            for offset, data in blocks(source):
                out.write(member(offset, data))
            if out.tell() == 0:
                out.write(member(0, b""))
            out.flush()
            os.fsync(out.fileno())
        if os.fstat(source).st_size != status.st_size:
            os.unlink(temporary)
            return BUSY
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.rename(temporary, packed)
        sync_folder(path)
        with suppress(FileNotFoundError):  # rotation may have removed it meanwhile
            os.unlink(path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        print(f"{packed}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def blocks(source: int) -> Iterator[tuple[int, bytes]]:
    """What is in the file, with its offsets; the hole at its beginning is left out, and the line that it cuts."""
    try:
        offset = edge = os.lseek(source, 0, os.SEEK_DATA)
    except OSError:
        return
    while data := os.pread(source, BLOCK, offset):
        cut = data.find(b"\n") + 1 if offset == edge > 0 else 0
        yield offset + cut, data[cut:]
        offset += len(data)


def is_held(source: int) -> bool:
    """Whether any other process has the file open, as far as we may look into it."""
    wanted = os.fstat(source)
    us = str(os.getpid())
    return any(pid.isdigit() and pid != us and has_open(pid, wanted) for pid in os.listdir("/proc"))


def has_open(pid: str, wanted: os.stat_result) -> bool:
    """For writing: someone who only reads it, such as a browser's download, is in nobody's way."""
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{fd}"), wanted) and writes(pid, fd):
                    return True
    return False


def writes(pid: str, fd: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{fd}") as info:
        flags = next(line for line in info if line.startswith("flags:"))
    return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY


def sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


if __name__ == "__main__":
    with suppress(OSError):
        os.nice(19)
    sys.exit(pack(sys.argv[1]))
