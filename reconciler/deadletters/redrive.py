"""One run over a dead-letter queue that moves messages back to the queues where they failed.

    reader ─▶ is it meant, and where to? ─▶ sender, mandatory ─▶ confirm ─▶ ack
                       └─ not meant, or not possible: kept in hand, and given back in its old order at the end

Killed anywhere, nothing is lost: what was not acked goes back, so a message may be in both queues. Only as many
messages are looked at as there were at the start, and none that this run has moved: what fails at once again is not
chased.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from reconciler.broker.amqp import Link
from reconciler.deadletters.letters import Letter, as_routed
from reconciler.deadletters.places import Place
from reconciler.deadletters.reader import FIRST_WINDOW, Reader, Taken
from reconciler.deadletters.sender import Sender
from reconciler.errors import NoSuchQueue, ReconcilerError
from workers.runtime import failure

WINDOW = 200  # messages on their way at once
IDLE_SECONDS = 2.0  # without a message: others have taken the rest
CONFIRM_SECONDS = 30.0
MOST_KEPT = 50_000  # messages in hand that are not moved; a scan for ids ends there
MOST_REDRIVES = 10  # of one message, unless it is named
MOST_NAMED = 100  # ids told for one reason

GONE_OTHERWISE = "not found (somebody took it, or it was never there)"


@dataclass(frozen=True)
class Order:
    """What to move: all, or the messages of these ids. `rate`: messages per second, None for as fast as it goes."""

    place: Place
    ids: frozenset[str] | None = None
    rate: float | None = None
    dry_run: bool = False


@dataclass
class Left:
    """Messages that stay for one reason."""

    count: int = 0
    ids: list[str] = field(default_factory=list)


@dataclass
class Progress:
    """How far a run is. `total` messages were there at its start; `seen` of them have been looked at."""

    order: Order
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    total: int = 0
    seen: int = 0
    moved: int = 0
    to: dict[str, int] = field(default_factory=dict)
    why: dict[str, Left] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)
    error: str | None = None

    @property
    def left(self) -> int:
        return sum(left.count for left in self.why.values())

    def stays(self, letter_id: str | None, reason: str) -> None:
        left = self.why.setdefault(reason, Left())
        left.count += 1
        if letter_id and len(left.ids) < MOST_NAMED:
            left.ids.append(letter_id)

    def as_json(self) -> dict[str, Any]:
        return {
            "queue": self.order.place.queue,
            "source": self.order.place.source,
            "dry_run": self.order.dry_run,
            "total": self.total,
            "seen": self.seen,
            "moved": self.moved,
            "to": dict(self.to),
            "left": self.left,
            "why": [{"reason": r, "count": w.count, "message_ids": w.ids} for r, w in self.why.items()],
            "done": self.ended_at is not None,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "error": self.error,
        }


class Redrive:
    """The run of one order, over a connection of its own."""

    def __init__(self, link: Link, progress: Progress, told: Callable[[], None] = lambda: None) -> None:
        self._link = link
        self._progress = progress
        self._order = progress.order
        self._told = told  # called whenever there is progress
        self._failed: ReconcilerError | None = None
        self._on_way: set[asyncio.Task[None]] = set()
        self._due = 0.0

    async def run(self) -> None:
        """Returns when all is moved that can be. Raises one of our errors; what was not moved is where it was."""
        place = self._order.place
        counted = (await self._link.call("queue_declare", queue=place.queue, passive=True)).method.message_count
        self._progress.total = counted
        window = FIRST_WINDOW if self._order.rate is None else max(1, min(FIRST_WINDOW, int(self._order.rate)))
        reader = await Reader.open(self._link, place.queue, window=window)
        try:
            sender = await Sender.open(self._link)
            await self._over(reader, sender)
            await self._arrived()
        finally:
            await reader.close()
        if self._failed is not None:
            raise self._failed
        for missing in sorted((self._order.ids or frozenset()) - self._progress.found):
            self._progress.stays(missing, GONE_OTHERWISE)

    async def _over(self, reader: Reader, sender: Sender) -> None:
        progress = self._progress
        while progress.seen < progress.total and self._failed is None:
            if len(self._on_way) >= WINDOW:
                await asyncio.wait(self._on_way, return_when=asyncio.FIRST_COMPLETED)
                continue
            taken = await reader.next(IDLE_SECONDS)
            if taken is None and self._on_way:
                await asyncio.wait(self._on_way, timeout=CONFIRM_SECONDS)
                taken = await reader.next(IDLE_SECONDS)
            if taken is None:
                break
            progress.seen += 1
            letter = Letter.read(taken.properties)
            if not self._is_meant(letter):
                if reader.held >= MOST_KEPT:
                    progress.stays(
                        None, f"not looked at: {MOST_KEPT:,} messages before them are not meant (redrive those)"
                    )
                    break
                continue
            if letter.message_id:
                progress.found.add(letter.message_id)
            if (why := self._why_not(letter)) is not None:
                progress.stays(letter.message_id, why)
            elif self._order.dry_run:
                self._count(str(letter.source))
            else:
                await self._pace()
                self._move(taken, letter, reader, sender)

    def _is_meant(self, letter: Letter) -> bool:
        source, ids = self._order.place.source, self._order.ids
        return (source is None or letter.source == source) and (ids is None or letter.message_id in ids)

    def _why_not(self, letter: Letter) -> str | None:
        if letter.source is None:
            return "nothing on it tells from which queue it came"
        if letter.source == self._order.place.queue:
            return f"it came from {letter.source} itself, and would be where it is"
        if letter.run == self._progress.run:
            return "it was moved, failed, and has come back already"
        if letter.redriven >= MOST_REDRIVES and self._order.ids is None:
            return f"it was moved back {MOST_REDRIVES} times already (name it in message_ids to move it once more)"
        return None

    def _move(self, taken: Taken, letter: Letter, reader: Reader, sender: Sender) -> None:
        as_routed(taken.properties)
        try:
            properties = failure.fitting(failure.reset(taken.properties, self._progress.run))
        except failure.TooLarge as error:
            self._progress.stays(letter.message_id, str(error))
            return
        safe = sender.send(str(letter.source), taken.body, properties)
        task = asyncio.create_task(self._settle(taken, letter, reader, sender, safe))
        self._on_way.add(task)
        task.add_done_callback(self._on_way.discard)

    async def _settle(
        self, taken: Taken, letter: Letter, reader: Reader, sender: Sender, safe: asyncio.Future[ReconcilerError | None]
    ) -> None:
        error = await safe
        if error is None:
            reader.ack(taken)
            self._count(str(letter.source))
        elif not sender.is_open and not isinstance(error, NoSuchQueue):
            self._failed = error
        else:
            self._progress.stays(letter.message_id, str(error))

    def _count(self, source: str) -> None:
        self._progress.moved += 1
        self._progress.to[source] = self._progress.to.get(source, 0) + 1
        self._told()

    async def _arrived(self) -> None:
        """Waits for the confirms that are still to come."""
        if not self._on_way:
            return
        _, late = await asyncio.wait(set(self._on_way), timeout=CONFIRM_SECONDS)
        for task in late:
            task.cancel()
            self._progress.stays(None, "the broker did not confirm it in time (it may be in both queues)")

    async def _pace(self) -> None:
        if self._order.rate is None:
            return
        now = time.monotonic()
        if self._due > now:
            await asyncio.sleep(self._due - now)
        self._due = max(self._due, now) + 1 / self._order.rate
