"""`/worker/restart/…`: processes are drained and replaced, as many at a time as the pool's `max_unavailable` allows.

It is a wish to the loop, and no edit of the file: that says how many workers there are, not how old they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.diff import RestartWish
from reconciler.web.answers import ApiError, answer, invalid, read_json, text_field, wait_of
from reconciler.web.context import Context, context_of
from reconciler.web.edits import no_such_queue
from state.processes import ObservedWorker, Pool, WorkerState

FIELDS = ("worker_name", "pid")


async def restart(request: Request) -> Response:
    context, seconds = context_of(request), wait_of(request)
    name = request.path_params["queue_name"]
    body = await read_json(request, optional=True)
    targets = targets_of(name, body, context)
    old = {w.pid for w in context.workers(name)}
    context.loop.restart(RestartWish(w.pool, w.slot, w.pid, at_once=body.get("pid") is not None) for w in targets)
    done = await context.loop.until(lambda _: restarted(targets, old, context) == len(targets), seconds)
    return answer(answered(name, targets, old, done, context), 200 if done else 202)


def answered(
    name: str, targets: list[ObservedWorker], old: Collection[int | None], done: bool, context: Context
) -> dict[str, Any]:
    count = restarted(targets, old, context)
    of = f"{count}" if done else f"{count} of {len(targets)}"
    text = f"Restarted {of} workers of queue {name}" if targets else f"Queue {name} has no workers to restart"
    return {
        "message": text if done else f"{text}; the rest follows",
        "queue_name": name,
        "restarted": count,
        "revision": context.loop.intake.in_force.revision,
        "converged": done,
    }


def targets_of(name: str, body: dict[str, Any], context: Context) -> list[ObservedWorker]:
    """The workers that are meant. Raises ApiError 404 if there is no such queue, worker or pid, 422 on wrong types."""
    for key in body:
        if key not in FIELDS:
            raise invalid(key, f"unknown field (known are {', '.join(FIELDS)})")
    worker = text_field(body, "worker_name") if body.get("worker_name") is not None else None
    pid = pid_of(body)
    queue = context.loop.intake.in_force.desired.queues.get(name)
    if queue is None:
        raise no_such_queue(name)
    if worker is not None and worker not in queue.workers:
        known = ", ".join(queue.workers) or "it has none"
        raise ApiError(404, f"queue {name} has no worker {worker[:100]} (known are {known})")
    there = [w for w in context.workers(name) if not w.leaves and worker in (None, w.pool.worker)]
    found = [w for w in there if pid in (None, w.pid)]
    if pid is not None and not found:
        of = f"worker {worker} of " if worker else ""
        raise ApiError(404, f"no process {pid} belongs to {of}queue {name} (see GET /worker/{name})")
    return found


def pid_of(body: dict[str, Any]) -> int | None:
    pid = body.get("pid")
    if pid is not None and (not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31):
        raise invalid("pid", "this is the number of a process")
    return pid


def restarted(targets: list[ObservedWorker], old: Collection[int | None], context: Context) -> int:
    """How many of the targets have a successor that is ready."""
    wanted = Counter(target.pool for target in targets)
    there = [w for w in context.workers(targets[0].pool.queue) if w.pool in wanted] if targets else []
    left = {(w.pool, w.slot, w.pid) for w in there}
    gone = sum((t.pool, t.slot, t.pid) not in left for t in targets)
    return min(gone, sum(min(number, fresh(pool, there, old)) for pool, number in wanted.items()))


def fresh(pool: Pool, workers: list[ObservedWorker], old: Collection[int | None]) -> int:
    return sum(w.pool == pool and w.pid not in old and w.state == WorkerState.READY for w in workers)
