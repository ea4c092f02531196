"""The files that one log is made of, oldest first: their names, and where in the log each begins.

A process writes to `STEM.log`. Rotation renames that to `STEM.START-NEXT.log`, later packed to `….log.gz`. Every byte
has a number that stays its own for good: the START of its file plus its offset there; NEXT is the START of the file
after it. Between the two is room to spare, because whoever still holds the old file may go on writing to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

STEP = 2**32  # a START is a multiple of it: file number × STEP, as long as the files are smaller
PACKED = ".gz"
TEMPORARY = ".tmp"
TRIES = 20

_OLDER = re.compile(r"\.(\d{1,19})-(\d{1,19})\.log(\.gz)?")


class Part(NamedTuple):
    """One file of a log. `next` is None for the one that has the log's own name."""

    path: Path
    start: int
    next: int | None

    @property
    def packed(self) -> bool:
        return self.path.name.endswith(PACKED)


def older_parts(path: Path, names: Iterable[str] | None = None) -> list[Part]:
    """Those that are no longer `path` itself. `names` is what is in the folder, if it was listed already."""
    found: dict[int, Part] = {}
    for name in _names(path.parent) if names is None else names:
        if name.startswith(path.stem) and (match := _OLDER.fullmatch(name, len(path.stem))):
            part = Part(path.with_name(name), int(match[1]), int(match[2]))
            if part.start not in found or part.packed:  # both are there for a moment; the packed one is whole
                found[part.start] = part
    return [found[start] for start in sorted(found)]


def steady_parts(path: Path) -> list[Part]:
    """`older_parts` even while one of them is being packed, when a single look may see neither of its two names."""
    before: list[Part] | None = None
    for _ in range(TRIES):
        found = older_parts(path)
        if before is not None and [part.start for part in before] == [part.start for part in found]:
            break
        before = found
    return found


def next_start(older: Iterable[Part]) -> int:
    """Where the file with the log's own name begins."""
    return max((part.next or 0 for part in older), default=0)


def part_name(path: Path, start: int, size: int) -> Path:
    """What `path` is renamed to, when it is the file that begins at `start` and has `size` bytes by now."""
    after = -(-(start + size + STEP // 2) // STEP) * STEP
    return path.with_name(f"{path.stem}.{start}-{after}.log")


def log_of(path: Path) -> Path:
    """The log that a file is part of."""
    return path.with_name(log_name(path.name))


def log_name(name: str) -> str:
    """The name of the log that a file of this name is part of."""
    return re.sub(r"\.\d{1,19}-\d{1,19}\.log$", ".log", name.removesuffix(TEMPORARY).removesuffix(PACKED))


def delete_part(part: Part) -> None:
    """It may be packed this very moment: then it is there under its other name, too."""
    for name in (part.path, part.path.with_name(part.path.name.removesuffix(PACKED) + PACKED)):
        with suppress(OSError):
            name.unlink()


def delete_log(path: Path) -> None:
    """All of it, as far as it is there."""
    doomed = [path.with_name(name) for name in _names(path.parent) if log_name(name) == path.name]
    for file in (path, *doomed):
        with suppress(OSError):
            file.unlink()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
