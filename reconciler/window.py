"""How many queues were deleted shortly before a revision came: a file cut short in two steps is a file cut short."""

from __future__ import annotations

from collections import deque

from reconciler.removing import WINDOW_SECONDS


class Window:
    """`now` is on the caller's clock, in seconds."""

    def __init__(self) -> None:
        self.recent = 0
        self._deleted: deque[float] = deque()

    def deleted(self, count: int, now: float) -> None:
        """So many queues went that nobody had asked for by name."""
        self._deleted.extend([now] * count)

    def new_revision(self, now: float) -> None:
        """From here on the same number counts, until the next one: what is held stays held until a person looks."""
        while self._deleted and now - self._deleted[0] > WINDOW_SECONDS:
            self._deleted.popleft()
        self.recent = len(self._deleted)
