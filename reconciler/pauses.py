"""Since when each paused queue has been paused: seen turn by turn, and kept on disk, so that a new daemon knows it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from loguru import logger as log

from state.file import write_atomically


class Pauses:
    """`path` None keeps them in memory only. A file that cannot be read or written costs no more than the age shown."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._since = read(path) if path else {}

    @property
    def since(self) -> Mapping[str, float]:
        """By queue, in seconds since the epoch."""
        return self._since

    def look(self, paused: Iterable[str], now: float) -> None:
        """These queues are paused at `now`, and no others."""
        since = {name: self._since.get(name, now) for name in paused}
        if since != self._since:
            self._since = since
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        try:
            write_atomically(self._path, json.dumps(self._since, ensure_ascii=False).encode())
        except OSError as error:
            log.warning("{} cannot be written: {}", self._path, error.strerror)


def read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_bytes())
        return {str(name): float(since) for name, since in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
