"""What is asked about dead letters: who they are, and to be moved back. Runs go on when nobody waits for them."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from loguru import logger as log

from reconciler.broker.amqp import Link
from reconciler.deadletters.groups import Groups
from reconciler.deadletters.letters import Letter
from reconciler.deadletters.places import Place
from reconciler.deadletters.reader import Reader
from reconciler.deadletters.redrive import Order, Progress, Redrive
from reconciler.deadletters.router import Router, leftovers, ways_of
from reconciler.errors import ReconcilerError, Refused
from reconciler.events import Events
from state.desired import Desired

MOST_LOOKED = 10_000  # messages of one look, unless more are asked for
MOST_BYTES = 64 * 1024 * 1024
LOOK_SECONDS = 4.0
IDLE_SECONDS = 1.0  # without a message: others have taken the rest
BACK_SECONDS = 2.0  # a quorum queue takes a moment to take messages back
REMEMBERED = 50  # runs that have ended


class Desk:
    """At the broker behind `amqp_url`."""

    def __init__(self, amqp_url: str, events: Events) -> None:
        self._url = amqp_url
        self._events = events
        self._links: set[Link] = set()
        self._looking: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._runs: dict[str, Progress] = {}  # the last one by queue
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._router = Router(amqp_url)

    def follow(self, desired: Desired, unwanted: Mapping[str, int]) -> None:
        """Routes what others reject as the file says now. `unwanted`: queues of ours that are to go, with the number
        of their messages."""
        self._router.follow(ways_of(desired) | leftovers(unwanted, desired))

    async def look(self, place: Place, most: int, *, stream: bool = False) -> Mapping[str, Any]:
        """Groups of what is in the queue, given back untouched: `counted` of the `of` messages that are in it.

        Raises NoSuchQueue, Refused, BrokerUnreachable.
        """
        async with self._looking[place.queue]:
            link = self._link("dead letters")
            try:
                return await self._look(link, place, most, stream)
            finally:
                await self._drop(link)

    async def _look(self, link: Link, place: Place, most: int, stream: bool) -> Mapping[str, Any]:
        of = (await link.call("queue_declare", queue=place.queue, passive=True)).method.message_count
        groups, looked, deadline = Groups(), 0, time.monotonic() + LOOK_SECONDS
        reader = await Reader.open(link, place.queue, stream=stream)
        try:
            while looked < min(of, most) and reader.bytes < MOST_BYTES and time.monotonic() < deadline:
                taken = await reader.next(IDLE_SECONDS)
                if taken is None:
                    break
                looked += 1
                letter = Letter.read(taken.properties)
                if place.source is None or letter.source == place.source:
                    groups.add(letter, taken.properties, taken.body)
                if looked % 100 == 0:
                    await asyncio.sleep(0)
        finally:
            await reader.close()
            await self._given_back(link, place.queue, reader.held)
        return {"groups": groups.as_json(), "count": groups.count, "counted": looked, "of": of}

    async def _given_back(self, link: Link, queue: str, messages: int) -> None:
        """Waits until they are in the queue again, so that the next look finds them; others may take some of them."""
        deadline = time.monotonic() + BACK_SECONDS
        while time.monotonic() < deadline:
            if (await link.call("queue_declare", queue=queue, passive=True)).method.message_count >= messages:
                return
            await asyncio.sleep(0.02)

    def redrive(self, order: Order) -> Progress:
        """Begins a run, which goes on by itself. Raises Refused while there is one for that queue."""
        queue = order.place.queue
        if queue in self._tasks:
            was = self._runs[queue]
            raise Refused(
                f"a redrive of {queue} is under way: {was.moved} of {was.total} moved so far (it is in /status; "
                f"ask again when it has ended)"
            )
        progress = Progress(order)
        self._runs.pop(queue, None)
        self._runs[queue] = progress
        while len(self._runs) > REMEMBERED:
            del self._runs[next(iter(self._runs))]
        self._tasks[queue] = asyncio.create_task(self._run(progress))
        return progress

    async def ended(self, progress: Progress, seconds: float) -> bool:
        """Waits for the end of a run. False if it goes on after so long."""
        task = self._tasks.get(progress.order.place.queue)
        if progress.ended_at is None and task is not None:
            await asyncio.wait({task}, timeout=seconds)
        return progress.ended_at is not None

    def last_run(self, queue: str) -> Progress | None:
        """The run under way over that dead-letter queue, or the last that ended."""
        return self._runs.get(queue)

    @property
    def runs(self) -> dict[str, Any]:
        """The last run of each queue, as JSON."""
        return {queue: progress.as_json() for queue, progress in self._runs.items()}

    async def _run(self, progress: Progress) -> None:
        queue = progress.order.place.queue
        link = self._link("redrive")
        told = _Sparing(lambda: self._tell(progress))
        try:
            await Redrive(link, progress, told).run()
        except ReconcilerError as error:
            progress.error = str(error)
        except asyncio.CancelledError:
            progress.error = "the daemon was stopped"
            raise
        except Exception as error:
            log.exception("a redrive broke: {}", error)
            progress.error = f"this is a fault of ours; the log has the details: {error}"
        finally:
            progress.ended_at = time.time()
            self._tasks.pop(queue, None)
            self._tell(progress)
            await self._drop(link)

    def _tell(self, progress: Progress) -> None:
        at, verb = progress.order.place.queue, "would be moved" if progress.order.dry_run else "moved"
        text = f"redrive of {at}: {progress.moved} of {progress.total} {verb}, {progress.left} left"
        if progress.error:
            text += f"; it ended: {progress.error}"
        if progress.ended_at is not None:
            log.info("{}", text)
        self._events.tell("redrive", text, **progress.as_json())

    def _link(self, name: str) -> Link:
        link = Link(self._url, name)
        self._links.add(link)
        return link

    async def _drop(self, link: Link) -> None:
        self._links.discard(link)
        await link.close()

    async def close(self) -> None:
        """Ends what is under way; what was not moved by then is where it was."""
        for task in list(self._tasks.values()):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=5)
        await self._router.close()
        await asyncio.gather(*(self._drop(link) for link in list(self._links)))


class _Sparing:
    """Passes on one call a second."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._last = time.monotonic()

    def __call__(self) -> None:
        if (now := time.monotonic()) - self._last >= 1.0:
            self._last = now
            self._call()
