"""Queues and workers as the JSON of contract.md §5."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.web.context import Context
from state.desired import Queue
from state.observed import ObservedQueue
from state.processes import ObservedWorker
from state.traits import TRAITS


def iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def worker_view(worker: ObservedWorker, context: Context) -> dict[str, Any]:
    rss, cpu = context.usage.of(worker.pid) if worker.running and worker.pid else (None, None)
    return {
        "pid": worker.pid,
        "worker_name": worker.pool.worker,
        "queue_name": worker.pool.queue,
        "slot": worker.slot,
        "state": str(worker.state),
        "started_at": iso(worker.started_at),
        "restarts": worker.restarts,
        "consumer_tag": worker.consumer_tag,
        "processed": worker.processed,
        "failed": worker.failed,
        "rss_bytes": rss,
        "cpu_percent": cpu,
        "log_url": f"/logs/workers/logs/{worker.pid}" if worker.pid else None,
        "view_url": view_url(worker.pid),
        "busy": worker.busy,
        "reason": worker.reason,
        "retry_at": iso(worker.retry_at),
    }


def view_url(pid: int | None) -> str | None:
    return f"/workers/view-logs/{pid}" if pid else None


def queue_view(
    name: str,
    seen: ObservedQueue | None,
    workers: list[ObservedWorker],
    status: Mapping[str, Any] | None,
    context: Context,
) -> dict[str, Any]:
    """One queue of `/queue/list`. Properties of a queue that is not at the broker yet are what the file wants."""
    wanted = context.loop.intake.in_force.desired.all_queues().get(name)
    running = [w for w in workers if w.running]
    known = seen if seen is not None and seen.type is not None else None
    return {
        "name": name,
        "type": known.type if known else (wanted.type if wanted else None),
        "durable": known.durable if known else (wanted.durable if wanted else None),
        "arguments": dict(known.arguments or {}) if known else (wanted.broker_arguments() if wanted else {}),
        "vhost": context.loop.broker.vhost,
        "state": seen.state if seen else "missing",
        "messages": seen.messages if seen else 0,
        "messages_ready": seen.ready if seen else 0,
        "messages_unacknowledged": seen.unacknowledged if seen else 0,
        "worker_count": len(running),
        "workers": [worker_view(w, context) for w in workers],
        "worker_pids": [w.pid for w in running if w.pid],
        "managed": wanted is not None,
        "synced": bool(status and status["synced"]),
        "reason": status["reason"] if status else None,
        "paused": status["paused"] if status else None,
        "foreign_bindings": status.get("foreign_bindings", []) if status else [],
    } | (keys_view(context.loop.intake.in_force.desired.queues.get(name, wanted)) if wanted else {})


def keys_view(queue: Queue) -> dict[str, Any]:
    """What the file says of it beside type, durability and arguments: its bindings, and of the others what is set.

    Times are in seconds, sizes in bytes.
    """
    given = {trait.key: getattr(queue, trait.key) for trait in TRAITS}
    given |= {"dead_letter": queue.dead_letter, "drift": queue.drift, "protect": queue.protect or None}
    bindings = [binding.model_dump() for binding in queue.bindings]
    return {"bindings": bindings} | {key: value for key, value in given.items() if value is not None}
