"""What a scrape of /metrics costs: `python -m bench.scrape`. The daemon looks in its loop, and writes in a thread."""

from __future__ import annotations

import os
import time
from pathlib import Path

from reconciler.diff import diff
from reconciler.intake import InForce, Reading
from reconciler.metrics import Metrics
from reconciler.plan import Context, make_plan
from reconciler.settings import Runtime
from reconciler.spec import specs_of
from reconciler.status import Seen, assess
from reconciler.turn import Turn
from reconciler.usage import Usage
from state.desired import Desired
from state.ledger import Holdings
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker, Pool, WorkerState

ROUNDS = 30


def main() -> None:
    for queues, each in ((4, 50), (40, 5), (4, 250)):
        looking, writing, size = cost(queues, each)
        print(
            f"{queues * each:5} workers in {queues:3} pools: {looking * 1000:5.1f} ms to look, "
            f"{writing * 1000:5.1f} ms to write {size / 1024:.0f} KiB"
        )


def cost(queues: int, each: int) -> tuple[float, float, int]:
    """The best of some rounds: seconds to look, seconds to write, bytes."""
    turn, workers = site(queues, each)
    metrics, usage = Metrics(now=0.0), Usage()
    looking, writing, text = [], [], b""
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        moment = metrics.look(turn, workers, usage.reading)
        looked = time.perf_counter()
        text = metrics.text(moment)
        looking.append(looked - begun)
        writing.append(time.perf_counter() - looked)
    return min(looking), min(writing), len(text)


def site(queues: int, each: int) -> tuple[Turn, tuple[ObservedWorker, ...]]:
    """A turn that found everything as it should be. Each worker is read from /proc as this very process."""
    file = Desired.model_validate({"version": 1, "queues": {f"q{i}": {"workers": {"w": each}} for i in range(queues)}})
    specs = specs_of(file, Runtime(workers=Path("workers"), amqp_url="amqp://here/"))
    there = {name: ObservedQueue(name, "classic", True, arguments={}, unacknowledged=0) for name in file.queues}
    workers = tuple(seen(pool, slot, specs[pool].digest) for pool, _ in file.pools() for slot in range(each))
    broker = ObservedBroker("b", "4", True, there)
    plan = make_plan(diff(file, broker, Holdings(), specs, workers), Context())
    found = Seen(file, "rev", (), broker, None, None, workers)
    status = assess(found, plan, {}, commit=None)
    return Turn(1, Reading(InForce(file, "rev")), plan, found, status), workers


def seen(pool: Pool, slot: int, digest: str) -> ObservedWorker:
    return ObservedWorker(
        pool, slot, os.getpid(), WorkerState.READY, digest, 0.0, processed=7, last_message_at=1.0, heartbeat_at=1.0
    )


if __name__ == "__main__":
    main()
