"""Deaths of one slot within a sliding window: a crash loop is one however long each of them lived. Pure."""

from __future__ import annotations

from collections import deque

WINDOW = 600.0  # seconds
MANY = 5  # deaths within it that make a crash loop


class Deaths:
    """Times are seconds on the caller's clock."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def add(self, now: float) -> None:
        """One more, at `now`; those that are too long ago are forgotten."""
        self._times.append(now)
        while now - self._times[0] > WINDOW:
            self._times.popleft()

    @property
    def count(self) -> int:
        """How many there were in the window that ended with the last one."""
        return len(self._times)

    @property
    def beyond(self) -> int:
        """How many of them make the loop: 1 with the death that made it one."""
        return max(0, len(self._times) - MANY + 1)

    def told(self, reason: str) -> str:
        """`reason`, and that it is a loop, if it is."""
        if not self.beyond:
            return reason
        return f"{reason} (crash loop: {self.count} deaths in {max(1.0, self._times[-1] - self._times[0]):.0f} s)"
