"""Counts the rejections of those who cannot: other people's programs, and the broker itself.

What such a consumer rejects on a queue with a retry goes to `QUEUE.rejected`, by the queue's own dead-lettering. From
there each message is sent on as the Python runtime would have done it: to a delay queue, or after the last attempt to
the dead letters. What expired, overflowed or was delivered too often is no failed attempt: to the dead letters at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from loguru import logger as log

from reconciler.broker.amqp import Link
from reconciler.deadletters.letters import Letter, as_routed
from reconciler.deadletters.reader import Reader, Taken
from reconciler.deadletters.sender import Sender
from reconciler.errors import NoSuchQueue, ReconcilerError
from state.desired import Desired
from state.retries import dead_letter_of, delay_queues, rejected_of
from workers.runtime import failure
from workers.runtime.failure import Cause, Ways

IDLE_SECONDS = 3600.0
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before another try, when something is missing


def ways_of(desired: Desired) -> dict[str, Ways]:
    """Where failed messages go, by the queue that the broker rejects to."""
    return {
        rejected_of(name): Ways(
            name, queue.retry.attempts, tuple(delay_queues(name, queue.retry)), dead_letter_of(name, queue)
        )
        for name, queue in desired.queues.items()
        if queue.retry is not None
    }


def leftovers(names: Mapping[str, int], desired: Desired) -> dict[str, Ways]:
    """Of queues that have no retry any more: what was rejected before goes to their dead letters, or back to them.

    `names`: the queues that we made for what is rejected and that are to go, with the number of their messages.
    """
    found = {}
    for name, messages in names.items():
        source = name.removesuffix(".rejected")
        if source != name and messages:
            queue = desired.queues.get(source)
            dead = dead_letter_of(source, queue) if queue is not None else None
            found[name] = Ways(source, dead_letter=dead or source)
    return found


class Router:
    """One task for each queue that is rejected to."""

    def __init__(self, amqp_url: str) -> None:
        self._link = Link(amqp_url, "rejected messages")
        self._ways: dict[str, Ways] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, ways: Mapping[str, Ways]) -> None:
        """From now on, these queues. One that is no longer among them is left alone at once."""
        self._ways = dict(ways)
        for name in self._tasks.keys() - self._ways.keys():
            self._tasks.pop(name).cancel()
        for name in self._ways.keys() - self._tasks.keys():
            self._tasks[name] = asyncio.create_task(self._drain(name), name=f"rejected messages in {name}")

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self.follow({})
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await self._link.close()

    async def _drain(self, name: str) -> None:
        wait, said = FIRST_WAIT, ""
        while True:
            try:
                async for _ in self._routed(name):
                    wait, said = FIRST_WAIT, ""
            except ReconcilerError as error:
                if str(error) != said and not (isinstance(error, NoSuchQueue) and name in str(error)):
                    said = str(error)
                    log.warning("rejected messages wait in {}: {}", name, error)
            except Exception as error:  # a header that nobody thought of must not stop the others for good
                log.exception("rejected messages wait in {}: {}", name, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    async def _routed(self, name: str) -> Any:
        """Each message that was sent on."""
        reader = await Reader.open(self._link, name)
        sender: Sender | None = None
        try:
            sender = await Sender.open(self._link)
            while True:
                taken = await reader.next(IDLE_SECONDS)
                if taken is None:
                    continue
                ways = self._ways[name]
                if ways.dead_letter == ways.queue and failure.failures_of(taken.properties.headers):
                    await asyncio.sleep(FIRST_WAIT)  # rejected again where nothing says what follows: it must not spin
                await self._send_on(taken, ways, sender)
                reader.ack(taken)
                yield taken
        finally:
            if sender is not None:
                sender.close()
            await reader.close()

    async def _send_on(self, taken: Taken, ways: Ways, sender: Sender) -> None:
        """Raises one of our errors if the copy is not safe."""
        queue, properties = sent_on(taken.properties, ways, time.time())
        if (error := await sender.send(queue, taken.body, properties)) is not None:
            raise error


def sent_on(properties: Any, ways: Ways, now: float) -> tuple[str, Any]:
    """Where to, and with which properties."""
    letter = Letter.read(properties)
    as_routed(properties)
    try:
        copy = failure.failed_copy(properties, ("", ways.queue), ways.queue, Cause(now, letter.reason))
    except failure.TooLarge:  # it cannot be counted
        return ways.dead_letter or ways.queue, failure.carried(properties)
    failed = letter.reason == "rejected"
    if not failed:
        copy.headers[failure.ATTEMPT] -= 1
    queue = ways.after(copy.headers[failure.ATTEMPT]) if failed else ways.dead_letter
    return queue or ways.queue, copy
