"""Lines of a log file as they are written: inotify → read → lines, each with the offsets that resume after it.

Used by the web layer and the command line, together with pages of what was written before (logs.py). Reading
goes on only as fast as the consumer takes, so a slow one holds up nobody and costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from reconciler.journal.logs import LONGEST_LINE, cut_text

CHUNK = 256 * 1024
DEBOUNCE = 50  # milliseconds
AT_LEAST = 1000  # milliseconds after which everyone looks again, whatever inotify says


@dataclass(frozen=True)
class LogLine:
    """A line without its newline; `end` is the byte offset to follow on from."""

    text: str
    start: int
    end: int


class LogFollower:
    """Follows any number of files with one inotify watcher, which is there only while someone follows."""

    def __init__(self) -> None:
        self._watcher = _Watcher()

    async def follow(
        self, path: Path, offset: int = 0, ended: Callable[[], bool] | None = None
    ) -> AsyncIterator[LogLine]:
        """Complete lines from byte `offset` on, as they come.

        Ends once `ended()` and everything is read, a last line without newline included; or when the file is gone.
        A file that has become shorter than what was read is read from its beginning.
        """
        lines = _Lines(offset)
        with self._watcher.watching(path) as changed:
            while True:
                changed.clear()
                over = ended is not None and ended()  # asked before reading: nothing written earlier is missed
                chunk = await asyncio.to_thread(_read, path, lines.position)
                if chunk is None:
                    return
                if chunk.truncated:
                    lines = _Lines(0)
                for line in lines.feed(chunk.data):
                    yield line
                if chunk.data or chunk.truncated:
                    continue
                if over:
                    for line in lines.rest():
                        yield line
                    return
                await changed.wait()


@dataclass(frozen=True)
class _Chunk:
    data: bytes
    truncated: bool = False


def _read(path: Path, offset: int) -> _Chunk | None:
    try:
        with path.open("rb", buffering=0) as file:
            if offset > file.seek(0, 2):
                return _Chunk(b"", truncated=True)
            file.seek(offset)
            return _Chunk(file.read(CHUNK))
    except OSError:
        return None


class _Lines:
    """Cuts what is read into lines; of a long one it keeps no more than is shown."""

    def __init__(self, offset: int) -> None:
        self.position = offset
        self._start = offset
        self._head = b""

    def feed(self, data: bytes) -> Iterator[LogLine]:
        at = 0
        while (newline := data.find(b"\n", at)) >= 0:
            self._add(data[at:newline])
            yield self._line(newline_length=1)
            at = newline + 1
        self._add(data[at:])

    def rest(self) -> Iterator[LogLine]:
        if self.position > self._start:
            yield self._line(newline_length=0)

    def _add(self, piece: bytes) -> None:
        self.position += len(piece)
        self._head += piece[: LONGEST_LINE - len(self._head)]

    def _line(self, newline_length: int) -> LogLine:
        text = cut_text(self._head, self.position - self._start)
        self.position += newline_length
        line = LogLine(text, self._start, self.position)
        self._start, self._head = self.position, b""
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
                await asyncio.wait_for(self._other_files.wait(), AT_LEAST / 1000)
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
