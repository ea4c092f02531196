"""LOG_FILE: the file that stdout and stderr are, opened anew once somebody has renamed it."""

from __future__ import annotations

import os

from loguru import logger

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
OUTPUTS = (1, 2)


class LogFile:
    """The path may be None: then there is nothing to open. What goes wrong is said once, and changes nothing."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._said = ""

    def catch_up(self) -> None:
        """Reopen it if it was renamed before we could be told."""
        if self._path and not self._is_open():
            self.reopen()

    def reopen(self) -> None:
        """Go on in the file that now has the name. A line written meanwhile is in one of the two, whole."""
        if not self._path:
            self._say("told to reopen the log, but LOG_FILE is not set: it stays the same file")
            return
        try:
            fd = os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            self._say(f"cannot open {self._path}: {error.strerror}; the log stays the file it was")
            return
        for output in OUTPUTS:
            os.dup2(fd, output)
        if fd not in OUTPUTS:
            os.close(fd)
        self._said = ""

    def _is_open(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path or ""), os.fstat(OUTPUTS[0]))
        except OSError:
            return False

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            logger.warning("{}", text)
