"""Do the worker modules that the file names exist, and do they import? Asked of a process of its own, and remembered.

Importing runs the user's code, so it never happens in the daemon, and the loop never waits for it: until there is a
verdict the last good desired state stays in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reconciler.settings import Runtime
from reconciler.spec import environment
from state.desired import Desired
from state.processes import Pool

CHECK_SECONDS = 120.0
# What the supervisor gives each process of its own: a module that asks for it at import must not fail for that.
STAND_INS = {"SLOT": "0", "LOG_FILE": os.devnull, "NOTIFY_SOCKET": os.devnull}
SETTLE_SECONDS = 0.3  # as for the file: what is saved in pieces is not imported half
# What did not import may do so by now: a package was installed, a database is back, there is memory again.
RETRY_SECONDS = 10.0
MAX_RETRY_SECONDS = 300.0

Stamp = tuple[int, int]  # modification time in ns, and size
File = tuple[str, int, int]  # its path, and its stamp


@dataclass(frozen=True)
class Module:
    """One worker module as it stands: another content or another environment is another question.

    What a worker is given beyond its own `env`, such as QUEUE_NAME, makes none: `given` is the first pool's.
    """

    name: str
    env: tuple[tuple[str, str], ...]
    stamp: Stamp | None  # modification time in ns and size; None if there is no such file
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def settles_in(self) -> float:
        """Seconds until it has stood long enough to be believed whole."""
        return _settles_in(self.stamp)


@dataclass(frozen=True)
class Verdict:
    """What came of an import: what is wrong, if anything, and the other files of the folder that it has read."""

    fault: str | None
    files: tuple[File, ...] = ()
    listings: tuple[tuple[Path, int], ...] = ()  # folders, and when files were last added to them or removed, in ns
    at: float = field(default_factory=time.monotonic, compare=False)
    again: float = field(default_factory=lambda: RETRY_SECONDS, compare=False)  # how long its fault holds, in seconds

    @property
    def is_old(self) -> bool:
        """Is it time to ask again? What is wrong may have been outside the folder."""
        return self.fault is not None and time.monotonic() - self.at >= self.again

    def after(self, old: Verdict | None) -> Verdict:
        """This one, asked again later and later while the fault stays the same."""
        is_same = old is not None and self.fault is not None and self.fault == old.fault
        return replace(self, again=min(2 * old.again, MAX_RETRY_SECONDS)) if old and is_same else self

    @property
    def holds(self) -> bool:
        """Whether all it was built on stands as it did. What fails may be mended by a file that was not there."""
        return all(stamp_of(Path(path)) == (at, size) for path, at, size in self.files) and (
            self.fault is None or all(listing_of(folder) == at for folder, at in self.listings)
        )

    @property
    def settles_in(self) -> float:
        """Seconds until the files have stood long enough to be believed whole."""
        stamps = [stamp_of(Path(path)) for path, _, _ in self.files]
        return max((_settles_in(stamp) for stamp in stamps), default=0.0)


class Modules:
    """The verdicts on worker modules. `on_verdict` is called when a check has ended."""

    def __init__(self, runtime: Runtime, on_verdict: Callable[[], None]) -> None:
        self._runtime = runtime
        self._on_verdict = on_verdict
        self._verdicts: dict[Module, Verdict] = {}
        self._running: asyncio.Task[None] | None = None
        self._child: subprocess.Popen[str] | None = None
        self._closed = False
        self._digests: dict[tuple[object, ...], str] = {}

    def faults(self, desired: Desired) -> dict[Pool, str] | None:
        """What is wrong with the Python workers of `desired`, by pool; None while they are still being checked."""
        modules = self._modules_of(desired)
        unknown = {module for module in set(modules.values()) if not self._is_known(module)}
        if unknown:
            self._check(unknown)
            return None
        if old := {module for module in modules.values() if self._verdicts[module].is_old}:
            self._check(old)  # until there is another verdict, this one holds
        faults = {pool: self._verdicts[module].fault for pool, module in modules.items()}
        return {pool: fault for pool, fault in faults.items() if fault is not None}

    def _is_known(self, module: Module) -> bool:
        verdict = self._verdicts.get(module)
        return verdict is not None and verdict.holds

    @property
    def folders(self) -> set[Path]:
        """Where the files lie that the modules have read, beside the folder itself."""
        return {Path(path).parent for verdict in self._verdicts.values() for path, _, _ in verdict.files}

    async def settled(self, desired: Desired) -> dict[Pool, str]:
        """`faults`, once there is a verdict."""
        while (faults := self.faults(desired)) is None:
            if self._running is not None:
                await asyncio.wait({self._running})
        return faults

    def code(self, desired: Desired) -> dict[str, str]:
        """The digest of the content of each worker module of `desired`, and of what it reads of the folder, by name."""
        read: dict[tuple[str, Stamp | None], set[File]] = {}
        for module in self._modules_of(desired).values():
            verdict = self._verdicts.get(module)
            read.setdefault((module.name, module.stamp), set()).update(verdict.files if verdict else ())
        return {name: self._digest(name, stamp, sorted(files)) for (name, stamp), files in read.items()}

    def _digest(self, name: str, stamp: Stamp | None, files: list[File]) -> str:
        key = name, stamp, *files
        if key not in self._digests:
            self._digests = {k: v for k, v in self._digests.items() if k[0] != name}
            self._digests[key] = digest_of(self._runtime.workers / f"{name}.py", *(Path(path) for path, _, _ in files))
        return self._digests[key]

    def _modules_of(self, desired: Desired) -> dict[Pool, Module]:
        stamps: dict[str, Stamp | None] = {}
        found = {}
        for pool, worker in desired.pools():
            if worker.command is None:
                if pool.worker not in stamps:
                    stamps[pool.worker] = stamp_of(self._runtime.workers / f"{pool.worker}.py")
                env = tuple(sorted(worker.env.items()))
                given = tuple(environment(pool, worker, self._runtime).items())
                found[pool] = Module(pool.worker, env, stamps[pool.worker], given)
        return found

    def _check(self, modules: set[Module]) -> None:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._ask(sorted(modules, key=lambda m: (m.name, m.env))))

    async def _ask(self, modules: list[Module]) -> None:
        before = [self._verdicts[module].settles_in for module in modules if module in self._verdicts]
        if wait := max(0.0, *(module.settles_in for module in modules), *before):
            await asyncio.sleep(wait)
            self._on_verdict()
            return
        verdicts = await asyncio.to_thread(ask, modules, self._runtime, self._asked)
        verdicts = {module: verdict.after(self._verdicts.get(module)) for module, verdict in verdicts.items()}
        self._verdicts = {**self._verdicts, **verdicts} if len(self._verdicts) < 10_000 else verdicts
        self._on_verdict()

    def _asked(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        if self._closed:
            child.kill()

    async def close(self) -> None:
        """Ends a check that is under way: nobody waits for its verdict any more."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=1)


def available(folder: Path) -> list[str]:
    """The names of the worker modules in the user's folder."""
    try:
        names = [p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")]
    except OSError:
        return []
    return sorted(name for name in names if name not in RESERVED)


# Modules of our own in the package `workers`: a user's file of such a name is never taken for a worker.
RESERVED = frozenset({"base", "runtime"})


def stamp_of(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def listing_of(folder: Path) -> int:
    """When a file was last added to it or removed, in ns; 0 if it is not there."""
    stamp = stamp_of(folder)
    return stamp[0] if stamp else 0


def _settles_in(stamp: Stamp | None) -> float:
    age = time.time() - stamp[0] / 1e9 if stamp else SETTLE_SECONDS
    return SETTLE_SECONDS - age if 0 <= age < SETTLE_SECONDS else 0.0


def digest_of(*paths: Path) -> str:
    """Of their contents, one after the other; empty if one cannot be read."""
    digest = hashlib.sha256()
    try:
        for path in paths:
            digest.update(path.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()[:16]


def ask(
    modules: Iterable[Module], runtime: Runtime, asked: Callable[[subprocess.Popen[str]], None] = lambda _: None
) -> dict[Module, Verdict]:
    """Has the modules imported in another process; blocks.

    `asked` is called with that process, to be able to end it.
    """
    modules = list(modules)
    question = json.dumps([{"module": m.name, "env": {**STAND_INS, **dict(m.given)}} for m in modules])
    command = [runtime.python, "-P", runtime.entry, "check"]
    env = {**os.environ, "WORKERS_FOLDER": str(runtime.workers)}
    try:
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env,
            cwd=runtime.workers.parent,
        ) as child:  # fmt: skip
            asked(child)
            try:
                told, _ = child.communicate(question, CHECK_SECONDS)
            finally:
                child.kill()
        answers = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return dict.fromkeys(modules, Verdict(f"the module could not be checked: {error}"))
    answers += [None] * (len(modules) - len(answers))  # it ended before it had come to them
    return {module: verdict_of(answer, runtime.workers) for module, answer in zip(modules, answers, strict=False)}


def verdict_of(answer: Mapping[str, Any] | None, folder: Path) -> Verdict:
    if answer is None:
        return Verdict("the module could not be checked: its check ended without an answer")
    files = tuple((str(path), int(at), int(size)) for path, at, size in answer.get("files", ()))
    folders = sorted({folder, *(Path(path).parent for path, _, _ in files)})
    return Verdict(
        None if answer["ok"] else str(answer["error"]), files, tuple((place, listing_of(place)) for place in folders)
    )
