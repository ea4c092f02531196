"""A thousand workers under the reconciler alone: started, taken over by the next daemon, drained."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

from . import jobs, proc
from .managers import OURS
from .managers.base import until
from .managers.ours import Reconciler
from .rounds import LONG, MIB, Plan, Sample, memory, start, stop, visiting


def visit_many(plan: Plan, count: int) -> Sample:
    job = jobs.runtime(count)
    with visiting(OURS, None, dataclasses.replace(plan, workers=count), [job]) as manager:
        assert isinstance(manager, Reconciler)
        started = start(manager, job)
        until(lambda: manager.count_ready(job) == count, "all are ready", LONG)
        total = memory(manager)
        adopted = adoption(manager)
        return {
            "many start": started,
            "many memory": total,
            "many daemon pss": proc.pss(manager.daemons()) / MIB,
            "many daemon rss": proc.rss(manager.daemons()) / MIB,
            "many adopted": adopted,
            "many adopted, imports apart": adopted - importing(),
            "many stop": stop(manager, job),
        }


def adoption(manager: Reconciler) -> float:
    """Seconds from the start of the next daemon until it has every worker of a killed one in hand."""
    before = manager.ready()
    assert manager.daemon is not None
    manager.daemon.kill()
    manager.daemon.wait()
    began = time.monotonic()
    manager.run()
    until(lambda: manager.ready() >= before, "the next daemon has all of them in hand", LONG)
    taken = time.monotonic() - began
    if manager.ready() != before:
        raise RuntimeError("the next daemon has started workers beside those of the one before")
    return taken


def importing() -> float:
    """Seconds that the interpreter and the daemon's imports take of any start, at least."""
    taken = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import reconciler.cli, reconciler.daemon"], check=True)
        taken.append(time.monotonic() - began)
    return min(taken)
