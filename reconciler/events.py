"""What happens, as it happens: a bounded history with numbers, and any number of listeners that may come and go."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

KEPT = 1000


@dataclass(frozen=True)
class Event:
    """`at` is in seconds since the epoch; `kind` is plan, action, held, worker, drift, file, git, broker or redrive."""

    id: int
    at: float
    kind: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Events:
    """A slow listener loses the oldest events, never holds up the one who tells them."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._next = 1
        self._news = asyncio.Event()

    def tell(self, kind: str, text: str, **data: Any) -> None:
        self._kept.append(Event(self._next, time.time(), kind, text, data))
        self._next += 1
        self._news.set()
        self._news = asyncio.Event()

    def since(self, after: int) -> list[Event]:
        newest = list(itertools.islice(reversed(self._kept), max(0, self.last_id - after)))
        return newest[::-1]

    @property
    def last_id(self) -> int:
        return self._next - 1

    async def listen(self, after: int) -> AsyncIterator[Event]:
        """Events with a number above `after`, the kept ones first, then as they come."""
        while True:
            news = self._news
            for event in self.since(after):
                after = event.id
                yield event
            await news.wait()
