"""Files that nobody writes to: the kernel says when somebody does, so that two hundred idle logs cost nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asyncinotify import Inotify, Mask

log = logging.getLogger(__name__)
TOUCHED = Mask.MODIFY | Mask.MOVE_SELF | Mask.ATTRIB  # the last one tells of a removal, too: a link less


class Quiet:
    """`written(path)` is called once, at the first write to a file after `watch`, or once it is moved or removed; it
    watches while `listening`.

    `written(None)` if that may have been missed of any.
    """

    def __init__(self, written: Callable[[str | None], None]) -> None:
        self._written = written
        self._inotify: Inotify | None = None

    @contextmanager
    def listening(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """While it is open; without inotify nothing is ever watched."""
        try:
            inotify = Inotify(cache_size=100, sync_timeout=0)
        except OSError as error:
            log.debug("no inotify: %s", error)
            yield
            return
        with inotify as self._inotify:
            loop.add_reader(inotify.fd, self._read)
            try:
                yield
            finally:
                loop.remove_reader(inotify.fd)
                self._inotify = None

    def watch(self, path: str) -> bool:
        """False if that cannot be: then the file has to be looked at."""
        if self._inotify is None:
            return False
        try:
            self._inotify.add_watch(path, TOUCHED | Mask.ONESHOT)
        except OSError as error:  # it is gone, or the user has too many watches
            log.debug("cannot watch %s: %s", path, error)
            return False
        return True

    def _read(self) -> None:
        for event in self._inotify or ():
            if event.watch is not None and event.mask & TOUCHED:
                self._written(str(event.watch.path))
            elif event.mask & Mask.Q_OVERFLOW:
                self._written(None)
