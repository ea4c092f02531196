"""The numbers behind `/metrics`. What is counted is counted as it happens; all else is looked at when somebody asks."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import Metric

from reconciler import __version__
from reconciler.exposition import Moment, Row, families
from reconciler.plan import Action, Declare, Result
from reconciler.tally import Counts, Tallies
from reconciler.turn import Turn
from state.processes import ObservedWorker, Pool

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Reading = Callable[[int], tuple[int, float] | None]  # resident bytes and CPU seconds of a pid


class Metrics:
    """Tell it of each turn and of each worker that ends; ask `look` in the daemon's loop, `text` anywhere."""

    def __init__(self, now: float | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # the daemon's own processor time, memory and descriptors
        self._tallies = Tallies(time.time() if now is None else now)
        self._turned_at = 0.0
        self._seconds = Histogram(
            "reconciler_reconcile_seconds", "How long turns took", buckets=BUCKETS, registry=self.registry
        )
        self._actions = Counter(
            "reconciler_actions", "Actions done, and how they went", ("action", "result"), registry=self.registry
        )
        self._drift = Counter(
            "reconciler_drift",
            "Turns that found that others had changed something at the broker",
            registry=self.registry,
        )
        for kind in get_args(Action):  # so that a first failure is an increase
            for result in ("ok", "error"):
                self._actions.labels(kind.__name__.lower(), result)
        build = Gauge("reconciler_build_info", "Versions", ("version", "python"), registry=self.registry)
        build.labels(__version__, platform.python_version()).set(1)

    def turned(self, turn: Turn, results: list[Result]) -> None:
        """A turn has ended."""
        self._turned_at = time.time()
        self._seconds.observe(turn.seconds)
        for result in results:
            kind = type(result.action).__name__.lower()
            self._actions.labels(kind, "error" if result.error else "ok").inc()
            if turn.trigger == "drift" and isinstance(result.action, Declare) and result.action.claim:
                self._drift.inc()

    def ended(self, worker: ObservedWorker | None) -> None:
        """A worker's process has ended; its last numbers are kept."""
        if worker is not None:
            self._tallies.take(worker)

    def look(self, turn: Turn | None, workers: Iterable[ObservedWorker], reading: Reading) -> Moment:
        """Everything as it is now; `turn` is the last one."""
        now = time.time()
        seen = tuple((worker, self._row(worker, now, reading)) for worker in workers)
        rows: dict[Pool, list[Row]] = {pool: [] for pool, _ in turn.reading.in_force.desired.pools()} if turn else {}
        for worker, row in seen:
            rows.setdefault(worker.pool, []).append(row)
        pools = tuple(summed(pool, counts, n, rows[pool]) for pool, counts, n in self._tallies.pools(rows))
        if turn is None:
            return Moment(now, seen, pools, {}, None)
        status = turn.status_with(worker for worker, _ in seen)
        return Moment(now, seen, pools, turn.queues, status, self._turned_at, len(turn.plan.held))

    def _row(self, worker: ObservedWorker, now: float, reading: Reading) -> Row:
        rss, cpu = (worker.running and worker.pid and reading(worker.pid)) or (0, 0.0)
        tally = self._tallies.take(worker, cpu)
        since = worker.in_flight_since
        return Row(
            labels=(worker.pool.queue, worker.pool.worker, str(worker.slot)),
            counts=tally.counts,
            restarts=tally.all_restarts,
            rss=rss,
            in_flight=max(0.0, now - since) if since is not None and worker.running else 0.0,
            last_message_at=worker.last_message_at,
        )

    def text(self, moment: Moment) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(_Scrape(self.registry, moment))


class _Collects(Protocol):
    def collect(self) -> Iterable[Metric]: ...


class _Scrape:
    """The registry's own, then those of the moment."""

    def __init__(self, registry: _Collects, moment: Moment) -> None:
        self._registry = registry
        self._moment = moment

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()
        yield from families(self._moment)


def summed(pool: Pool, counts: Counts, restarts: int, rows: list[Row]) -> Row:
    """The row of a pool: its sums, and what its slots show now."""
    last = [row.last_message_at for row in rows if row.last_message_at is not None]
    return Row(
        labels=(pool.queue, pool.worker),
        counts=counts,
        restarts=restarts,
        rss=sum(row.rss for row in rows),
        in_flight=max((row.in_flight for row in rows), default=0.0),
        last_message_at=max(last, default=None),
    )
