"""One visit: a supervisor is started on an empty folder, measured with one kind of worker, and cleared away."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import jobs, proc
from .jobs import Job
from .managers import MANAGERS, Manager, Site
from .managers.base import until

MIB = 1024 * 1024
LONG = 600.0  # seconds for anything that a supervisor may take its time for
SETTLE = 1.0  # seconds before a measurement of what is at rest
CALM = 10.0  # … and until everybody has done with the deaths that came before


@dataclass(frozen=True)
class Plan:
    """What a visit does. Seconds, and numbers of things."""

    amqp_url: str
    management_url: str
    workers: int
    kills: int
    idle: float
    lines: int


Sample = dict[str, float]


@contextmanager
def visiting(name: str, peer: Path | None, plan: Plan, programs: Sequence[Job]) -> Iterator[Manager]:
    """The daemon, up and with no worker yet. Afterwards nothing of it is left."""
    folder = Path(tempfile.mkdtemp(prefix=f"fleet-{name}-"))
    manager = MANAGERS[name](Site(folder, peer, plan.amqp_url, plan.management_url, plan.lines))
    try:
        manager.start(programs)
        yield manager
    finally:
        manager.close()
        shutil.rmtree(folder, ignore_errors=True)


def visit_runtime(name: str, peer: Path | None, plan: Plan) -> Sample:
    """Workers of our runtime that consume."""
    job = jobs.runtime(plan.workers)
    with visiting(name, peer, plan, [job]) as manager:
        before = proc.cpu(manager.overhead())
        return {
            "start": start(manager, job),
            "start cpu": proc.cpu(manager.roll.pids | manager.overhead()) - before,
            "memory": memory(manager),
            "daemon memory": daemon_memory(manager),
            "back": back_again(manager, plan.kills),
            "idle": idle(manager, plan.idle),
            "stop": stop(manager, job),
        }


def visit_light(name: str, peer: Path | None, plan: Plan) -> Sample:
    """Python workers that do nothing."""
    job = jobs.light(plan.workers)
    with visiting(name, peer, plan, [job]) as manager:
        before = proc.cpu(manager.overhead())
        return {
            "light start": start(manager, job),
            "light start cpu": proc.cpu(manager.roll.pids | manager.overhead()) - before,
            "light memory": memory(manager),
            "light back": back_again(manager, plan.kills),
            "light stop": stop(manager, job),
        }


def visit_program(name: str, peer: Path | None, plan: Plan) -> Sample:
    """Programs that do nothing, and one that writes."""
    job, writer = jobs.program(plan.workers), jobs.lines()
    with visiting(name, peer, plan, [job, writer]) as manager:
        return {
            "program start": start(manager, job),
            "program back": back_again(manager, plan.kills),
            "program stop": stop(manager, job),
            "lines": lines(manager, writer),
        }


def start(manager: Manager, job: Job) -> float:
    """Seconds from the request until the last is ready."""
    known = manager.roll.pids
    asked = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(manager.up, job)
        ready = manager.roll.wait_new(known, job.count, LONG)
        asking.result()
    return max(ready.values()) - asked


def memory(manager: Manager) -> float:
    """MiB of PSS, of the workers and of all that it takes to run them."""
    time.sleep(SETTLE)
    return proc.pss(manager.roll.pids | manager.overhead()) / MIB


def daemon_memory(manager: Manager) -> float:
    """MiB of PSS, of all that it takes to run the workers."""
    return proc.pss(manager.overhead()) / MIB


def back_again(manager: Manager, kills: int) -> float:
    """Seconds from kill -9 of one worker until another is ready in its place; the median."""
    taken = []
    for pid in itertools.islice(living(manager), kills):
        known = manager.roll.pids
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        taken.append(min(manager.roll.wait_new(known, 1, LONG).values()) - killed)
    return statistics.median(taken)


def living(manager: Manager) -> list[int]:
    return sorted(manager.roll.pids & proc.parents().keys())


def idle(manager: Manager, seconds: float) -> float:
    """Percent of a core that the daemon and its helpers take while nothing happens."""
    time.sleep(CALM)
    before, began = {pid: proc.cpu([pid]) for pid in manager.overhead()}, time.monotonic()
    time.sleep(seconds)
    spent = sum(max(0.0, proc.cpu([pid]) - past) for pid, past in before.items())
    return 100 * spent / (time.monotonic() - began)


def stop(manager: Manager, job: Job) -> float:
    """Seconds from the request until the last process is gone."""
    ends = proc.Ends(living(manager))
    asked = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(manager.down, job)
        gone = ends.wait(LONG)
        asking.result()
    return gone - asked


def lines(manager: Manager, writer: Job) -> float:
    """Seconds of processor time that the daemon spends on what a worker writes, until it is at rest again."""
    known = manager.roll.pids
    manager.up(writer)
    (pid,) = manager.roll.wait_new(known, 1, LONG)
    time.sleep(SETTLE)
    daemon = manager.overhead()
    before = proc.cpu(daemon)
    os.kill(pid, signal.SIGUSR1)
    until(manager.site.done.exists, "the lines are written", LONG)
    return at_rest(daemon) - before


def at_rest(pids: set[int]) -> float:
    """Their processor time once it grows no more."""
    spent = proc.cpu(pids)
    while True:
        time.sleep(0.5)
        now = proc.cpu(pids)
        if now - spent < 0.01:
            return now
        spent = now
