"""All files of a log as one: bytes from anywhere in it, whether they are still written to, renamed or packed.

Positions are counted without what is missing, from the first line that is whole; `number` and `position` convert to
the numbers that bytes keep for good (parts.py). What is opened here is a snapshot: what is renamed, packed or deleted
later can still be read, what is written later is not seen.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from reconciler.journal.holes import data_from, first_data
from reconciler.journal.packed import Damaged, Packed
from reconciler.journal.parts import TRIES, Part, next_start, steady_parts

EDGE = 64 * 1024
FARTHEST = 1024 * 1024  # bytes after a hole's edge in which the line that it cut is looked for


class Source(Protocol):
    """The bytes of one file by their offsets in it; there are some from `begin` to before `end`."""

    begin: int
    end: int

    def pread(self, size: int, offset: int) -> bytes: ...


class Plain:
    """A file as it is, without the hole at its beginning and the line that it cuts."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.end = os.fstat(fd).st_size
        self.begin = after_edge(fd, first_data(fd))

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, min(size, self.end - offset), offset)

    @property
    def pierced(self) -> bool:
        """Whether more of its beginning has gone since it was opened."""
        return data_from(self._fd, self.begin) > self.begin


def after_edge(fd: int, edge: int) -> int:
    """Where the first whole line begins, if everything before `edge` is a hole."""
    if edge == 0:
        return 0
    at = edge
    while at < edge + FARTHEST and (data := os.pread(fd, EDGE, at)):
        if (newline := data.find(b"\n")) >= 0:
            return at + newline + 1
        at += len(data)
    return min(edge, os.fstat(fd).st_size)


class _Extent(NamedTuple):
    position: int
    start: int  # the number of its first byte
    length: int
    source: Source
    begin: int


class OpenLog:
    """`end` is the number after the last byte, `size` how many bytes there are."""

    def __init__(self, sources: list[tuple[Part, Source]]) -> None:
        self.extents: list[_Extent] = []
        self.size = 0
        for part, source in sources:
            length = max(0, source.end - source.begin)
            if part.next is not None:
                length = min(length, part.next - part.start - source.begin)
            self.extents.append(_Extent(self.size, part.start + source.begin, length, source, source.begin))
            self.size += length
        self._positions = [extent.position for extent in self.extents]
        self._starts = [extent.start for extent in self.extents]

    def pread(self, size: int, position: int) -> bytes:
        """Up to `size` bytes, fewer only at the end."""
        pieces = []
        while size > 0 and position < self.size:
            extent = self.extents[bisect_right(self._positions, position) - 1]
            into = position - extent.position
            piece = extent.source.pread(min(size, extent.length - into), extent.begin + into)
            if not piece:
                break
            pieces.append(piece)
            size, position = size - len(piece), position + len(piece)
        return b"".join(pieces)

    def number(self, position: int) -> int:
        """Of the byte at a position."""
        extent = self.extents[max(0, bisect_right(self._positions, position) - 1)]
        return extent.start + position - extent.position

    def number_after(self, position: int) -> int:
        """Of the byte before it, plus one: where a line that ends at the position ends for good."""
        return self.number(position - 1) + 1 if position > 0 else self.extents[0].start

    def position(self, number: int) -> int:
        """Of the byte with a number, or of the first after it that is there."""
        index = bisect_right(self._starts, number) - 1
        if index < 0:
            return 0
        extent = self.extents[index]
        return extent.position + min(number - extent.start, extent.length)

    @property
    def pierced(self) -> bool:
        """Whether a part that was there when it was opened has become a hole."""
        return any(extent.source.pierced for extent in self.extents if isinstance(extent.source, Plain))


@contextmanager
def open_log(path: Path) -> Iterator[OpenLog]:
    """Raises FileNotFoundError if nothing of it is there, OSError."""
    with ExitStack() as stack:
        yield _open(path, stack)


def _open(path: Path, stack: ExitStack) -> OpenLog:
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            return OpenLog(_open_all(path, stack))
        stack.close()
        if not path.exists() and not steady_parts(path):
            break
    raise FileNotFoundError(f"there is no log at {path}")


def _open_all(path: Path, stack: ExitStack) -> list[tuple[Part, Source]]:
    """Raises FileNotFoundError if something was renamed meanwhile: then look again."""
    fd, older = open_current(path)
    found: list[tuple[Part, Source]] = []
    if fd is not None:
        stack.callback(os.close, fd)
    for one in older:
        with suppress(Damaged):
            found.append((one, _open_part(one, stack)))
    if fd is not None:
        found.append((Part(path, next_start(older), None), Plain(fd)))
    if not found:
        raise FileNotFoundError
    return found


def open_current(path: Path) -> tuple[int | None, list[Part]]:
    """The file with the log's own name, and those before it; None if no file has the name just now.

    Raises FileNotFoundError if it is being renamed at this moment.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None, steady_parts(path)
    try:
        older = steady_parts(path)
        if os.path.samestat(os.fstat(fd), os.stat(path)):  # it had the name before the look and has it after
            return fd, older
        raise FileNotFoundError
    except BaseException:
        os.close(fd)
        raise


def _open_part(part: Part, stack: ExitStack) -> Source:
    fd = os.open(part.path, os.O_RDONLY)
    stack.callback(os.close, fd)
    return Packed(fd) if part.packed else Plain(fd)
