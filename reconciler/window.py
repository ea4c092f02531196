"""How many queues were deleted shortly before a revision came: a file cut short in two steps is a file cut short."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from reconciler.removing import WINDOW_SECONDS


class Window:
    """`now` is on the caller's clock, in seconds. What was itself made within the window does not count: somebody
    tries things out, and queues that come and go are no file cut short."""

    def __init__(self) -> None:
        self.recent = 0
        self._made: dict[str, float] = {}
        self._deleted: deque[float] = deque()

    def made(self, names: Iterable[str], now: float) -> None:
        self._made |= dict.fromkeys(names, now)

    def deleted(self, names: Iterable[str], now: float) -> None:
        """These queues went, and nobody had asked for that by name."""
        for name in names:
            if now - self._made.pop(name, now - WINDOW_SECONDS) >= WINDOW_SECONDS:
                self._deleted.append(now)

    def new_revision(self, now: float) -> None:
        """From here on the same number counts, until the next one: what is held stays held until a person looks."""
        while self._deleted and now - self._deleted[0] > WINDOW_SECONDS:
            self._deleted.popleft()
        self._made = {name: made for name, made in self._made.items() if now - made < WINDOW_SECONDS}
        self.recent = len(self._deleted)
