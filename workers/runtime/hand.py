"""The message in hand: since when, whose, and the time that handlers have taken so far.

Written on the main thread, twice a message; read on the I/O thread and by whoever logs. Each change is one assignment
of one tuple, so a reader never sees half of it, and nobody locks.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from pika.spec import Basic, BasicProperties

LONGEST_ID = 80  # characters
_BREAKS = frozenset(" []")


class Held(NamedTuple):
    """`busy`: seconds in handlers before this message; `began`: on the monotonic clock; `since`: since the epoch."""

    busy: float = 0.0
    method: Basic.Deliver | None = None
    properties: BasicProperties | None = None
    began: float = 0.0
    since: float | None = None


class Hand:
    """What the handler of this process has in hand.

    `redelivered`: messages taken that had been delivered before; `last`: when the last one was taken, since the epoch.
    """

    def __init__(self) -> None:
        self.redelivered = 0
        self.last: float | None = None
        self._held = Held()

    def take(self, method: Basic.Deliver, properties: BasicProperties) -> None:
        """The handler gets this message now."""
        if method.redelivered:
            self.redelivered += 1
        self.last = now = time.time()
        self._held = Held(self._held.busy, method, properties, time.monotonic(), now)

    def put_down(self) -> None:
        """The handler is through with it."""
        held = self._held
        if held.since is not None:
            self._held = Held(held.busy + time.monotonic() - held.began)

    @property
    def since(self) -> float | None:
        """Since when the message in hand is in hand, in seconds since the epoch; None if there is none."""
        return self._held.since

    @property
    def busy_seconds(self) -> float:
        """In handlers, with the one that runs now."""
        held = self._held
        return held.busy if held.since is None else held.busy + time.monotonic() - held.began

    @property
    def label(self) -> str:
        """The id of the message in hand, as it may stand in a line: its own, else `#` and its delivery tag."""
        method, properties = self._held[1:3]
        if method is None:
            return ""
        return one_word(properties.message_id if properties else None) or f"#{method.delivery_tag}"


def one_word(text: object) -> str:
    """What comes from outside, made safe for the head of a line: no spaces, brackets or control characters."""
    if not text:
        return ""
    word = str(text)[:LONGEST_ID]
    if word.isprintable() and _BREAKS.isdisjoint(word):
        return word
    return "".join(c if c.isprintable() and c not in _BREAKS else "_" for c in word)
