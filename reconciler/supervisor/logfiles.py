"""Where a process writes: one file of its own, named after its pool, slot and time of birth.

What we add to it ourselves is one line when it starts and one when it has ended, in the form of the runtime's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from reconciler.journal.parts import older_parts
from state.processes import Pool


def log_path(logs: Path, pool: Pool, slot: int, now: float) -> Path:
    """`logs/POOL/SLOT-TIME.log`, for any pool name there can be; `now` in seconds since the epoch."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return logs / _folder_name(pool) / f"{slot}-{stamp}.log"


def open_log(path: Path) -> int:
    """A descriptor to append to it. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def last_lines(path: Path, size: int = 8192) -> list[str]:
    """The lines within the last `size` bytes, oldest first; none if it cannot be read.

    Also those of the file before, if that was renamed so lately that it is not packed yet.
    """
    tail = _tail(path, size)
    if len(tail) < size and (older := older_parts(path)) and not older[-1].packed:
        tail = _tail(older[-1].path, size - len(tail)) + tail
    return tail.decode(errors="replace").splitlines()


def start_line(pool: Pool, slot: int, pid: int, digest: str, why: str, now: float) -> str:
    """Says that a process starts. `why` in words, such as "first start", "new code"; `now` since the epoch."""
    return f"{_head(pool, pid, 'INFO', now)} started: slot {slot}, spec {digest[:12]}, {why}"


def exit_line(pool: Pool, slot: int, pid: int, how: str, now: float, *, abnormal: bool) -> str:
    """Says that it has ended. `how` in words: `ending` of reason.py."""
    return f"{_head(pool, pid, 'WARNING' if abnormal else 'INFO', now)} ended: slot {slot}, {how}"


def append_line(path: Path, text: str) -> None:
    """Adds a line of ours in one write. A full disk costs the line; a log that is gone stays gone."""
    with suppress(OSError):
        fd = os.open(_written(path), os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            cut_short = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            os.write(fd, (b"\n" if cut_short else b"") + text.encode(errors="backslashreplace") + b"\n")
        finally:
            os.close(fd)


def _written(path: Path) -> Path:
    """The file that its process writes to: after a rename it may have ended before it opened the name again."""
    if not path.exists() and (older := older_parts(path)) and not older[-1].packed:
        return older[-1].path
    return path


def _head(pool: Pool, pid: int, level: str, now: float) -> str:
    stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")[:-6]
    return f"{stamp}Z {level: <7} [{_one_word(pool.queue)}/{_one_word(pool.worker)} {pid}]"


def _one_word(name: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f\[\]]+", "_", name) or "-"


def _tail(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size)
    except OSError:
        return b""


def _folder_name(pool: Pool) -> str:
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", str(pool))[:60].strip("_")
    exact = json.dumps([pool.queue, pool.worker])  # a/b + c is not a + b/c
    return f"{readable}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
