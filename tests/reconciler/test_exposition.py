"""What is known at a moment, as Prometheus parses it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from reconciler.diff import diff
from reconciler.errors import Refused
from reconciler.intake import InForce, Reading
from reconciler.metrics import Metrics
from reconciler.plan import Context, Declare, Plan, Result, Start, make_plan
from reconciler.status import Seen, assess
from reconciler.turn import Turn
from state.desired import Desired, Queue
from state.ledger import Holdings
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker
from tests.reconciler.support import desired, specs, there, worker

ORDER = ("queue", "worker", "slot", "state", "action", "result", "le", "version")
FILE = desired(q={"workers": {"w": 2}}, empty={})
QUEUES = {"q": there("q", ready=7, unacknowledged=3), "empty": there("empty")}


def turn(
    file: Desired, broker: dict[str, ObservedQueue] | None, workers: tuple[ObservedWorker, ...], **last: object
) -> Turn:
    observed = ObservedBroker("b", "4", True, broker) if broker is not None else None
    plan: Plan = make_plan(diff(file, observed, Holdings(), specs(file), workers), Context())
    seen = Seen(file, "rev", (), observed, None if observed else "gone", None, workers)
    status = assess(seen, plan, {"seconds": 0.02, "trigger": "file", **last}, commit=None)
    return Turn(1, Reading(in_force=InForce(file, "rev")), plan, seen, status)


def samples(metrics: Metrics, last: Turn | None, *workers: ObservedWorker) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    text = metrics.text(metrics.look(last, workers, lambda pid: (1000 * pid, pid / 10))).decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *(s.labels[k] for k in ORDER if k in s.labels)): s.value for f in families for s in f.samples}


def test_each_worker_and_its_pool() -> None:
    one = worker(0, processed=5, failed=1, redelivered=2, busy_seconds=1.5, last_message_at=4000.0, restarts=3)
    other = replace(worker(1, processed=7, last_message_at=4500.0), in_flight_since=0.0)
    found = samples(Metrics(now=0.0), turn(FILE, QUEUES, (one, other)), one, other)
    for name, first, pool in [
        ("messages_processed_total", 5, 12),
        ("messages_failed_total", 1, 1),
        ("messages_redelivered_total", 2, 2),
        ("busy_seconds_total", 1.5, 1.5),
        ("cpu_seconds_total", 10.0, 20.1),
        ("restarts_total", 3, 3),
        ("resident_memory_bytes", 100_000, 201_000),
        ("last_message_timestamp_seconds", 4000, 4500),
    ]:
        assert found[f"reconciler_worker_{name}", "q", "w", "0"] == first
        assert found[f"reconciler_pool_{name}", "q", "w"] == pytest.approx(pool)
    assert found["reconciler_worker_in_flight_seconds", "q", "w", "0"] == 0
    assert found["reconciler_pool_in_flight_seconds", "q", "w"] > 1e9
    assert found["reconciler_worker_state", "q", "w", "1", "ready"] == 1
    assert found["reconciler_pool_workers", "q", "w", "ready"] == 2
    assert found["reconciler_pool_workers", "q", "w", "backoff"] == 0
    assert found["reconciler_pool_desired_workers", "q", "w"] == 2


def test_a_dead_worker_costs_no_memory_and_holds_no_message() -> None:
    dead = worker(0, "backoff", in_flight_since=1.0, processed=4)
    found = samples(Metrics(now=0.0), turn(FILE, QUEUES, (dead,)), dead)
    assert found["reconciler_worker_resident_memory_bytes", "q", "w", "0"] == 0
    assert found["reconciler_worker_in_flight_seconds", "q", "w", "0"] == 0
    assert found["reconciler_worker_messages_processed_total", "q", "w", "0"] == 4


def test_queues_and_what_cannot_be_seen_of_them() -> None:
    unseen = {"q": there("q", ready=7, unacknowledged=None)}
    found = samples(Metrics(now=0.0), turn(FILE, unseen | {"foreign": there("foreign")}, ()))
    assert found["reconciler_queue_messages_ready", "q"] == 7
    assert ("reconciler_queue_messages_unacknowledged", "q") not in found
    assert ("reconciler_queue_consumers", "q") not in found
    assert ("reconciler_queue_messages_ready", "foreign") not in found, "names that are not in the file are not bounded"
    assert found["reconciler_queue_healthy", "q"] == 0
    assert found["reconciler_queue_synced", "empty"] == 0


def test_the_reconciler_itself() -> None:
    metrics = Metrics(now=0.0)
    assert ("reconciler_synced",) not in samples(metrics, None), "nothing is known before the first turn"
    workers = (worker(0), worker(1))
    found = samples(metrics, well := turn(FILE, QUEUES, workers), *workers)
    assert found["reconciler_actions_total", "delete", "error"] == 0, "the first failure is an increase"
    metrics.turned(well, [])
    found = samples(metrics, well, *workers)
    values = {name: found[f"reconciler_{name}",] for name in ("healthy", "broker_connected", "file_rejected")}
    assert values == {"healthy": 1, "broker_connected": 1, "file_rejected": 0}
    assert found["reconciler_reconcile_seconds_count",] == 1
    assert found["reconciler_reconcile_seconds_sum",] == 0.02
    assert 0 <= found["reconciler_last_turn_age_seconds",] < 60
    gone = turn(FILE, None, workers)
    assert samples(metrics, gone, *workers)["reconciler_broker_connected",] == 0


def test_it_is_synced_as_soon_as_its_workers_say_so() -> None:
    """As in `/status`, between turns too: both tell one moment, or an alert and a person contradict each other."""
    workers = (worker(0), worker(1))
    metrics, before = Metrics(now=0.0), turn(FILE, QUEUES, (worker(0), worker(1, "starting")))
    found = samples(metrics, before, *workers)
    for name in ("healthy", "queue_healthy"):
        assert {found[key] for key in found if key[0] == f"reconciler_{name}"} == {1}
    well = turn(FILE, QUEUES, workers)
    found = samples(metrics, well, workers[0], worker(1, "backoff"))
    assert found["reconciler_healthy",] == found["reconciler_queue_healthy", "q"] == 0
    assert found["reconciler_queue_healthy", "empty"] == 1


def test_actions_by_kind_and_result_and_drift() -> None:
    metrics = Metrics(now=0.0)
    start = Start(specs(FILE)[worker(0).pool], 0)
    make = Declare("q", Queue(), claim=True)
    drifted = turn(FILE, {}, (), trigger="drift")
    metrics.turned(drifted, [Result(start), Result(start), Result(make, Refused("no"))])
    metrics.turned(drifted, [])
    found = samples(metrics, drifted)
    assert found["reconciler_actions_total", "start", "ok"] == 2
    assert found["reconciler_actions_total", "declare", "error"] == 1
    assert found["reconciler_drift_total",] == 1
    assert found["reconciler_pending_actions",] > 0


def test_two_of_them_do_not_share_a_registry() -> None:
    assert isinstance(Metrics().registry, CollectorRegistry)
    Metrics()
