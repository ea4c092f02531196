"""A queue replaced by one of other properties, with nothing lost. RabbitMQ renames nothing, so the messages move twice.

    drain    our workers stop; nobody else consumes, nothing is in flight
    prepare  NAME.migrating, queue and exchange, beside it; the broker is asked whether it takes the new properties
    fill     the messages move to it, oldest first, while publishers go on
    divert   its bindings are made on NAME.migrating, then taken off NAME: no routed message falls between
    swap     the last ones move; the firehose copies what is published to the default exchange from here on
    replace  NAME is deleted and made anew, both at once
    collect  what the firehose copied meanwhile joins the others
    return   the messages move back, oldest first
    restore  the bindings are made on NAME, then taken off NAME.migrating
    rest     what came in between moves, too
    clean    what was made beside NAME goes

Each step may be begun again from its start, and is: after a crash, or when the broker was away. Until NAME has been
replaced the way back is open: then `return` fills the old queue again.

Why the firehose: RabbitMQ confirms, and drops, what reaches a queue in the moment of its deletion (a publisher with
confirms and `mandatory` lost 300 of 17,000 messages so), and no lock, policy or binding keeps the default exchange
from it. Firehose: RabbitMQ's name for copies of all that is published, which a virtual host can be switched to give.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from reconciler.broker.mover import Mover, Progress
from reconciler.broker.workbench import Workbench
from reconciler.errors import Permanent, Refused, Temporary
from reconciler.migration.hands import POLL_SECONDS, SETTLE_SECONDS, GoBack, Hands
from reconciler.migration.journal import DONE, STEPS, Journal, Record
from state.observed import ObservedQueue

# Up to here the old queue is as it was, whatever goes wrong.
UNTOUCHED = ("drain", "prepare", "fill", "divert", "swap")
MOVING = {"fill": "moved", "swap": "moved", "return": "moved into the new queue", "rest": "moved into the new queue"}


class Migration:
    """One record on its way. `run` takes it to its end; `str` says where it is.

    `workers` tells how many processes of ours a queue has; `news` is called at each step, and `replaced` once what is
    there of the name is the new queue, perhaps more than once.
    """

    def __init__(
        self,
        record: Record,
        journal: Journal,
        bench: Workbench,
        mover: Mover,
        alone: asyncio.Lock,
        workers: Callable[[str], int],
        news: Callable[[], None] = lambda: None,
        replaced: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.record = record
        self.hands = Hands(record, bench, mover, self._save, alone)
        self.full = False  # the new queue takes no more until somebody consumes
        self._torn = record.step != STEPS[0]  # is there a connection of before, with messages in hand?
        self._journal = journal
        self._bench = bench
        self._workers = workers
        self._news = news
        self._replaced = replaced

    def __str__(self) -> str:
        record, progress = self.record, self.hands.progress
        back = f" back, because {record.back}" if record.back else ""
        if progress.blocked:
            return f"migrating{back}: the broker takes no messages now ({progress.blocked})"
        if self.hands.waiting:
            return f"migrating{back}: {self.hands.waiting}"
        if record.step in MOVING and record.total:
            where = "moved back" if record.back else MOVING[record.step]
            return f"migrating{back}: {where} {min(progress.moved, record.total):,} of {record.total:,} messages"
        return f"migrating{back}: {WORDS[record.step]}"

    @property
    def lets_work(self) -> bool:
        """May the workers of the queue run?"""
        return self.full or self.record.step in ("clean", DONE)

    async def run(self) -> None:
        """Raises Temporary if it has to be tried again; what it has done by then is in the journal."""
        if self.record.tracing is not None:
            await self.hands.keep_others_off()
        while self.record.step != DONE:
            self.hands.waiting = None
            try:
                follows = await self._step()
            except (GoBack, Permanent) as error:
                follows = self._way_back(error)
            except Exception:
                self._torn = True
                raise
            self.full = False
            await self._enter(follows)

    def _step(self) -> Awaitable[str]:
        steps: dict[str, Callable[[], Awaitable[str]]] = {
            "drain": self._drain,
            "prepare": self._prepare,
            "fill": self._fill,
            "divert": self._divert,
            "swap": self._swap,
            "replace": self._replace,
            "collect": self._collect,
            "return": self._return,
            "restore": self._restore,
            "rest": self._rest,
            "clean": self._clean,
        }
        return steps[self.record.step]()

    async def _enter(self, step: str) -> None:
        self.record.step = step
        if self.record.replaced:
            self._replaced(self.record)
        if step == DONE:
            await asyncio.to_thread(self._journal.drop, self.record)
        else:
            await self._save()
        self._news()

    async def _save(self) -> None:
        await asyncio.to_thread(self._journal.save, self.record)

    def _way_back(self, error: Exception) -> str:
        step = self.record.step
        if self.record.back or (step not in UNTOUCHED and not isinstance(error, GoBack)):
            raise Temporary(f"{WORDS[step]}: {error}") from None
        self.record.back = str(error)
        if step == "drain":  # nothing was made yet, and what has a name that we would take is another's
            return DONE
        return "clean" if step == "prepare" else "return"

    # -- the steps -----------------------------------------------------------------------------------------------

    async def _drain(self) -> str:
        name = self.record.name
        if (consumers := await self._bench.consumers(name)) > (ours := self._workers(name)):
            raise GoBack(f"{consumers - ours} consumers that are not ours use it (stop them)")
        await self.hands.reserve_names()
        while self._workers(name):
            self.hands.waiting = "its workers finish what they have in hand"
            await asyncio.sleep(POLL_SECONDS)
        seen = await self.hands.unused()
        if self.record.if_empty and seen.messages:
            raise GoBack(f"{seen.messages:,} messages are in it")
        await self.hands.reserve_names()  # the workers may have taken long
        return "prepare"

    async def _prepare(self) -> str:
        record, bench, wanted = self.record, self._bench, self.record.wanted
        await bench.delete(record.probe)
        await bench.declare(record.probe, wanted.type, wanted.durable, wanted.arguments)
        await bench.delete(record.probe)
        kind = "classic" if wanted.type == record.had.type == "classic" else "quorum"
        await self.hands.make(kind)
        await bench.make_way(record.way)
        await self.hands.shield()
        await self.hands.prove()
        await self.hands.has_room()
        details = await bench.details(record.name)
        self.hands.average = details.get("message_bytes", 0) / max(1, details.get("messages", 0))
        return "fill"

    async def _fill(self) -> str:
        record, hands = self.record, self.hands
        await hands.lead_to(record.temporary)
        moved = await self._bench.ready(record.temporary)
        record.total = moved + await self._bench.ready(record.name)
        hands.progress = Progress(moved, record.offset)
        if record.had.type == "stream":
            await hands.move_all(record.name)
        else:
            await hands.move_most(record.name)
        return "divert"

    async def _divert(self) -> str:
        record, hands = self.record, self.hands
        await hands.note_routes()
        await hands.lead_to(record.temporary)
        await hands.move_all(record.name, lambda: hands.rebind(record.temporary, record.name))
        return "swap"

    async def _swap(self) -> str:
        await self.hands.lead_to(self.record.temporary)
        await self.hands.sources_are_still()
        await self.hands.unused()
        if not await self.hands.begin_to_trace():
            await self.hands.is_quiet()
        await self.hands.note_routes()  # somebody may have bound it meanwhile
        await self.hands.rebind(self.record.temporary, self.record.name)
        return "replace"

    async def _replace(self) -> str:
        """From here on the old queue may be gone: if it is, the new one is made; else all of it is done again."""
        record, bench, wanted = self.record, self._bench, self.record.wanted
        seen = await bench.count(record.name)
        if seen is None or not self._is_old(seen):
            await bench.declare(record.name, wanted.type, wanted.durable, wanted.arguments)
            return "collect"
        await self.hands.lead_to(record.temporary)
        if self._torn:
            await self.hands.unused()
        classic, traced = record.had.type == "classic", record.tracing is not None
        await self.hands.move_all(record.name, self.hands.catch_from_now if traced else None)
        await self.hands.nobody_consumes()
        if (seen := await bench.count(record.name)) is not None and seen.unacknowledged:
            return "swap"  # somebody took a message meanwhile: it may come back, and nothing has caught it
        try:
            empty = classic and not traced  # else what it holds by now was caught
            await bench.replace(record.name, wanted.type, wanted.durable, wanted.arguments, classic, empty)
        except Refused as refused:
            still = await bench.count(record.name)
            if empty and still is not None and still.ready:
                return "swap"
            raise (GoBack if still is not None and self._is_old(still) else Temporary)(str(refused)) from None
        return "collect"

    def _is_old(self, seen: ObservedQueue) -> bool:
        wanted = self.record.wanted
        if (seen.type, seen.durable) != (wanted.type, wanted.durable):
            return True
        arguments = {key: value for key, value in (seen.arguments or {}).items() if key != "x-queue-type"}
        return arguments != dict(wanted.arguments) and arguments == dict(self.record.had.arguments)

    async def _collect(self) -> str:
        if self._torn:
            await self.hands.let_go(self.record.caught)
        await self.hands.collect()
        await self.hands.stop_tracing()
        return "return"

    async def _return(self) -> str:
        record, hands = self.record, self.hands
        await hands.stop_tracing()
        await hands.lead_to(record.name)
        if not record.back:
            await hands.grown_up()
        hands.progress = Progress()
        record.total = await self._bench.ready(record.temporary)
        await hands.move_most(record.temporary)
        return "restore"

    async def _restore(self) -> str:
        record, hands = self.record, self.hands
        await hands.lead_to(record.name)
        await hands.move_all(record.temporary, lambda: hands.rebind(record.name, record.temporary))
        return "rest"

    async def _rest(self) -> str:
        temporary = self.record.temporary
        await self.hands.lead_to(self.record.name)
        await asyncio.sleep(SETTLE_SECONDS)
        while await self._bench.ready(temporary):
            await self.hands.move_all(temporary)
        return "clean"

    async def _clean(self) -> str:
        """The workers are back already: what is here may take as long as somebody holds messages of it."""
        record, bench = self.record, self._bench
        await self.hands.stop_tracing()
        if await self.hands.is_left(record.temporary):
            return "rest"
        await bench.delete(record.probe)
        await bench.delete(record.temporary)
        await bench.delete(record.caught)
        await bench.remove_way(record.way)
        await bench.unshield(record.temporary)
        return DONE


WORDS = {
    "drain": "its workers stop",
    "prepare": "the queue beside it is made",
    "fill": "messages are moved",
    "divert": "bindings are moved",
    "swap": "the last messages are moved",
    "replace": "the queue is replaced",
    "collect": "messages that came meanwhile are collected",
    "return": "messages are moved into the new queue",
    "restore": "bindings are moved back",
    "rest": "the last messages are moved back",
    "clean": "what was made for it is removed",
    DONE: "done",
}
