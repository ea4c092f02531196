"""What the steps of a migration are made of: messages and bindings moved, the firehose, and who else is there."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pika

from reconciler.broker.mover import LANES, MARKER, PREFETCH, Mover, Pass, Progress, caught_for, prefetch_for
from reconciler.broker.workbench import Workbench
from reconciler.errors import NoSuchExchange, NoSuchQueue, Refused, Temporary
from reconciler.migration.journal import Record, Route
from state.observed import ObservedQueue

TICK_SECONDS = 6.0  # how late the counts of replicated queues may be
PATIENCE_SECONDS = 20.0  # for somebody else to be out of the way, before it goes back
OWN_SECONDS = 10.0  # … for our own consumer to be
SOURCE_PATIENCE_SECONDS = 900.0  # … for messages that will be dead-lettered to the queue
QUIET_SECONDS = 3.0  # without the firehose: so long nothing may come through the default exchange
CATCH_UP_SECONDS = 3.0  # for the moving to catch up with publishers, before it is cut off
POLL_SECONDS = 0.1
# RabbitMQ writes down late that there is a queue: one that it made less than two seconds before it was killed may be
# gone, and a quorum queue of less than one second has no leader ever after. What it had confirmed is lost with it.
YOUNG_SECONDS = 3.0
ANSWER_SECONDS = 10.0  # for a queue to show that it works
SETTLE_SECONDS = 0.05  # longer than a channel takes from the look-up of a queue to the delivery
NEAR = 2 * PREFETCH  # so few messages are left to a last pass


class GoBack(Exception):
    """It cannot go on, and has not replaced anything yet."""


class Hands:
    """One record, and what is done for it at the broker. `save` puts the record on disk."""

    def __init__(
        self,
        record: Record,
        bench: Workbench,
        mover: Mover,
        save: Callable[[], Awaitable[None]],
        alone: asyncio.Lock,
    ) -> None:
        self.record = record
        self.progress = Progress()
        self.waiting: str | None = None  # what it waits for
        self.average = 1.0  # bytes of a message
        self._bench = bench
        self._mover = mover
        self._save = save
        self._alone = alone  # one migration at a time has the firehose
        self._is_alone = False

    async def reserve_names(self) -> None:
        """Nothing of what will be made beside the queue may be there already. Raises GoBack."""
        record, bench = self.record, self._bench
        for name in (record.temporary, record.caught, record.probe):
            if await bench.details(name):
                raise GoBack(f"a queue {name} is in the way (delete or rename it)")
        if await bench.has_exchange(record.way):
            raise GoBack(f"an exchange {record.way} is in the way (delete or rename it)")
        if await bench.is_shielded(record.temporary):
            raise GoBack(f"a policy {record.temporary} is in the way (delete or rename it)")

    async def shield(self) -> None:
        """No policy of others may limit the temporary queue, or let it expire."""
        temporary = self.record.temporary
        try:
            await self._bench.shield(temporary)
        except Refused:
            if policy := (await self._bench.details(temporary)).get("policy"):
                raise GoBack(
                    f"policy {policy} would hold for {temporary}, too, and could lose messages (give the broker's user "
                    f"the tag policymaker)"
                ) from None

    async def has_room(self) -> None:
        """The new queue must not drop the oldest messages for their size. Raises GoBack if it would, or may."""
        record = self.record
        limit = record.wanted.arguments.get("x-max-length-bytes")
        if not isinstance(limit, int) or record.wanted.arguments.get("x-overflow", "drop-head") != "drop-head":
            return  # one that rejects is filled as there is room
        deadline, held = time.monotonic() + 2 * TICK_SECONDS, None
        while held is None or held <= limit:
            details, ready = await self._bench.details(record.name), await self._bench.ready(record.name)
            held = details.get("message_bytes")  # late by some seconds, as the number that comes with it
            if held is not None and details.get("messages", 0) >= ready:
                break
            if time.monotonic() > deadline:  # not every broker counts them
                raise GoBack(f"nobody knows whether what is in it fits into {limit:,} bytes (leave the limit out)")
            self.waiting = "for the size of its messages"
            await asyncio.sleep(POLL_SECONDS)
        self.waiting = None
        if held > limit:
            raise GoBack(f"{held:,} bytes are in it, and the new queue would take {limit:,} (raise it, or drain it)")

    async def kept_arguments(self, kind: str) -> dict[str, Any]:
        """What the temporary queue needs, too: where expired messages go, and no limit of deliveries."""
        details = await self._bench.details(self.record.name)
        policy = details.get("effective_policy_definition") or {}
        known = {f"x-{key}": value for key, value in policy.items()} | dict(self.record.had.arguments)
        dead = {key: known[key] for key in ("x-dead-letter-exchange", "x-dead-letter-routing-key") if key in known}
        limit = {"x-delivery-limit": -1} if kind == "quorum" and await self._bench.counts_deliveries() else {}
        return dead | limit

    async def note_routes(self) -> None:
        """Remembers every binding that the queue has, before the first of them is moved."""
        for found in await self._bench.routes(self.record.name):
            if (route := Route(*found)) not in self.record.routes:
                self.record.routes.append(route)
        await self._save()

    async def unused(self) -> ObservedQueue:
        """The queue, once nobody else consumes from it and nothing is in flight. Raises GoBack if that takes long."""
        seen = await self.let_go(self.record.name, PATIENCE_SECONDS)
        if seen is None:
            raise GoBack("it was deleted meanwhile")
        return seen

    async def let_go(self, queue: str, patience: float = math.inf) -> ObservedQueue | None:
        """The queue, once nobody has any of its messages in hand, for they might come back; None if there is none.

        Raises GoBack if somebody has them longer than `patience`, in seconds.
        """
        deadline, quiet = time.monotonic() + patience, None
        while (seen := await self._bench.count(queue)) is not None:
            now = time.monotonic()
            if why := held_by_others(seen, "it" if queue == self.record.name else queue):
                quiet = None
            else:
                quiet = quiet or now
                late = 0.0 if seen.type == "classic" else TICK_SECONDS
                if now - quiet >= late:
                    break
            self.waiting = why or "its counts must stay zero for some seconds"
            if why and now > deadline:
                raise GoBack(f"{why} (stop them)")
            await asyncio.sleep(POLL_SECONDS)
        return seen

    async def is_left(self, queue: str) -> bool:
        """Are there messages in it, or do some come back from whoever has them in hand?"""
        if (seen := await self._bench.count(queue)) is None or seen.ready:
            return seen is not None
        seen = await self.let_go(queue)
        return seen is not None and seen.ready > 0

    async def nobody_consumes(self) -> None:
        """Our own consumer is gone a moment after its channel. Raises GoBack if there is one that stays."""
        deadline = time.monotonic() + OWN_SECONDS
        while consumers := await self._bench.consumers(self.record.name):
            if time.monotonic() > deadline:
                raise GoBack(f"{consumers} consumers that are not ours use it (stop them)")
            await asyncio.sleep(POLL_SECONDS)

    async def make(self, kind: str) -> None:
        """The queues that hold the messages meanwhile."""
        record, bench = self.record, self._bench
        await bench.declare(record.temporary, kind, True, await self.kept_arguments(kind))
        with suppress(Refused):  # without it the migration waits for quiet
            await bench.declare(record.caught, "quorum", True, {})

    async def prove(self) -> None:
        """They work, and will after the broker's death. Raises Temporary if it died over them."""
        await self.grown_up()
        for queue in (self.record.temporary, self.record.caught):
            if queue == self.record.caught and await self._bench.count(queue) is None:
                continue
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._bench.purge(queue)  # nothing is in it yet
            except (TimeoutError, Refused, NoSuchQueue):
                await self._bench.delete(queue)
                raise Temporary(f"queue {queue} did not outlive its broker, and is made again") from None

    async def grown_up(self) -> None:
        """Once what was just made outlives the broker's death."""
        self.waiting = "until what was made is on the broker's disk"
        await asyncio.sleep(YOUNG_SECONDS)
        self.waiting = None

    async def lead_to(self, queue: str) -> None:
        """The way of messages leads to `queue`, and there only."""
        record = self.record
        other = record.name if queue == record.temporary else record.temporary
        if queue == record.name and await self._bench.count(queue) is None:  # somebody deleted it meanwhile
            shape = record.had if record.back else record.wanted
            await self._bench.declare(queue, shape.type, shape.durable, shape.arguments)
        await self._bench.bind(queue, record.way)
        await self._bench.unbind(other, record.way)

    async def rebind(self, to: str, away: str) -> None:
        """Every binding on `to` before the first is taken off `away`."""
        routes = [route for route in self.record.routes if route.exchange != self.record.way]
        await asyncio.gather(*(self._bind(to, route) for route in routes))
        unbind = self._bench.unbind
        await asyncio.gather(*(unbind(away, r.exchange, r.routing_key, r.arguments) for r in routes))

    async def _bind(self, queue: str, route: Route) -> None:
        with suppress(NoSuchExchange):  # deleted meanwhile, and its bindings with it
            await self._bench.bind(queue, route.exchange, route.routing_key, route.arguments)

    async def move_most(self, source: str) -> None:
        """Moves until few are left, or as many come as go: the rest is for a pass that knows where to end."""
        before = None
        while (ready := await self._bench.ready(source)) > NEAR and (before is None or ready < before / 2):
            await self._run(Pass(source, self.record.way, count=ready))
            before = ready

    async def move_all(self, source: str, then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Moves all that is in `source` when `then` has been done, which is once the moving has caught up."""
        token = uuid.uuid4().hex

        async def end() -> None:
            if then is not None:
                await self._catch_up(source)
                await then()
            await self._mover.mark(source, token)

        work = Pass(source, self.record.way, markers={f"{token}/{lane}" for lane in LANES})
        await together(self._run(work), end())

    async def _catch_up(self, source: str) -> None:
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while await self._bench.ready(source) and time.monotonic() < deadline:
            await asyncio.sleep(0)

    async def _run(self, work: Pass) -> None:
        work.prefetch = prefetch_for(self.average)
        is_stream = work.source == self.record.name and self.record.had.type == "stream" and not self.record.replaced
        if is_stream:
            work.arguments = {"x-stream-offset": "first" if self.record.offset is None else self.record.offset}
        await self._mover.run(work, self.progress)
        if is_stream:
            self.record.offset = self.progress.offset

    async def keep_others_off(self) -> None:
        """The firehose is this migration's alone, until it has stopped it."""
        if not self._is_alone:
            await self._alone.acquire()
            self._is_alone = True

    async def begin_to_trace(self) -> bool:
        """Has the firehose copy what is published to the default exchange. False where it cannot see all of that."""
        record, bench = self.record, self._bench
        await self.keep_others_off()
        if record.tracing is not None:
            return True
        if await bench.nodes() > 1:
            return False
        try:
            before = await bench.tracing()
            await bench.declare(record.caught, "quorum", True, {})
            await bench.catch(record.caught)
            record.tracing = before
            await self._save()
            await bench.trace(True)
        except Refused:
            record.tracing = None
            await bench.delete(record.caught)
            return False
        return True

    async def catch_from_now(self) -> None:
        """What was copied so far is in the queue, too, and moves before a marker that comes a moment later."""
        await self._bench.trace(True)
        await self._bench.purge(self.record.caught)
        await asyncio.sleep(SETTLE_SECONDS)

    async def collect(self) -> None:
        """What was caught joins the others; from here on the new queue gets all that comes."""
        record = self.record
        if record.tracing is None or await self._bench.count(record.caught) is None:
            return
        await self.lead_to(record.temporary)
        end = f"{record.caught}.{uuid.uuid4().hex}"
        await self._bench.trace(True)
        await self._mover.publish(end, pika.BasicProperties(type=MARKER), mandatory=False)
        caught = Pass(record.caught, record.way, choose=caught_for(record.name))
        caught.enough = lambda message: end.encode() in message.properties
        await self._run(caught)

    async def stop_tracing(self) -> None:
        record = self.record
        if record.tracing is not None:
            await self._bench.trace(record.tracing)
            await self._bench.delete(record.caught)
            record.tracing = None
            await self._save()
        if self._is_alone:
            self._is_alone = False
            self._alone.release()

    async def is_quiet(self) -> None:
        """Without the firehose nobody may be publishing to it through the default exchange. Raises GoBack."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            await self.move_all(self.record.name)
            self.waiting = "waiting for publishers to the default exchange to pause"
            before, since = await self._bench.ready(self.record.name), time.monotonic()
            while await self._bench.ready(self.record.name) == before:
                if time.monotonic() - since > QUIET_SECONDS:
                    return
                await asyncio.sleep(POLL_SECONDS)
        raise GoBack(WITHOUT_FIREHOSE)

    async def sources_are_still(self) -> None:
        """What others dead-letter to this queue passes no channel, so nothing catches it while there is no queue."""
        deadline = time.monotonic() + SOURCE_PATIENCE_SECONDS
        while why := await self._lively_source():
            self.waiting = f"waiting for {why}"
            if time.monotonic() > deadline:
                raise GoBack(f"{why} (pause what uses it)")
            await asyncio.sleep(1.0)
        self.waiting = None

    async def _lively_source(self) -> str | None:
        for name, expires in sources_of(self.record.name, await self._bench.queues()).items():
            seen = await self._bench.count(name)
            if seen and seen.messages and (seen.consumers or expires):
                return f"queue {name}, which dead-letters to it, to be empty ({seen.messages:,} messages)"
        return None


def held_by_others(seen: ObservedQueue, called: str) -> str | None:
    """Why messages of the queue may be in somebody's hands."""
    if seen.consumers:
        return f"{seen.consumers} consumers that are not ours use {called}"
    return f"{seen.unacknowledged:,} messages of {called} are in the hands of others" if seen.unacknowledged else None


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """All of them at once; if one fails, the others are ended and its error is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


WITHOUT_FIREHOSE = (
    "messages come through the default exchange, and some could be lost in the moment of the change: RabbitMQ's "
    "firehose, which would catch them, needs a user with the tag administrator and a broker of one node (give it the "
    "tag, or stop these publishers for some seconds)"
)

LEAVING = ("x-message-ttl", "x-max-length", "x-max-length-bytes")  # by these, messages leave without a consumer


def sources_of(name: str, queues: list[dict[str, Any]]) -> dict[str, bool]:
    """The queues that dead-letter to `name` through the default exchange. True: also while nobody consumes them."""
    found = {}
    for queue in queues:
        policy = queue.get("effective_policy_definition") or {}
        known = {f"x-{key}": value for key, value in policy.items()} | (queue.get("arguments") or {})
        leads_here = known.get("x-dead-letter-exchange") == "" and known.get("x-dead-letter-routing-key") == name
        if leads_here and queue["name"] != name:
            found[queue["name"]] = any(key in known for key in LEAVING)
    return found
