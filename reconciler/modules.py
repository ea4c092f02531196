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
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Module:
    """One worker module as it stands: another content or another environment is another question.

    What a worker is given beyond its own `env`, such as QUEUE_NAME, makes none: `given` is the first pool's.
    """

    name: str
    env: tuple[tuple[str, str], ...]
    stamp: tuple[int, int] | None  # modification time in ns and size; None if there is no such file
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def settles_in(self) -> float:
        """Seconds until it has stood long enough to be believed whole."""
        age = time.time() - self.stamp[0] / 1e9 if self.stamp else SETTLE_SECONDS
        return SETTLE_SECONDS - age if 0 <= age < SETTLE_SECONDS else 0.0


class Modules:
    """The verdicts on worker modules. `on_verdict` is called when a check has ended."""

    def __init__(self, runtime: Runtime, on_verdict: Callable[[], None]) -> None:
        self._runtime = runtime
        self._on_verdict = on_verdict
        self._verdicts: dict[Module, str | None] = {}
        self._running: asyncio.Task[None] | None = None
        self._child: subprocess.Popen[str] | None = None
        self._closed = False
        self._digests: dict[tuple[str, tuple[int, int] | None], str] = {}

    def faults(self, desired: Desired) -> dict[Pool, str] | None:
        """What is wrong with the Python workers of `desired`, by pool; None while they are still being checked."""
        modules = self._modules_of(desired)
        unknown = {module for module in modules.values() if module not in self._verdicts}
        if unknown:
            self._check(unknown)
            return None
        return {pool: fault for pool, module in modules.items() if (fault := self._verdicts[module]) is not None}

    async def settled(self, desired: Desired) -> dict[Pool, str]:
        """`faults`, once there is a verdict."""
        while (faults := self.faults(desired)) is None:
            if self._running is not None:
                await asyncio.wait({self._running})
        return faults

    def code(self, desired: Desired) -> dict[str, str]:
        """The digest of the content of each worker module of `desired`, by name."""
        return {module.name: self._digest(module) for module in self._modules_of(desired).values()}

    def _digest(self, module: Module) -> str:
        key = module.name, module.stamp
        if key not in self._digests:
            self._digests = {k: v for k, v in self._digests.items() if k[0] != module.name}
            self._digests[key] = digest_of(self._runtime.workers / f"{module.name}.py")
        return self._digests[key]

    def _modules_of(self, desired: Desired) -> dict[Pool, Module]:
        stamps: dict[str, tuple[int, int] | None] = {}
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
        if wait := max(module.settles_in for module in modules):
            await asyncio.sleep(wait)
            self._on_verdict()
            return
        verdicts = await asyncio.to_thread(ask, modules, self._runtime, self._asked)
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


def stamp_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def digest_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def ask(
    modules: Iterable[Module], runtime: Runtime, asked: Callable[[subprocess.Popen[str]], None] = lambda _: None
) -> dict[Module, str | None]:
    """Has the modules imported in another process; blocks. A verdict is None for a good one, else what is wrong.

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
        return dict.fromkeys(modules, f"the module could not be checked: {error}")
    return {module: verdict_of(answers[i] if i < len(answers) else None) for i, module in enumerate(modules)}


def verdict_of(answer: Mapping[str, Any] | None) -> str | None:
    if answer is None:
        return "the module could not be checked: its check ended without an answer"
    return None if answer["ok"] else str(answer["error"])
