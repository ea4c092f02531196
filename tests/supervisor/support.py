"""Workers small enough to start by the hundred, and a supervisor to run them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reconciler.supervisor import Event, Supervisor, proc, slot
from state.processes import ObservedWorker, Pool, WorkerSpec, WorkerState
from tests.waiting import async_eventually

POOL = Pool("orders", "handle_order")

TELL = """
import os, signal, socket, sys, time
def tell(text):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\\0" + address[1:] if address.startswith("@") else address)
        out.send(text.encode())
def wait():
    while True:
        time.sleep(0.2)  # a signal that comes just before it is heard after it
def on_term(*_):
    sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
"""
GOOD = TELL + "tell('READY=1')\nwait()\n"
DEAF = TELL + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntell('READY=1')\nwait()\n"


def python(script: str) -> tuple[str, ...]:
    """A command that runs it, without site packages: twice as fast to start."""
    return (sys.executable, "-I", "-S", "-c", script)


def spec(
    script: str = GOOD,
    pool: Pool = POOL,
    digest: str = "one",
    grace: float = 30.0,
    env: Mapping[str, str] | None = None,
    command: tuple[str, ...] = (),
    cwd: str = "/",
) -> WorkerSpec:
    return WorkerSpec(pool, command or python(script), env or {}, cwd, grace, digest)


@dataclass
class Running:
    """A supervisor under test, with all it has said."""

    supervisor: Supervisor
    events: list[Event] = field(default_factory=list)

    def worker(self, slot: int = 0, pool: Pool = POOL) -> ObservedWorker:
        return next(seen for seen in self.supervisor.observe() if (seen.pool, seen.slot) == (pool, slot))

    def state(self, slot: int = 0, pool: Pool = POOL) -> WorkerState | None:
        states = {(seen.pool, seen.slot): seen.state for seen in self.supervisor.observe()}
        return states.get((pool, slot))

    def kinds(self, slot: int = 0, pool: Pool = POOL) -> list[str]:
        return [event.kind for event in self.events if (event.pool, event.slot) == (pool, slot)]


@contextmanager
def patience() -> Iterator[None]:
    """Nobody comes out of backoff by itself: however late a test looks, it finds the first one that it waits for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slot, "backoff", lambda failures, jitter: 3600.0 if failures > 0 else 0.0)
        yield


@asynccontextmanager
async def supervised(folder: Path) -> AsyncIterator[Running]:
    events: list[Event] = []
    supervisor = Supervisor(folder, events.append)
    await supervisor.start()
    try:
        yield Running(supervisor, events)
    finally:
        await supervisor.close(grace=2.0)
    assert supervisor.observe() == ()
    await async_eventually(lambda: zombies() == [])


def zombies() -> list[int]:
    """Children of this process that have ended and were not reaped."""
    stats = [proc.read_stat(pid) for pid in proc.pids()]
    return [stat.pid for stat in stats if stat and stat.parent == os.getpid() and stat.state == "Z"]


def is_gone(pid: int) -> bool:
    stat = proc.read_stat(pid)
    return stat is None or not stat.alive


def log_of(worker: ObservedWorker) -> str:
    """What the process itself has written."""
    lines = Path(worker.log_path or "/dev/null").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if " started: slot " not in line and " ended: slot " not in line)


def fields(record: Path) -> dict[str, Any]:
    """What a file of `processes/` says. A line that is being written counts for nothing, as for the next daemon."""
    found: dict[str, Any] = {}
    for line in filter(None, record.read_text().splitlines()):
        with suppress(ValueError):
            found |= json.loads(line)
    return found
