"""Keeps logs within their bounds while they are written, outside of the way that lines take.

A look at the sizes about once a second. A file over its bound is renamed and its worker asked to open the name again,
if it is one of our runtime; else, or as long as its children hold the file, its oldest part is punched out. Renamed
files are packed one at a time (packing.py), old ones removed (retention.py). It may be killed between any two lines:
what was begun is found and finished by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reconciler.journal.holes import CannotPunch, first_data, punch
from reconciler.journal.parts import delete_part, log_of, next_start, part_name, steady_parts
from reconciler.supervisor.holders import children_hold, hears_hangup, is_alive, writes_to
from reconciler.supervisor.packing import Packing
from reconciler.supervisor.quiet import Quiet
from reconciler.supervisor.retention import TOTAL, tidy
from state.processes import LogRules

log = logging.getLogger(__name__)

AT_ONCE = 0.1  # seconds between looks at a file that is about to reach its bound
SOON = 1.0  # … at one that grows
LATE = 3.0  # … at one that hardly does
REST = 600.0  # … and at one that does not, if we are told of the next write
TIDY = 60.0  # seconds between looks at the whole folder
HOLD_ON = 10.0  # seconds that a process is given to hear of a rename, or to end, before its file is trimmed
PATIENCE = 4  # times its bound that a file may grow while we wait for somebody to let go of it; then it is trimmed


class Writer(NamedTuple):
    """A living worker, as far as its log goes. `reopens`: it is of our runtime, and opens LOG_FILE again on SIGHUP."""

    pid: int
    log_path: str
    rules: LogRules
    reopens: bool


@dataclass
class _Seen:
    size: int = -1
    at: float = 0.0  # when it had that size
    begin: int = 0  # after the hole
    due: float = 0.0
    deaf_since: float | None = None  # since when it would die of the request to open the name again


class _Renamed(NamedTuple):
    bound: int
    keep: int | None  # None where it was renamed by a daemon before this one
    size: int  # when it was
    at: float  # on the monotonic clock


class Rotation:
    """The logs under `logs`. `reopen` sends SIGHUP to the process with a pid, if that still is our worker.

    `expire` is told the time now and then, to forget ended workers that are too old. `total` bounds the bytes of all
    logs of ended workers and all older files together.
    """

    def __init__(
        self,
        logs: Path,
        reopen: Callable[[int], object],
        expire: Callable[[], object] = lambda: None,
        total: int = TOTAL,
        ended: Callable[[], Mapping[Path, LogRules]] = dict,
    ) -> None:
        self._logs = logs
        self._reopen = reopen
        self._expire = expire
        self._total = total
        self._ended = ended
        self._seen: dict[str, _Seen] = {}
        self._renamed: dict[Path, _Renamed] = {}
        self._quiet = Quiet(self._written)
        self._woken = asyncio.Event()
        self._packing = Packing(self._still_held, self._packed)
        self._can_punch = True
        self._said: set[str] = set()

    async def run(self, writers: Callable[[], Iterable[Writer]]) -> None:
        """Until it is cancelled. `writers` gives those that live now; it is called in the loop."""
        loop = asyncio.get_running_loop()
        packing = asyncio.create_task(self._packing.run())
        tidy_at = 0.0
        try:
            with self._quiet.listening(loop):
                while True:
                    if loop.time() >= tidy_at:
                        await self.tidy(writers())
                        tidy_at = loop.time() + TIDY
                    self._woken.clear()
                    self.look(writers(), loop.time())
                    await asyncio.sleep(AT_ONCE)
                    await self._until_due(loop, tidy_at)
        finally:
            packing.cancel()
            await asyncio.wait({packing})

    def wake(self) -> None:
        """There may be another writer."""
        self._woken.set()

    async def _until_due(self, loop: asyncio.AbstractEventLoop, at_most: float) -> None:
        due = min((seen.due for seen in self._seen.values()), default=at_most)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(max(loop.time(), min(due, at_most))):
                await self._woken.wait()

    def _written(self, path: str | None) -> None:
        """How fast it grows is seen at the second look. None: nobody knows which."""
        now = asyncio.get_running_loop().time()
        for seen in self._seen.values() if path is None else filter(None, (self._seen.get(path),)):
            seen.at, seen.due = now, now + AT_ONCE
            self._woken.set()

    async def tidy(self, writers: Iterable[Writer]) -> None:
        """Removes what is too old or too much, and has packed what waits for it."""
        self._expire()
        self._renamed = {path: renamed for path, renamed in self._renamed.items() if path.exists()}
        living = {Path(writer.log_path): writer.rules for writer in writers}
        for path in await asyncio.to_thread(tidy, self._logs, living, self._total, self._ended()):
            self._packing.add(path)

    def look(self, writers: Iterable[Writer], now: float) -> None:
        """At the files that may be over their bound; `now` is a clock that only goes forward, in seconds."""
        before, self._seen = self._seen, {}
        for writer in writers:
            seen = self._seen[writer.log_path] = before.get(writer.log_path) or _Seen()
            if now >= seen.due:
                try:
                    self._look_at(writer, seen, now)
                except OSError as error:
                    seen.due = now + LATE
                    self._say(f"cannot rotate the log {writer.log_path}: {error.strerror}")

    def _look_at(self, writer: Writer, seen: _Seen, now: float) -> None:
        try:
            file = os.stat(writer.log_path)
        except FileNotFoundError:
            seen.due = now + LATE
            self._remind(writer)
            return
        if seen.size < 0:
            seen.begin = _begin(writer.log_path)
        grown, seen.size = file.st_size - seen.size, file.st_size
        took, seen.at = now - seen.at if seen.at else SOON, now
        used = seen.size - seen.begin
        seen.due = now + _until_next(grown / max(took, 0.001), writer.rules.max_bytes - used)
        if used > writer.rules.max_bytes:
            self._cut(writer, seen, file, now)
        elif grown == 0 and self._quiet.watch(writer.log_path) and os.stat(writer.log_path).st_size == seen.size:
            seen.due = now + REST

    def _cut(self, writer: Writer, seen: _Seen, file: os.stat_result, now: float) -> None:
        if not is_alive(writer.pid):
            return  # its last words are worth more than its bound
        reopens = writer.reopens and hears_hangup(writer.pid) and writes_to(writer.pid, file)
        if reopens and not children_hold(writer.pid, file):
            self._rotate(writer)
            seen.size, seen.begin, seen.deaf_since = 0, 0, None
        elif not self._bears_with(writer, seen, reopens, now):
            seen.begin = self._punch(writer.log_path, writer.rules.max_bytes, seen.begin)

    def _bears_with(self, writer: Writer, seen: _Seen, reopens: bool, now: float) -> bool:
        """Whether a file that cannot be renamed now is left as it is: soon it may be, and trimming it loses lines."""
        if not writer.reopens:
            return False
        if reopens:
            seen.deaf_since = None
        elif seen.deaf_since is None:
            seen.deaf_since = now
        # On its first and its last instructions Python hears no SIGHUP; a module that took it back never does.
        deaf = seen.deaf_since is not None and now - seen.deaf_since >= HOLD_ON
        return not deaf and seen.size - seen.begin <= PATIENCE * writer.rules.max_bytes

    def _rotate(self, writer: Writer) -> None:
        path = Path(writer.log_path)
        older = steady_parts(path)
        size = os.stat(path).st_size
        renamed = part_name(path, next_start(older), size)
        os.rename(path, renamed)
        self._reopen(writer.pid)
        self._renamed[renamed] = _Renamed(writer.rules.max_bytes, writer.rules.keep, size, time.monotonic())
        self._packing.add(renamed)
        self._trim(path, writer.rules.keep)

    def _trim(self, path: Path, keep: int) -> None:
        """The oldest files of a log that are too many go."""
        older = steady_parts(path)
        for part in older[: max(0, len(older) - max(1, keep))]:
            delete_part(part)

    def _packed(self, path: Path) -> None:
        """It may have been one too many by the time its packing was done, and then be there under its new name."""
        renamed = self._renamed.get(path)
        if renamed is not None and renamed.keep is not None:
            self._trim(log_of(path), renamed.keep)

    def _remind(self, writer: Writer) -> None:
        """Its file was renamed or removed, and it has not opened the name again: it could not, or was not asked yet."""
        path = Path(writer.log_path)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        older = steady_parts(path)
        if writer.reopens and hears_hangup(writer.pid):
            self._reopen(writer.pid)
        if older and not older[-1].packed:
            self._still_held(older[-1].path, writer.rules.max_bytes)

    def _still_held(self, path: Path, bound: int = LogRules().max_bytes) -> None:
        """A renamed file that somebody writes to: once it has grown too much since, it is bounded all the same."""
        with suppress(OSError):
            size = os.stat(path).st_size
            renamed = self._renamed.setdefault(path, _Renamed(bound, None, size, time.monotonic()))
            if time.monotonic() - renamed.at < HOLD_ON:
                return
            if size - max(renamed.size, _begin(str(path))) > PATIENCE * renamed.bound:
                self._punch(str(path), renamed.bound, 0)

    def _punch(self, path: str, keep: int, begin: int) -> int:
        if not self._can_punch:
            return begin
        fd = os.open(path, os.O_WRONLY)
        try:
            return punch(fd, keep)
        except CannotPunch:
            self._can_punch = False
            self._say(
                f"the file system of {self._logs} cannot punch holes: logs of programs that do not open them anew "
                "grow without bound (set RECONCILER_STATE to a folder on ext4, xfs, btrfs or tmpfs)"
            )
            return begin
        finally:
            os.close(fd)

    def _say(self, text: str) -> None:
        if text not in self._said and len(self._said) < 1000:
            self._said.add(text)
            log.warning("%s", text)


def _until_next(rate: float, left: float) -> float:
    """Seconds until a file is looked at again that grows by `rate` bytes a second, with `left` bytes to its bound."""
    if rate <= 0 or left > 64 * rate:
        return LATE
    return min(SOON, max(AT_ONCE, left / rate / 2))


def _begin(path: str) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return first_data(fd)
    finally:
        os.close(fd)
