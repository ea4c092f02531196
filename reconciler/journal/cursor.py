"""A place in a log that moves on: the next bytes after it, from one file of the log to the one after."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from reconciler.journal.holes import data_from
from reconciler.journal.packed import Damaged, Packed
from reconciler.journal.parts import TRIES, Part, next_start, steady_parts
from reconciler.journal.reader import after_edge, open_current

CHUNK = 256 * 1024
QUIET = 0.1  # seconds without a write after which a renamed file counts as finished, once there is one after it


@dataclass(frozen=True)
class Chunk:
    """Bytes from number `start` on; `anew` if they do not follow on what was read before.

    `crossing`: the log goes on in another file than the one that was read, so look again soon.
    """

    data: bytes
    start: int
    anew: bool = False
    crossing: bool = False


class Cursor:
    """`position` is the number of the next byte. Blocks: call it from a thread. Close it after use."""

    def __init__(self, path: Path, position: int) -> None:
        self._path = path
        self.position = position
        self._part: Part | None = None
        self._fd = -1
        self._packed: Packed | None = None
        self._lock = threading.RLock()  # whoever waited for a read may be gone, and close, before it is done

    def read(self) -> Chunk | None:
        """What comes next, with no data if there is none yet; None once the log is gone."""
        with self._lock:
            return self._read_on()

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd, self._part, self._packed = -1, None, None

    def _read_on(self) -> Chunk | None:
        for _ in range(TRIES):
            try:
                return self._read() if self._part or self._open() else None
            except FileNotFoundError:
                continue  # renamed or packed at this moment
            except Damaged:
                self._move(self._after_this(), anew=True)
            except OSError:
                return None
        return Chunk(b"", self.position, crossing=True)

    def _read(self) -> Chunk | None:
        part = self._part
        assert part
        if self._packed:
            return self._read_packed(part, self._packed)
        if (jumped := self._jump(part)) is not None:
            return jumped
        final = self._is_final()  # asked before reading: nothing written earlier is missed
        data = os.pread(self._fd, CHUNK, self.position - part.start)
        return self._taken(data) if data else self._at_end(final)

    def _jump(self, part: Part) -> Chunk | None:
        """To where there is something, if there is not here: the file was cut short, or its beginning has gone."""
        size = os.fstat(self._fd).st_size
        offset = self.position - part.start
        if offset > size and part.next is None:
            self.position = part.start
            return Chunk(b"", self.position, anew=True)
        if offset < size and (begin := data_from(self._fd, offset)) > offset:
            self.position = part.start + after_edge(self._fd, begin)
            return Chunk(b"", self.position, anew=True)
        return None

    def _read_packed(self, part: Part, packed: Packed) -> Chunk | None:
        anew = self.position - part.start < packed.begin
        offset = max(self.position - part.start, packed.begin)
        self.position = part.start + offset
        data = packed.pread(CHUNK, offset)
        return self._taken(data, anew) if data else self._at_end(final=True)

    def _taken(self, data: bytes, anew: bool = False) -> Chunk:
        start = self.position
        self.position += len(data)
        return Chunk(data, start, anew)

    def _at_end(self, final: bool | None) -> Chunk | None:
        """`final`: whether this file gets no more; None if it may yet, but has one after it."""
        if not final:
            return Chunk(b"", self.position, crossing=final is None)
        if following := self._after_this():
            return self._move(following)
        return None if os.fstat(self._fd).st_nlink == 0 else Chunk(b"", self.position)

    def _is_final(self) -> bool | None:
        """Whether there is a file after this one, and this one has been quiet for a moment."""
        mine = os.fstat(self._fd)
        try:
            if os.path.samestat(mine, os.stat(self._path)):
                return False
        except FileNotFoundError:
            return mine.st_nlink == 0 or (False if self._after_this() is None else None)
        return True if time.time() - mine.st_mtime > QUIET or mine.st_nlink == 0 else None

    def _after_this(self) -> Part | None:
        start = self._part.start if self._part else -1
        return next((part for part in _all_parts(self._path) if part.start > start), None)

    def _move(self, part: Part | None, anew: bool = False) -> Chunk:
        """On to the beginning of the next file."""
        skipped = self._part is None or part is None or self._part.next not in (None, part.start)
        self.close()
        if part is not None:
            self.position = part.start
        return Chunk(b"", self.position, anew=anew or skipped, crossing=True)

    def _open(self) -> bool:
        """Opens the file that `position` lies in, or the first after it. False if there is none."""
        fd, older = open_current(self._path)
        start = next_start(older)
        if fd is not None and (self.position >= start or not older):
            self._fd, self._part = fd, Part(self._path, start, None)
            self.position = max(self.position, start)
            return True
        if fd is not None:
            os.close(fd)
        part = next((part for part in older if part.next is None or self.position < part.next), None)
        part = part or (older[-1] if older else None)
        if part is None:
            return False
        self._fd, self._part = os.open(part.path, os.O_RDONLY), part
        self._packed = Packed(self._fd) if part.packed else None
        self.position = max(self.position, part.start)
        return True


def _all_parts(path: Path) -> list[Part]:
    older = steady_parts(path)
    return [*older, Part(path, next_start(older), None)] if path.exists() else older
