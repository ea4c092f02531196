"""Where a process writes: one file of its own, named after its pool, slot and time of birth."""

from __future__ import annotations

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

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
    """The lines within the last `size` bytes, oldest first; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size).decode(errors="replace").splitlines()
    except OSError:
        return []


def _folder_name(pool: Pool) -> str:
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", str(pool))[:60].strip("_")
    exact = json.dumps([pool.queue, pool.worker])  # a/b + c is not a + b/c
    return f"{readable}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
