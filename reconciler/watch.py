"""Wakes the loop when the file or the workers' folder changes on disk, and knows how the file was saved.

Folders are watched, not files: after an atomic replace a watch on the file would see nothing more. The kernel tells
of a change when it happens, so while nothing happens this costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from asyncinotify import Event, Inotify, Mask
from loguru import logger as log

from reconciler.saves import Sight

REARM_SECONDS = 5.0  # how soon a folder that was replaced under the watch is watched again
# What may be the first half of something wakes the loop that much later, unless its second half does before.
PATIENCE_SECONDS = 0.3

CONTENT = Mask.MODIFY | Mask.CLOSE_WRITE
NAMES = Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO
SEEN = CONTENT | NAMES | Mask.ATTRIB | Mask.DELETE_SELF | Mask.MOVE_SELF
LOST = Mask.Q_OVERFLOW | Mask.IGNORED | Mask.UNMOUNT
AT_ONCE = Mask.CLOSE_WRITE | Mask.MOVED_TO


class Watch:
    """Watches the folders of `file` and what it links to, the folder of the worker modules, and `more`."""

    def __init__(
        self,
        file: Path,
        workers: Path,
        on_change: Callable[[], None],
        more: Callable[[], set[Path]] = set,
    ) -> None:
        self._file = file
        self._workers = workers
        self._on_change = on_change
        self._inotify: Inotify | None = None
        self._names: set[tuple[int, str]] = set()  # of the file and of the links on the way to it, each in its folder
        self._moved = asyncio.Event()
        self._lost = False  # is a folder gone that was watched? One made in its place may have its number
        self._sight = Sight()
        self._later: asyncio.TimerHandle | None = None
        self._more = more

    async def run(self) -> None:
        while True:
            try:
                if folders := self.folders():
                    await self._watch(folders)
                else:
                    await asyncio.sleep(REARM_SECONDS)
            except OSError as error:  # a folder vanished or may not be entered, or there are too many watches
                log.debug("watching again: {}", error)
                await asyncio.sleep(1)
            self._on_change()

    def look(self) -> Sight:
        """All that happened to the file up to this moment."""
        if self._inotify is not None:
            for event in self._inotify:
                self._take(event)
        return self._sight

    async def _watch(self, folders: dict[Path, tuple[int, int]]) -> None:
        """Until the set of folders has changed: a link points elsewhere, or a folder was made anew."""
        loop = asyncio.get_running_loop()
        with Inotify(cache_size=100, sync_timeout=0) as self._inotify:
            descriptors = {folder: self._inotify.add_watch(folder, SEEN | Mask.ONLYDIR).wd for folder in folders}
            self._names = {(descriptors.get(step.parent, -1), step.name) for step in steps_to(self._file)}
            loop.add_reader(self._inotify.fd, self.look)
            self._lost = False
            try:
                while self.folders() == folders and not self._lost:
                    await self._until_moved()
            finally:
                loop.remove_reader(self._inotify.fd)
                self._inotify, self._sight = None, self._sight.lost()

    async def _until_moved(self) -> None:
        """Until something was renamed, made or deleted in a folder; what happens above it is looked at in steps."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REARM_SECONDS):
                await self._moved.wait()
        self._moved.clear()

    def _take(self, event: Event) -> None:
        wd, name = event.watch.wd if event.watch else -1, str(event.name)
        if (wd, name) in self._names or event.mask & LOST:
            self._sight = after(self._sight, event.mask)
        elif event.mask & CONTENT and not name.endswith(".py"):
            return  # some other file in a folder of ours, perhaps a log
        self._lost = self._lost or bool(event.mask & LOST)
        if event.mask & ~CONTENT:
            self._moved.set()
        if event.mask & AT_ONCE:
            self._tell()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._tell)

    def _tell(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._on_change()

    def folders(self) -> dict[Path, tuple[int, int]]:
        """The folders to watch, each with its device and inode."""
        wanted = {self._workers, *(step.parent for step in steps_to(self._file)), *self._more()}
        found = {}
        for folder in sorted(wanted):
            try:
                status = folder.stat()
            except OSError:
                continue
            found[folder] = (status.st_dev, status.st_ino)
        return found


def after(sight: Sight, mask: Mask) -> Sight:
    if mask & LOST:
        return sight.lost()
    if mask & Mask.MOVED_TO:
        return sight.renamed()
    if mask & Mask.CLOSE_WRITE:
        return sight.closed()
    return sight.modified() if mask & (CONTENT | NAMES) else sight


def steps_to(path: Path) -> list[Path]:
    """`path`, and everything that it passes through on its way to the real file, which is the last."""
    steps = [path]
    for _ in range(16):
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
        steps.append(path)
    return [*steps, Path(os.path.realpath(path))]
