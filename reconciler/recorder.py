"""Writes the history as turns end: what came into force, whose it is, and how it went.

It stands beside the loop and never holds it up: a turn leaves a note, and the rest is done after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from loguru import logger as log

from reconciler.intake import InForce
from reconciler.plan import Result
from reconciler.source.base import Source, message_of
from reconciler.turn import Turn
from state.history import FAULTS, HELD, PENDING, SYNCED, Entry, History
from state.origin import FILE, Origin
from state.summary import summarize

NOTED = 200  # writes that are remembered until they come into force


@dataclass(frozen=True)
class Outcome:
    """What a turn left of the state in force. `at` is in seconds since the epoch."""

    in_force: InForce
    at: float
    result: str
    reason: str | None = None


def outcome(turn: Turn, results: Iterable[Result], at: float) -> Outcome:
    """How far the state in force is reached, by the turn that has just ended."""
    in_force = turn.reading.in_force
    refused = next((f"{r.action}: {r.error}" for r in results if r.error is not None), None)
    if turn.plan.held:
        return Outcome(in_force, at, HELD, turn.plan.held[0].reason)
    if refused is not None:
        return Outcome(in_force, at, FAULTS, refused)
    reached = turn.broker is not None and not turn.plan.actions
    synced = reached and all(queue["synced"] for queue in turn.status["queues"].values())
    return Outcome(in_force, at, SYNCED if synced else PENDING)


class Recorder:
    """`note` tells whose a write is; `turned` is called as each turn ends; `run` brings both together."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.source: Source | None = None
        self._noted: dict[str, tuple[Origin, str | None]] = {}
        self._waiting: list[Outcome] = []
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._told: str | None = None
        self._known: InForce | None = None  # the one that was recorded last

    def note(self, revision: str, origin: Origin, commit: str | None) -> None:
        """A write of ours made `revision`."""
        self._noted.pop(revision, None)
        self._noted[revision] = origin, commit
        while len(self._noted) > NOTED:
            self._noted.pop(next(iter(self._noted)))

    def turned(self, turn: Turn, results: list[Result]) -> None:
        if not turn.reading.in_force.data:
            return
        found = outcome(turn, results, time.time())
        if self._waiting and self._waiting[-1].in_force.revision == found.in_force.revision:
            found = replace(found, at=self._waiting.pop().at)
        self._waiting.append(found)
        self._news.set()

    async def run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self.settle()

    async def settle(self) -> None:
        """Returns when every turn that has ended is in the history."""
        async with self._lock:
            while self._waiting:
                found = self._waiting.pop(0)
                try:
                    await self._record(found)
                except Exception as error:  # a history that breaks must not end the daemon
                    log.exception("the history has lost a revision: {}", error)

    async def _record(self, found: Outcome) -> None:
        newest = self.history.newest
        if newest is None or newest.revision != found.in_force.revision:
            await self._enter(newest, found)
        self._note_result(found)
        await self._note_commit(found)
        await asyncio.to_thread(self.history.flush)
        if self.history.error and self.history.error != self._told:
            log.warning("{}", self.history.error)
        self._told = self.history.error

    async def _enter(self, newest: Entry | None, found: Outcome) -> None:
        data = found.in_force.data
        origin, commit = await self._whose(found.in_force.revision, data)
        text = await asyncio.to_thread(self._what, newest, found.in_force, origin)
        await asyncio.to_thread(self.history.enter, replace(origin, text=text), data, found.at, commit=commit)

    async def _whose(self, revision: str, data: bytes) -> tuple[Origin, str | None]:
        if self.source is None:
            return Origin(FILE), None
        await self.source.settled()
        if (noted := self._noted.pop(revision, None)) is not None:
            return noted
        return await self.source.origin_of(data), await self.source.commit_of(data)

    def _what(self, newest: Entry | None, new: InForce, origin: Origin) -> str:
        """What the revision changed, in one line. Parsing is dear, so what was in force is used if we have it."""
        old, self._known = self._known, new
        if origin.text is None and newest is not None and old is not None and old.revision == newest.revision:
            text = summarize(old.desired, new.desired)
        else:
            text = message_of(origin, self.history.text(newest.revision) if newest else None, new.data)
        return text.split("\n")[0]

    def _note_result(self, found: Outcome) -> None:
        """What was reached once stays reached; before that, the last word counts."""
        newest = self.history.newest
        if newest is not None and newest.result != SYNCED:
            self.history.update(result=found.result, reason=found.reason)

    async def _note_commit(self, found: Outcome) -> None:
        """A file that was edited by hand is often committed after it has come into force."""
        newest = self.history.newest
        if newest is None or newest.commit is not None or self.source is None:
            return
        if (commit := await self.source.commit_of(found.in_force.data)) is not None:
            by = (await self.source.origin_of(found.in_force.data)).by if newest.via == FILE else newest.by
            self.history.update(commit=commit, by=by)
