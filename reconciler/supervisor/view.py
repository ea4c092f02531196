"""A slot as the rest of the project sees it. Reads, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconciler.supervisor.report import Report
from state.processes import ObservedWorker, WorkerState

if TYPE_CHECKING:
    from reconciler.supervisor.slot import Slot

SILENT = "it has not said READY=1 over NOTIFY_SOCKET yet"


def observed(slot: Slot) -> ObservedWorker:
    """As it is now."""
    process = slot.process
    report = process.report if process else Report()
    return ObservedWorker(
        pool=slot.spec.pool,
        slot=slot.index,
        pid=process.pid if process else None,
        state=state_of(slot),
        digest=process.record.spec.digest if process else slot.spec.digest,
        started_at=process.record.started_at if process else slot.since,
        restarts=slot.restarts,
        reason=_why(slot, report),
        retry_at=slot.retry_at,
        busy=report.busy and slot.alive,
        consumer_tag=report.consumer_tag,
        processed=report.processed,
        failed=report.failed,
        log_path=process.record.log_path if process else None,
        ended_at=process.record.ended_at if process else None,
        heartbeat_at=report.heartbeat_at,
        redelivered=report.redelivered,
        in_flight_since=report.in_flight_since if slot.alive else None,
        last_message_at=report.last_message_at,
        busy_seconds=report.busy_seconds,
        terms=slot.spec.terms,
        returns=slot.wanted,
        exec_reason=slot.shop.launcher.why_exec(slot.spec),
        stats=dict(report.stats),
    )


def state_of(slot: Slot) -> WorkerState:
    if not slot.process or not slot.process.alive:
        if slot.fatal:
            return WorkerState.FATAL
        return WorkerState.BACKOFF if slot.retry_at is not None else WorkerState.STARTING
    if slot.draining or slot.process.report.stopping:
        return WorkerState.STOPPING
    return WorkerState.READY if slot.process.report.ready else WorkerState.STARTING


def _why(slot: Slot, report: Report) -> str | None:
    match state_of(slot):
        case WorkerState.READY:
            return None
        case WorkerState.BACKOFF | WorkerState.FATAL:
            return slot.reason
        case WorkerState.STARTING if slot in slot.shop.cold or slot in slot.shop.forks:
            return slot.reason or "waits for its turn to start"
        case WorkerState.STARTING if slot.alive:
            return report.status or slot.reason or SILENT
        case _:
            return report.status or slot.reason
