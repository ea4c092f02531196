"""What each supervisor is given to run: the same commands, the same environment."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
QUEUE = "fleet"
PREFETCH = 10
LIGHT = (sys.executable, "-P", str(HERE / "handlers" / "light.py"))


@dataclass(frozen=True)
class Job:
    """One program. `python` says that it is a worker of our runtime, which the reconciler runs by its name."""

    name: str
    command: tuple[str, ...]
    count: int
    python: bool = False


def runtime(count: int) -> Job:
    """Our runtime with a handler that does nothing; ready once it consumes."""
    return Job("work", (sys.executable, "-P", str(ROOT / "workers" / "__main__.py"), "run", "work"), count, True)


def light(count: int) -> Job:
    """Imports pika and json, says that it is ready, waits."""
    return Job("light", LIGHT, count, True)


def program(count: int) -> Job:
    """The same, and nobody is told that it is a Python worker: everybody executes it."""
    return Job("program", LIGHT, count)


def lines() -> Job:
    """Writes lines when it is told to."""
    return Job("lines", (sys.executable, "-P", str(HERE / "lines.py")), 1)
