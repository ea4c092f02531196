"""The reconciler as its users run it: a folder with queues.yaml, the command line, the daemon."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.nodes import TestVhost
from tests.system import System

TICKS = os.sysconf("SC_CLK_TCK")


def file_of(count: int, extra: str = "") -> str:
    return "version: 1\nqueues:\n" + "".join(f"  q-{number:05d}: {{}}\n" for number in range(count)) + extra


def site(folder: Path, vhost: TestVhost, text: str) -> System:
    made = System(folder, vhost.amqp_url, vhost.management_url)
    made.write(text)
    return made


def timed(system: System, *command: str, status: int = 0) -> float:
    """Seconds that one command takes, the start of its interpreter included."""
    began = time.monotonic()
    done = system.cli(*command, timeout=900)
    took = time.monotonic() - began
    if done.returncode != status:
        raise RuntimeError(
            f"reconciler {' '.join(command)}: {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
        )
    return took


def cpu_of(pid: int) -> float:
    """Seconds of processor time of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def turn_seconds(system: System) -> float:
    """How long a turn takes that finds nothing to do, as the daemon itself measures it."""
    last = system.post("/sync").json()["last_reconcile"]
    if last["actions"] or last["error"]:
        raise RuntimeError(f"this turn was not idle: {last}")
    return float(last["seconds"])


def idle_share(system: System, seconds: float) -> float:
    """The daemon's share of one core while nothing happens but its resync, in percent."""
    assert system.process is not None
    before, began = cpu_of(system.process.pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_of(system.process.pid) - before) / (time.monotonic() - began)
