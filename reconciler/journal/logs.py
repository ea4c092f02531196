"""Pages of a log, read backwards from anywhere in it, in bounded time and memory however long it is.

Used by the web layer and the command line. What its files are see reader.py, what is still to come follow.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reconciler.journal.levels import UNKNOWN, level_of, threshold
from reconciler.journal.reader import OpenLog, open_log

CHUNK = 256 * 1024
LONGEST_LINE = 64 * 1024
MOST_LINES = 10_000
MOST_READ = 16 * 1024 * 1024  # bytes for one page: half a second at most
MOST_TEXT = 16 * 1024 * 1024  # bytes in one page
PIERCED_TRIES = 3  # if the beginning of the log goes while it is read


@dataclass(frozen=True)
class LogPage:
    """Some lines, oldest first. All numbers are those that bytes of the log keep for good (parts.py).

    `offset` is where the first of them starts: as `before` it asks for the page before this one, 0 means there is none.
    With a filter a page may be short, or empty, and have an older one all the same. `end` is where the newest line
    that was looked at ends: to follow the log, begin there. `ends` has the byte after each line: its lasting address.
    """

    lines: list[str]
    offset: int
    end: int
    ends: list[int]


class Line(NamedTuple):
    """A line without its newline, from `start` to before `stop`."""

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
    """The newest `lines` (1..10,000) lines that end at byte `before`, or at the end of the log.

    `q` keeps those that hold it, in any case; `level` those at least as serious, with the lines that belong to them.
    `partial=False` leaves out a last line that has no newline yet. Raises OSError, and ValueError for an unknown level.
    """
    found, offset, end = read_lines(path, lines, before, q, level, partial=partial)
    return LogPage([line.text for line in found], offset, end, [line.stop for line in found])


def read_lines(
    path: Path,
    lines: int = 100,
    before: int | None = None,
    q: str | None = None,
    level: str | None = None,
    *,
    partial: bool = True,
) -> tuple[list[Line], int, int]:
    """`read_page`, but each line with where it starts; then `offset` and `end` of the page."""
    kept = _Filter(q, level)
    for _ in range(PIERCED_TRIES):
        with open_log(path) as log:
            page = _page(log, max(1, min(lines, MOST_LINES)), before, kept, _needle(q, level), partial)
            if not log.pierced:
                break
    return page


def _page(
    log: OpenLog, most: int, before: int | None, kept: _Filter, needle: bytes, partial: bool
) -> tuple[list[Line], int, int]:
    end = log.size if before is None else log.position(before)
    backwards = _Backwards(log, end)
    if not partial:
        end = backwards.skip_partial()
    found = list(_at_most(kept.keep(backwards.lines(needle), most), most))
    full = len(found) == most or sum(len(line.text) for line in found) >= MOST_TEXT
    reached = found[-1].start if full else backwards.reached
    named = [Line(log.number(line.start), log.number_after(line.stop), line.text) for line in reversed(found)]
    return named, log.number(reached) if reached else 0, log.number_after(end)


def cut_text(head: bytes, length: int) -> str:
    """A line from its first bytes and its whole length, both without the newline."""
    text = head[:LONGEST_LINE].decode(errors="replace")
    return text if length <= LONGEST_LINE else f"{text} … ({length:,} bytes)"


def _needle(q: str | None, level: str | None) -> bytes:
    # A line's level may stand in a line before it, so with a level all of them are needed.
    return q.lower().encode() if q and q.isascii() and not level else b""


def _at_most(lines: Iterable[Line], most: int) -> Iterator[Line]:
    size = 0
    for number, line in enumerate(lines, 1):
        yield line
        size += len(line.text)
        if number == most or size >= MOST_TEXT:
            return


class _Backwards:
    """The lines of a log from position `end` towards its beginning; `reached` is the start of the last one given."""

    def __init__(self, log: OpenLog, end: int) -> None:
        self._log = log
        self._end = self.reached = end

    def skip_partial(self) -> int:
        """Begins before a last line without newline; returns where that is."""
        if self._end and self._byte(self._end - 1) != b"\n":
            self._end = next(self.lines()).start
        return self._end

    def lines(self, needle: bytes = b"") -> Iterator[Line]:
        """At most about MOST_READ bytes of them. What is longer than that without a newline comes in pieces.

        With a `needle`, in small letters, many of those without it are passed over.
        """
        stop = position = self._end
        head = b""  # the beginning of the line that ends at `stop`, as far as it was read
        while position > max(0, self._end - MOST_READ):
            start = max(0, position - CHUNK)
            chunk = self._log.pread(position - start, start)
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

    def _line(self, start: int, stop: int, head: bytes) -> Line:
        self.reached = start
        length = stop - start
        if self._byte(stop - 1, head, length) == b"\n":
            length -= 1
        return Line(start, stop, cut_text(head[:length], length))

    def _byte(self, offset: int, head: bytes = b"", length: int = 1) -> bytes:
        return head[length - 1 : length] or self._log.pread(1, offset)


class _Filter:
    """Which lines to keep, going backwards: a line without a level waits for the one it belongs to."""

    def __init__(self, q: str | None, level: str | None) -> None:
        self._q = q.casefold() if q else None
        self._least = threshold(level) if level else None

    def keep(self, lines: Iterable[Line], most: int) -> Iterator[Line]:
        """The lines to keep; at most `most` of those that belong to one another are remembered."""
        if self._least is None:
            yield from (line for line in lines if self._matches(line))
            return
        waiting: list[Line] = []
        for line in lines:
            if self._matches(line) and len(waiting) < most:
                waiting.append(line)
            found = level_of(line.text)
            if found is not None:
                yield from waiting if found >= self._least else ()
                waiting = []
        if self._least <= UNKNOWN:
            yield from waiting

    def _matches(self, line: Line) -> bool:
        return self._q is None or self._q in line.text.casefold()
