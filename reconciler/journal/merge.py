"""Lines of many logs at once, merged by time: the newest of a selection, going back as far as is asked for.

Used by the web layer. Each log is read backwards, page by page, and only as far as the merge needs it; at most a few
of them are open at a time. What takes too long is given as far as it is known, and said to be partial.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reconciler.journal.logs import Line, read_lines
from reconciler.journal.reader import OpenLog, open_log
from reconciler.journal.stamps import time_of

SECONDS = 3.0
FIRST_PAGE, PAGE = 50, 500  # lines read of one log at a time
MOST_LINES = 10_000
MOST_TEXT = 16 * 1024 * 1024
LOOK_BACK = 200  # lines before one without a time in which its time is looked for
PROBE = 64 * 1024  # bytes in which a line with a time is looked for
SLACK = 5.0  # seconds by which lines of one log may be out of order


@dataclass(frozen=True)
class Origin:
    """One worker process, living or ended, and its log. Times are seconds since the epoch."""

    pid: int
    slot: int
    worker: str
    queue: str
    path: Path
    started_at: float
    ended_at: float | None = None


class Found(NamedTuple):
    """`offset` is the number after its last byte (parts.py): its address, where a stream goes on after it."""

    time: float
    origin: Origin
    offset: int
    text: str


@dataclass(frozen=True)
class Selection:
    """Which lines are wanted: in `since <= time <= until`, holding `q`, at least as serious as `level`."""

    since: float | None = None
    until: float | None = None
    q: str | None = None
    level: str | None = None


def search(
    origins: Iterable[Origin], wanted: Selection, lines: int = 100, seconds: float = SECONDS
) -> tuple[list[Found], bool]:
    """The newest `lines` (1..10,000) of all of them, oldest first, and whether older or others may be missing.

    A line without a time has that of the line that it follows. Raises ValueError for an unknown level.
    """
    merge = _Merge(origins, wanted, min(max(1, lines), MOST_LINES), time.monotonic() + seconds)
    found = merge.run()
    found.reverse()
    found.sort(key=lambda line: line.time)
    return found, merge.partial


class _Merge:
    """A heap of logs by the time of their newest line that was not taken yet; unread ones by when they ended."""

    def __init__(self, origins: Iterable[Origin], wanted: Selection, lines: int, deadline: float) -> None:
        self.partial = False
        self._wanted = wanted
        self._lines = lines
        self._deadline = deadline
        self._heap: list[tuple[float, int, _Back, bool]] = []
        for number, origin in enumerate(origins):
            newest = origin.ended_at + SLACK if origin.ended_at else float("inf")
            if (wanted.until is None or origin.started_at - SLACK <= wanted.until) and newest >= (wanted.since or 0.0):
                self._heap.append((-newest, number, _Back(origin, wanted, deadline), False))
        heapq.heapify(self._heap)

    def run(self) -> list[Found]:
        """Newest first."""
        found: list[Found] = []
        size = 0
        while self._heap and len(found) < self._lines:
            if size > MOST_TEXT or time.monotonic() > self._deadline:
                self.partial = True
                break
            _, number, log, ready = heapq.heappop(self._heap)
            if ready:
                found.append(log.take())
                size += len(found[-1].text)
            if (newest := log.newest()) is not None:
                heapq.heappush(self._heap, (-newest, number, log, True))
            self.partial = self.partial or log.cut_short
        return found


class _Back:
    """The wanted lines of one log, newest first. Its files are open only while a page is read."""

    def __init__(self, origin: Origin, wanted: Selection, deadline: float) -> None:
        self.cut_short = False
        self._origin = origin
        self._wanted = wanted
        self._page = FIRST_PAGE
        self._deadline = deadline
        self._ready: list[Found] = []  # oldest first
        self._before: int | None = None
        self._begun = self._over = False

    def newest(self) -> float | None:
        """The time of the line that `take` gives; None if there is none left."""
        while not self._ready and not self._over:
            if time.monotonic() > self._deadline:
                self.cut_short = self._over = True
                break
            try:
                self._read()
            except OSError:  # removed by now
                self._over = True
        return self._ready[-1].time if self._ready else None

    def take(self) -> Found:
        return self._ready.pop()

    def _read(self) -> None:
        wanted, path = self._wanted, self._origin.path
        if not self._begun and wanted.until is not None:
            with open_log(path) as log:
                self._before = log.number_after(position_at(log, wanted.until + SLACK))
        self._begun = True
        ended = self._origin.ended_at is not None  # else its last line may be cut short
        lines, offset, _ = read_lines(path, self._page, self._before, wanted.q, wanted.level, partial=ended)
        self._before, self._page = offset, PAGE
        found = list(self._timed(lines))
        self._over = offset == 0 or self._before_since(offset, found)
        self._ready = [line for line in found if self._is_within(line.time)]

    def _timed(self, lines: list[Line]) -> Iterator[Found]:
        last, end = self._origin.started_at, -1
        for line in lines:
            own = time_of(line.text)
            if own is None and line.start != end:
                own = self._time_before(line.start)
            last, end = own if own is not None else last, line.stop
            yield Found(last, self._origin, line.stop, line.text)

    def _time_before(self, start: int) -> float | None:
        if start == 0:
            return None
        before, _, _ = read_lines(self._origin.path, LOOK_BACK, start)
        return next((found for line in reversed(before) if (found := time_of(line.text)) is not None), None)

    def _before_since(self, offset: int, found: list[Found]) -> bool:
        """Whether everything older is too old."""
        since = self._wanted.since
        if since is None:
            return False
        reached = found[0].time if found else self._time_before(offset)
        return reached is not None and reached < since - SLACK

    def _is_within(self, at: float) -> bool:
        wanted = self._wanted
        return (wanted.since or 0.0) <= at and (wanted.until is None or at <= wanted.until)


def position_at(log: OpenLog, at: float) -> int:
    """About where lines of a time begin, found by halving: what is after it is later, as far as lines are in order."""

    def is_later(block: int) -> bool:
        head, *rest = log.pread(PROBE, block * PROBE).split(b"\n")
        lines = [head, *rest] if block == 0 else rest
        times = (time_of(line[:500].decode(errors="replace")) for line in lines)
        return next((found > at for found in times if found is not None), False)

    blocks = range(log.size // PROBE + 1)
    return min(log.size, bisect_left(blocks, True, key=is_later) * PROBE + PROBE)
