"""Wakes the loop when the file or the workers' folder changes on disk.

Folders are watched, not files: after an atomic replace a watch on the file would see nothing more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from loguru import logger as log
from watchfiles import awatch

# watchfiles looks each step whether anything has come: at 10 ms that alone took 0.4 % of a core, at 100 ms a tenth.
DEBOUNCE_MS = 100
STEP_MS = 100
REARM_SECONDS = 5.0  # how soon a folder that was replaced under the watch is watched again


class Watch:
    """Watches the folders of `file` and what it links to, and the folder of the worker modules."""

    def __init__(self, file: Path, workers: Path, on_change: Callable[[], None]) -> None:
        self._file = file
        self._workers = workers
        self._on_change = on_change

    async def run(self) -> None:
        while True:
            folders = self.folders()
            if not folders:
                await asyncio.sleep(REARM_SECONDS)
                self._on_change()
                continue
            try:
                await self._watch(folders)
            except (OSError, RuntimeError) as error:  # a folder vanished between looking and watching
                log.debug("watching again: {}", error)
                await asyncio.sleep(1)
            self._on_change()

    async def _watch(self, folders: dict[Path, tuple[int, int]]) -> None:
        """Until the set of folders has changed: a link points elsewhere, or a folder was made anew."""
        stop = asyncio.Event()
        guard = asyncio.create_task(self._until_moved(folders, stop))
        try:
            async for _ in awatch(
                *folders, recursive=False, debounce=DEBOUNCE_MS, step=STEP_MS, stop_event=stop, watch_filter=None
            ):
                self._on_change()
                if self.folders() != folders:
                    return
        finally:
            guard.cancel()

    async def _until_moved(self, folders: dict[Path, tuple[int, int]], stop: asyncio.Event) -> None:
        while self.folders() == folders:
            await asyncio.sleep(REARM_SECONDS)
        stop.set()

    def folders(self) -> dict[Path, tuple[int, int]]:
        """The folders to watch, each with its device and inode."""
        wanted = {self._file.parent, self._workers, *link_folders(self._file)}
        found = {}
        for folder in sorted(wanted):
            try:
                status = folder.stat()
            except OSError:
                continue
            found[folder] = (status.st_dev, status.st_ino)
        return found


def link_folders(path: Path) -> set[Path]:
    """The folders of everything that `path` passes through on its way to the real file."""
    folders = set()
    for _ in range(16):
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)
        folders.add(path.parent)
    folders.add(Path(os.path.realpath(path)).parent)
    return folders
