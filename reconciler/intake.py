"""The file's way into force: read, parsed, its modules checked; until then the last good state stays in force.

The loop asks once a turn. What was in force is kept on disk (`last-good.yaml`), so that a daemon that starts beside
a broken file goes on with the state it had.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger as log

from reconciler.machine import faults_here
from reconciler.modules import Modules
from reconciler.saves import Save, Sight, save_between, takes_out
from state.desired import NOTHING, Desired
from state.faults import Fault, Rejected
from state.file import DesiredFile, Snapshot, write_atomically
from state.processes import Pool
from state.reader import locate, parse, revision_of

# What may be half of a file is believed once it has stood for so long: see `saves`.
SETTLE_SECONDS = 0.3
# The same while a writer has it open, who may be slow: a copy over a network, a script that waits for something.
OPEN_SECONDS = 60.0
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class InForce:
    """The desired state that a turn works towards."""

    desired: Desired = NOTHING
    revision: str = revision_of(b"")
    data: bytes = b""
    code: Mapping[str, str] = field(default_factory=dict)  # the digest of each worker module, by name
    judged: bool = field(default=True, compare=False)  # False: recalled, of a file that an earlier daemon read


@dataclass(frozen=True)
class Reading:
    """What a turn knows of the file. `settles_in`: seconds until it can be believed as it stands, 0 if it can."""

    in_force: InForce
    faults: tuple[Fault, ...] = ()
    waiting: tuple[str, ...] = ()
    write: int = 0  # the file's writes up to this one are in it
    settles_in: float = 0.0

    @property
    def current(self) -> bool:
        """Is the file as it stands on disk what is in force?"""
        return not self.faults and not self.waiting


class Intake:
    """Reads `file` into force, step by step, never blocking the loop."""

    def __init__(
        self,
        file: DesiredFile,
        modules: Modules,
        last_good: Path,
        admits: Callable[[str], str | None] = lambda revision: None,
        look: Callable[[], Sight] = Sight,
    ) -> None:
        """`admits` tells why a revision must not come into force, whatever it says; None if it may.

        `look` tells how the file was saved.
        """
        self._file = file
        self._look = look
        self._admits = admits
        self._modules = modules
        self._last_good = last_good
        self._last_code = last_good.with_suffix(".code.json")
        self._in_force = self._recall()
        self._remembering: asyncio.Task[None] | None = None
        self._forgot = False  # did the disk refuse what is in force? Then it is tried again
        self._parsed: tuple[str, Desired | Rejected] | None = None

    @property
    def in_force(self) -> InForce:
        return self._in_force

    def _recall(self) -> InForce:
        try:
            data = self._last_good.read_bytes()
            return InForce(parse(data), revision_of(data), data, self._recall_code(), judged=False)
        except (OSError, Rejected):
            return InForce(judged=False)

    def _recall_code(self) -> Mapping[str, str]:
        try:
            return {str(name): str(code) for name, code in json.loads(self._last_code.read_bytes()).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def _remember(self, data: bytes, code: Mapping[str, str]) -> None:
        try:
            write_atomically(self._last_good, data)
            write_atomically(self._last_code, json.dumps(code).encode())
            self._forgot = False
        except OSError as error:  # a full disk must not keep a good file out of force
            if not self._forgot:
                log.warning("{} cannot be written: {}", self._last_good, error.strerror)
            self._forgot = True

    @property
    def writes(self) -> int:
        """How many writes of ours there were."""
        return self._file.writes

    async def read(self) -> Reading:
        """One look at the file. Puts it in force if nothing speaks against it."""
        write, before, looked_at = self._file.writes, self._look(), time.time()
        known = self._in_force.revision, self._file.written
        snapshot, is_open = await asyncio.to_thread(self._file.look, known)
        save, wait = save_between(before, self._look()), self._unsettled(snapshot, looked_at, is_open)
        if wait and (is_open or save in (Save.OPEN, Save.UNKNOWN)):
            return self._unsure(wait)
        if snapshot.data is None:
            return self._faulty([Fault(1, 1, "", snapshot.error or "the file is missing", self._file.path.name)])
        if why := self._admits(snapshot.revision):
            return Reading(self._in_force, waiting=(why,))
        desired = await self._parse(snapshot)
        if wait and save is Save.CLOSED and is_doubtful(self._in_force.desired, desired):
            return self._unsure(wait)
        if isinstance(desired, Rejected):
            return self._faulty(desired.faults)
        if here := faults_here(desired):
            return self._faulty(locate(snapshot.data, *item, self._file.path.name) for item in here.items())
        verdict = self._modules.faults(desired)
        if verdict is None:
            return Reading(self._in_force, waiting=("the file's worker modules are being imported to check them",))
        if verdict:
            return self._faulty(self._module_fault(snapshot.data, *item) for item in verdict.items())
        return await self._accept(snapshot, desired, write)

    async def remembered(self) -> None:
        """Waits until what is in force is on disk: nothing is done about it before."""
        if self._remembering is not None:
            await asyncio.wait({self._remembering})

    async def newest(self) -> Desired:
        """What the file says this moment, in force or not yet; what is in force if the file has faults."""
        snapshot = await asyncio.to_thread(self._file.snapshot)
        if snapshot.data is None or snapshot.revision == self._in_force.revision:
            return self._in_force.desired
        desired = await self._parse(snapshot)
        return self._in_force.desired if isinstance(desired, Rejected) else desired

    def _unsettled(self, snapshot: Snapshot, looked_at: float, is_open: bool) -> float:
        """Seconds until the file has stood long enough. What we wrote ourselves was whole from the start.

        How long it had stood when we looked is what counts: a machine that stalls after that makes it no older.
        """
        if snapshot.revision in (self._in_force.revision, self._file.written) or snapshot.changed_at > time.time():
            return 0.0
        settled = max(OPEN_SECONDS, SETTLE_SECONDS) if is_open else SETTLE_SECONDS
        return max(0.0, settled - max(0.0, looked_at - snapshot.changed_at))

    def _unsure(self, wait: float) -> Reading:
        soon = min(wait, LOOK_SECONDS)  # a writer may close it before
        return Reading(self._in_force, waiting=("the file was saved this very moment",), settles_in=soon)

    def _faulty(self, faults: Iterable[Fault]) -> Reading:
        return Reading(self._in_force, tuple(sorted(faults)))

    async def _parse(self, snapshot: Snapshot) -> Desired | Rejected:
        if self._parsed is None or self._parsed[0] != snapshot.revision:
            self._parsed = snapshot.revision, await asyncio.to_thread(self._try_parse, snapshot.data or b"")
        return self._parsed[1]

    def _try_parse(self, data: bytes) -> Desired | Rejected:
        try:
            return parse(data, self._file.path.name)
        except Rejected as rejected:
            return rejected

    def _module_fault(self, data: bytes, pool: Pool, message: str) -> Fault:
        path = ("queues", pool.queue, "workers", pool.worker, "[key]")
        return locate(data, path, message, self._file.path.name)

    async def _accept(self, snapshot: Snapshot, desired: Desired, write: int) -> Reading:
        data, code = snapshot.data or b"", self._modules.code(desired)
        if self._forgot or (self._in_force.revision, self._in_force.code) != (snapshot.revision, code):
            await self.remembered()
            self._remembering = asyncio.create_task(asyncio.to_thread(self._remember, data, code))
        self._in_force = InForce(desired, snapshot.revision, data, code)
        return Reading(self._in_force, write=write)


def is_doubtful(old: Desired, new: Desired | Rejected) -> bool:
    """Could that be a half of what somebody is about to save?"""
    return isinstance(new, Rejected) or takes_out(old, new)
