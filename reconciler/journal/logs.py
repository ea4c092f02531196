"""Pages of a log file, read backwards from anywhere in it, in bounded time and memory however long it is.

Used by the web layer and the command line. For what is still to come see follow.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reconciler.journal.levels import UNKNOWN, level_of, threshold

CHUNK = 256 * 1024
LONGEST_LINE = 64 * 1024
MOST_LINES = 10_000
MOST_READ = 16 * 1024 * 1024  # bytes for one page: half a second at most
MOST_TEXT = 16 * 1024 * 1024  # bytes in one page


@dataclass(frozen=True)
class LogPage:
    """Some lines, oldest first.

    `offset` is where the first of them starts: as `before` it asks for the page before this one, 0 means there is none.
    With a filter a page may be short, or empty, and have an older one all the same. `end` is where the newest line
    that was looked at ends: to follow the file, begin there. `ends` has the byte after each line: its lasting address.
    """

    lines: list[str]
    offset: int
    end: int
    ends: list[int]


class _Line(NamedTuple):
    start: int
    stop: int
    text: str


def read_page(
    path: Path,
    lines: int = 100,
    before: int | None = None,
    q: str | None = None,
    level: str | None = None,
    *,
    partial: bool = True,
) -> LogPage:
    """The newest `lines` (1..10,000) lines that end at byte `before`, or at the end of the file.

    `q` keeps those that hold it, in any case; `level` those at least as serious, with the lines that belong to them.
    `partial=False` leaves out a last line that has no newline yet. Raises OSError, and ValueError for an unknown level.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        end = size if before is None else max(0, min(before, size))
        backwards = _Backwards(file.fileno(), end)
        if not partial:
            end = backwards.skip_partial()
        most = max(1, min(lines, MOST_LINES))
        kept = list(_at_most(_Filter(q, level).keep(backwards.lines(_needle(q, level)), most), most))
        full = len(kept) == most or sum(len(line.text) for line in kept) >= MOST_TEXT
        offset = kept[-1].start if full else backwards.reached
        kept.reverse()
        return LogPage([line.text for line in kept], offset, end, [line.stop for line in kept])


def cut_text(head: bytes, length: int) -> str:
    """A line from its first bytes and its whole length, both without the newline."""
    text = head[:LONGEST_LINE].decode(errors="replace")
    return text if length <= LONGEST_LINE else f"{text} … ({length:,} bytes)"


def _needle(q: str | None, level: str | None) -> bytes:
    # A line's level may stand in a line before it, so with a level all of them are needed.
    return q.lower().encode() if q and q.isascii() and not level else b""


def _at_most(lines: Iterable[_Line], most: int) -> Iterator[_Line]:
    size = 0
    for number, line in enumerate(lines, 1):
        yield line
        size += len(line.text)
        if number == most or size >= MOST_TEXT:
            return


class _Backwards:
    """The lines of a file from `end` towards its beginning; `reached` is the start of the last one given."""

    def __init__(self, fd: int, end: int) -> None:
        self._fd = fd
        self._end = self.reached = end

    def skip_partial(self) -> int:
        """Begins before a last line without newline; returns where that is."""
        if self._end and self._byte(self._end - 1) != b"\n":
            self._end = next(self.lines()).start
        return self._end

    def lines(self, needle: bytes = b"") -> Iterator[_Line]:
        """At most about MOST_READ bytes of them. What is longer than that without a newline comes in pieces.

        With a `needle`, in small letters, many of those without it are passed over.
        """
        stop = position = self._end
        head = b""  # the beginning of the line that ends at `stop`, as far as it was read
        while position > max(0, self._end - MOST_READ):
            start = max(0, position - CHUNK)
            chunk = os.pread(self._fd, position - start, start)
            at = len(chunk)
            if needle and needle not in (chunk + head).lower() and (first := chunk.find(b"\n", 0, at - 1)) >= 0:
                head, at = b"", first + 1
                stop = self.reached = start + at
            while (newline := chunk.rfind(b"\n", 0, at - (start + at == stop))) >= 0:
                yield self._line(start + newline + 1, stop, chunk[newline + 1 : at] + head)
                head, at = b"", newline + 1
                stop = start + at
            head = (chunk[:at] + head)[: LONGEST_LINE + 1]
            position = start
        if position == 0 or stop == self._end:
            yield from [self._line(position, stop, head)] if stop > position else []

    def _line(self, start: int, stop: int, head: bytes) -> _Line:
        self.reached = start
        length = stop - start
        if self._byte(stop - 1, head, length) == b"\n":
            length -= 1
        return _Line(start, stop, cut_text(head[:length], length))

    def _byte(self, offset: int, head: bytes = b"", length: int = 1) -> bytes:
        return head[length - 1 : length] or os.pread(self._fd, 1, offset)


class _Filter:
    """Which lines to keep, going backwards: a line without a level waits for the one it belongs to."""

    def __init__(self, q: str | None, level: str | None) -> None:
        self._q = q.casefold() if q else None
        self._least = threshold(level) if level else None

    def keep(self, lines: Iterable[_Line], most: int) -> Iterator[_Line]:
        """The lines to keep; at most `most` of those that belong to one another are remembered."""
        if self._least is None:
            yield from (line for line in lines if self._matches(line))
            return
        waiting: list[_Line] = []
        for line in lines:
            if self._matches(line) and len(waiting) < most:
                waiting.append(line)
            found = level_of(line.text)
            if found is not None:
                yield from waiting if found >= self._least else ()
                waiting = []
        if self._least <= UNKNOWN:
            yield from waiting

    def _matches(self, line: _Line) -> bool:
        return self._q is None or self._q in line.text.casefold()
