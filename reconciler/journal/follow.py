"""Lines of a log as they are written: inotify → cursor → lines, each with the numbers that resume after it.

Used by the web layer and the command line, together with pages of what was written before (logs.py). Reading
goes on only as fast as the consumer takes, so a slow one holds up nobody and costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from reconciler.journal.cursor import Cursor
from reconciler.journal.logs import LONGEST_LINE, cut_text

DEBOUNCE = 50  # milliseconds
CROSSING = 0.05  # seconds between looks while the log passes from one file to the next
AT_LEAST = 1000  # milliseconds after which everyone looks again, whatever inotify says


@dataclass(frozen=True)
class LogLine:
    """A line without its newline; `end` is the number of the byte to follow on from (parts.py)."""

    text: str
    start: int
    end: int


class LogFollower:
    """Follows any number of logs with one inotify watcher, which is there only while someone follows."""

    def __init__(self) -> None:
        self._watcher = _Watcher()

    async def follow(
        self, path: Path, offset: int = 0, ended: Callable[[], bool] | None = None
    ) -> AsyncGenerator[LogLine, None]:
        """Complete lines from number `offset` on (parts.py), as they come, also across files that are rotated.

        Ends once `ended()` and everything is read, a last line without newline included; or when the log is gone.
        What is not there any more is passed over; a file that somebody has cut short is read from its beginning.
        """
        lines, cursor = _Lines(offset), Cursor(path, offset)
        try:
            with self._watcher.watching(path) as changed:
                while True:
                    changed.clear()
                    over = ended is not None and ended()  # asked before reading: nothing written earlier is missed
                    chunk = await asyncio.to_thread(cursor.read)
                    if chunk is None:
                        return
                    if chunk.anew:
                        lines = _Lines(chunk.start)
                    for line in lines.feed(chunk.data, chunk.start):
                        yield line
                    if chunk.crossing:
                        self._watcher.look_anew()
                        await _soon(changed)
                    elif not chunk.data and not chunk.anew:
                        if over:
                            for line in lines.rest():
                                yield line
                            return
                        await changed.wait()
        finally:
            cursor.close()


async def _soon(changed: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CROSSING):
            await changed.wait()


class _Lines:
    """Cuts what is read into lines; of a long one it keeps no more than is shown."""

    def __init__(self, offset: int) -> None:
        self.position = self._start = offset
        self._head = b""
        self._length = 0

    def feed(self, data: bytes, start: int) -> Iterator[LogLine]:
        """The lines that end in `data`, which begins with byte number `start`."""
        if self._length == 0:
            self._start = start
        self.position = start
        at = 0
        while (newline := data.find(b"\n", at)) >= 0:
            self._add(data[at:newline])
            yield self._line(newline_length=1)
            at = newline + 1
        self._add(data[at:])

    def rest(self) -> Iterator[LogLine]:
        if self._length:
            yield self._line(newline_length=0)

    def _add(self, piece: bytes) -> None:
        self.position += len(piece)
        self._length += len(piece)
        self._head += piece[: LONGEST_LINE - len(self._head)]

    def _line(self, newline_length: int) -> LogLine:
        text = cut_text(self._head, self._length)
        self.position += newline_length
        line = LogLine(text, self._start, self.position)
        self._start, self._head, self._length = self.position, b"", 0
        return line


class _Watcher:
    """Sets the event of everyone who watches a file that has changed."""

    def __init__(self) -> None:
        self._watching: dict[Path, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._other_files = asyncio.Event()

    @contextmanager
    def watching(self, path: Path) -> Iterator[asyncio.Event]:
        path = path.absolute()
        changed = asyncio.Event()
        self._watching.setdefault(path, set()).add(changed)
        self._other_files.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield changed
        finally:
            self._watching[path].discard(changed)
            if not self._watching[path]:
                del self._watching[path]
            self._other_files.set()

    def look_anew(self) -> None:
        """The names stand for other files than before."""
        self._other_files.set()

    async def _run(self) -> None:
        while self._watching:
            self._other_files = asyncio.Event()
            try:
                await self._watch([path for path in self._watching if path.exists()])
            except (OSError, RuntimeError):  # too many watches, or a file that has just gone: look now and then
                await asyncio.sleep(AT_LEAST / 1000)
                self._wake()
        self._task = None

    async def _watch(self, paths: list[Path]) -> None:
        # What was written before inotify was there is found by looking once it is.
        asyncio.get_running_loop().call_later(DEBOUNCE / 1000, self._wake)
        if not paths:
            with suppress(TimeoutError):
                async with asyncio.timeout(AT_LEAST / 1000):
                    await self._other_files.wait()
            return
        changes = awatch(
            *paths,
            watch_filter=None,
            debounce=DEBOUNCE,
            step=DEBOUNCE // 2,
            stop_event=self._other_files,
            rust_timeout=AT_LEAST,
            yield_on_timeout=True,
            recursive=False,
        )
        async for changed in changes:
            self._wake({Path(path) for _, path in changed})

    def _wake(self, paths: set[Path] | None = None) -> None:
        for path in paths or self._watching:
            for event in self._watching.get(path, ()):
                event.set()
