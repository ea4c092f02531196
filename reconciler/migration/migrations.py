"""The migrations under way: each a task of its own, so that no turn waits for one. What they need is on disk."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from loguru import logger as log

from reconciler.actions import Migrate, Recreate
from reconciler.backoff import backoff
from reconciler.broker.broker import Broker
from reconciler.broker.mover import TargetFull
from reconciler.errors import ReconcilerError
from reconciler.migration.journal import Journal, Record, Shape
from reconciler.migration.steps import Migration

TOLD_SECONDS = 2.0  # how often progress is told
GIVEN_UP_SECONDS = 15.0  # until one that went back is tried again; each time that is in vain, longer
GIVEN_UP_AT_MOST_SECONDS = 900.0


class Migrations:
    """`told` is called with a queue and what there is to say of it; `wake` when a turn should look.

    `replaced` is told as soon as a queue is the new one: whatever becomes of its entry, we have made it.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        workers: Callable[[str], int],
        told: Callable[[str, str], None] = lambda name, text: None,
        wake: Callable[[], None] = lambda: None,
        replaced: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self._journal = Journal(folder)
        self._broker = broker
        self._workers = workers
        self._alone = asyncio.Lock()
        self._told = told
        self._wake = wake
        self._replaced = replaced
        self._records = {(r.broker, r.name): r for r in self._journal.load()}
        self._running: dict[tuple[str, str], Migration] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._gave_up: dict[str, tuple[str, float]] = {}
        self._failures: Counter[str] = Counter()
        self._bench = broker.workbench()
        self._mover = broker.mover()

    def begin(self, action: Migrate, broker: str) -> None:
        """Starts a migration, known on disk before it returns. Raises OSError."""
        queue, seen = action.queue, action.seen
        wanted = Shape(queue.type, queue.durable, queue.broker_arguments())
        arguments = {key: value for key, value in (seen.arguments or {}).items() if key != "x-queue-type"}
        had = Shape(seen.type or "classic", bool(seen.durable), arguments)
        self.take(Record(action.name, broker, wanted, had, if_empty=isinstance(action, Recreate)))

    def take(self, record: Record) -> None:
        """As `begin`, of a record that was made already."""
        self._journal.save(record)
        self._gave_up.pop(record.name, None)
        self._records[record.broker, record.name] = record
        self.follow(record.broker)

    def follow(self, broker: str) -> None:
        """Goes on with what was begun at this broker: what an earlier daemon left, too."""
        for key, record in self._records.items():
            if key[0] == broker and key not in self._tasks:
                news = partial(self._news, key)
                self._running[key] = Migration(
                    record, self._journal, self._bench, self._mover, self._alone, self._workers, news, self._replaced
                )
                self._tasks[key] = asyncio.create_task(self._run(key), name=f"migration of {record.name}")

    def under_way(self, broker: str | None = None) -> Mapping[str, str]:
        """The queues that are being migrated, and where each of them is, in words."""
        return {
            name: str(self._running[at, name]) if (at, name) in self._running else "migrating"
            for at, name in self._records
            if broker in (None, at)
        }

    def standing_still(self, broker: str | None = None) -> set[str]:
        """Those of them whose workers are to be at zero: not where only they can make room, or all is in its place."""
        at_work = {name for (_, name), migration in self._running.items() if migration.lets_work}
        return self.under_way(broker).keys() - at_work

    def made(self) -> set[str]:
        """The names of what stands beside the queues, so that nobody takes it for a stranger's."""
        return {name for r in self._records.values() for name in (r.temporary, r.caught, r.probe)}

    def gave_up(self) -> Mapping[str, str]:
        """Why migrations went back, by queue, as long as they are not tried again."""
        now = time.monotonic()
        return {name: why for name, (why, until) in self._gave_up.items() if now < until}

    def try_again(self) -> None:
        """What went back may be tried again at once."""
        self._gave_up.clear()
        self._failures.clear()

    def _news(self, key: tuple[str, str]) -> None:
        self._told(key[1], str(self._running[key]))
        self._wake()

    async def _run(self, key: tuple[str, str]) -> None:
        migration, failures = self._running[key], 0
        telling = asyncio.create_task(self._tell(key))
        try:
            while not await self._tried(migration):
                failures += 1
                self._news(key)
                await asyncio.sleep(backoff(failures, base=0.25, cap=10.0, jitter=random.random()))
        finally:
            telling.cancel()
        self._end(key)

    async def _tried(self, migration: Migration) -> bool:
        try:
            await migration.run()
            return True
        except ReconcilerError as error:
            migration.full = isinstance(error, TargetFull)
            migration.hands.waiting = str(error)
        except OSError as error:
            migration.hands.waiting = f"the state folder cannot be written: {error.strerror} (free some disk)"
        except Exception as error:  # what is not understood must not end it half way
            log.exception("the migration of {} broke: {}", migration.record.name, error)
            migration.hands.waiting = f"it broke and is tried again: {error}"
        return False

    def _end(self, key: tuple[str, str]) -> None:
        record = self._records.pop(key)
        del self._running[key], self._tasks[key]
        if record.back:
            self._failures[record.name] += 1
            wait = backoff(self._failures[record.name], base=GIVEN_UP_SECONDS, cap=GIVEN_UP_AT_MOST_SECONDS)
            self._gave_up[record.name] = (record.back, time.monotonic() + wait)
            self._told(record.name, f"not migrated: {record.back}; all is as it was")
        else:
            del self._failures[record.name]
            self._told(record.name, f"migrated from {record.had} to {record.wanted}")
        self._wake()

    async def _tell(self, key: tuple[str, str]) -> None:
        last = ""
        while True:
            await asyncio.sleep(TOLD_SECONDS)
            if (text := str(self._running[key])) != last:
                last = text
                self._told(key[1], text)

    async def close(self) -> None:
        """Stops where they are; they go on from there."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(self._bench.close(), self._mover.close())
