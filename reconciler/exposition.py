"""What is known at one moment → Prometheus' metric families. Pure; the names are the contract of deploy/ and docs.

Labels are names from the file and the numbers of slots, never pids, so that their number stays within bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from reconciler.tally import Counts
from state.observed import ObservedQueue
from state.processes import ObservedWorker, WorkerState

POOL = ("queue", "worker")
SLOT = (*POOL, "slot")
DONE = {
    "messages_processed": "Messages settled well",
    "messages_failed": "Messages rejected, or whose handler raised",
    "messages_redelivered": "Messages that had been delivered before",
    "busy_seconds": "Seconds spent in the handler; its rate is the busy fraction",
    "cpu_seconds": "Processor time",
    "restarts": "Deaths that were not asked for",
}


@dataclass(frozen=True)
class Row:
    """One slot, or one pool with the slots in it. None: there is no such number."""

    labels: tuple[str, ...]
    counts: Counts
    restarts: int
    rss: int
    in_flight: float  # seconds; of a pool, the oldest
    last_message_at: float | None

    @property
    def done(self) -> tuple[float, ...]:
        """In the order of DONE."""
        c = self.counts
        return c.processed, c.failed, c.redelivered, c.busy_seconds, c.cpu_seconds, self.restarts


@dataclass(frozen=True)
class Moment:
    """All of it, taken at `now` (seconds since the epoch)."""

    now: float
    workers: tuple[tuple[ObservedWorker, Row], ...]
    pools: tuple[Row, ...]
    queues: Mapping[str, ObservedQueue]
    status: Mapping[str, Any] | None  # None before the first turn
    turned_at: float = 0.0
    held: int = 0


def families(moment: Moment) -> Iterator[Metric]:
    yield from rows_in("worker", SLOT, [row for _, row in moment.workers])
    yield from rows_in("pool", POOL, list(moment.pools))
    yield from states(moment)
    if moment.status is not None:
        yield from queue_families(moment.queues, moment.status["queues"])
        yield from number_families(moment.status["queues"])
        yield from own_families(moment, moment.status)


def rows_in(kind: str, labels: tuple[str, ...], rows: list[Row]) -> Iterator[Metric]:
    prefix = f"reconciler_{kind}"
    for i, (name, text) in enumerate(DONE.items()):
        yield counter(f"{prefix}_{name}", f"{text}, since the daemon started", labels, rows, i)
    of_pool = kind == "pool"
    since = f"Seconds that the {'oldest ' if of_pool else ''}message in hand is in hand; 0 without one"
    yield gauge(f"{prefix}_in_flight_seconds", since, labels, ((r.labels, r.in_flight) for r in rows))
    last = ((r.labels, r.last_message_at) for r in rows)
    yield gauge(f"{prefix}_last_message_timestamp_seconds", "When a message was last given to it", labels, last)
    rss = "Resident memory; pages that forked workers share count in each" + (" of them" if of_pool else "")
    yield gauge(f"{prefix}_resident_memory_bytes", rss, labels, ((r.labels, r.rss) for r in rows))


def counter(name: str, text: str, labels: tuple[str, ...], rows: list[Row], at: int) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for row in rows:
        family.add_metric(row.labels, row.done[at])
    return family


def gauge(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float | None]]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        if value is not None:
            family.add_metric(of, value)
    return family


def states(moment: Moment) -> Iterator[Metric]:
    seen = (((*row.labels, str(worker.state)), 1) for worker, row in moment.workers)
    yield gauge("reconciler_worker_state", "1 for the state it is in", (*SLOT, "state"), seen)
    numbers = {(*row.labels, str(state)): 0 for row in moment.pools for state in WorkerState}
    for worker, _ in moment.workers:
        numbers[worker.pool.queue, worker.pool.worker, str(worker.state)] += 1
    yield gauge("reconciler_pool_workers", "Workers by state", (*POOL, "state"), numbers.items())


def queue_families(queues: Mapping[str, ObservedQueue], statuses: Mapping[str, Any]) -> Iterator[Metric]:
    seen = {name: queues[name] for name in statuses if name in queues}
    texts = {
        "messages_ready": "Messages that wait, as of the last turn",
        "messages_unacknowledged": "Messages that a consumer holds, as of the last turn",
        "consumers": "Consumers, as of the last turn; only where the broker tells",
    }
    for key, text in texts.items():
        attribute = key.removeprefix("messages_")
        values = (((name,), getattr(queue, attribute)) for name, queue in seen.items())
        yield gauge(f"reconciler_queue_{key}", text, ("queue",), values)
    for key, text in {"synced": "1 if it is as declared", "healthy": "1 if it also works"}.items():
        values = (((name,), int(status[key])) for name, status in statuses.items())
        yield gauge(f"reconciler_queue_{key}", text, ("queue",), values)


def number_families(statuses: Mapping[str, Any]) -> Iterator[Metric]:
    pools = [((name, worker), pool) for name, status in statuses.items() for worker, pool in status["workers"].items()]
    wanted = ((labels, pool["desired"]) for labels, pool in pools)
    yield gauge("reconciler_pool_desired_workers", "How many there are to be", POOL, wanted)
    for bound in ("min", "max"):
        values = ((labels, pool["autoscale"][bound]) for labels, pool in pools if "autoscale" in pool)
        yield gauge(f"reconciler_pool_autoscale_{bound}_workers", f"{bound} of its autoscale", POOL, values)


def own_families(moment: Moment, status: Mapping[str, Any]) -> Iterator[Metric]:
    values = {
        "synced": ("1 if everything is as the file says", int(status["synced"])),
        "healthy": ("1 if all queues work and all workers are ready", int(status["healthy"])),
        "file_rejected": (
            "1 if the file is not valid, so that an older one is in force",
            int(bool(status["file_error"])),
        ),
        "broker_connected": ("1 if the last turn saw the broker", int(status["broker"]["connected"])),
        "held_actions": ("What the file asks for and is not done now", moment.held),
        "pending_actions": ("What the last turn found to do: the drift", len(status["pending"])),
        "last_turn_timestamp_seconds": ("When the last turn ended", moment.turned_at),
        "last_turn_age_seconds": ("How long ago that is", max(0.0, moment.now - moment.turned_at)),
    }
    for name, (text, value) in values.items():
        yield GaugeMetricFamily(f"reconciler_{name}", text, value=value)
