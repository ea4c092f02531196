"""`/worker/…`: scale, list, and the workers of one queue."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.modules import available
from reconciler.turn import Turn
from reconciler.web.answers import ApiError, answer, invalid, read_json, text_field, wait_of
from reconciler.web.context import Context, context_of, writes_file
from reconciler.web.edits import no_such_queue, set_counts
from reconciler.web.views import view_url, worker_view
from state.desired import MAX_COUNT, Desired, Queue, Worker
from state.processes import ObservedWorker, Pool, WorkerState

# -- scale -------------------------------------------------------------------------------------------------------


@writes_file
async def scale(request: Request) -> Response:
    context, seconds = context_of(request), wait_of(request)
    name = request.path_params["queue_name"]
    body = await read_json(request)
    count = count_of(body)
    queue = await queue_of(name, context)
    pool = Pool(name, await worker_of(body, name, queue, context))
    refuse_autoscaled(pool, queue)
    before = alive(pool, context)
    write = await context.write(set_counts(name, {pool.worker: count}), request)
    done = await write.converged(lambda turn: is_scaled(turn, pool, count, context), seconds)
    return answer(scaled(pool, count, before, write.revision, done, context), 200 if done else 202)


def count_of(body: dict[str, Any]) -> int:
    if "count" not in body:
        raise invalid("count", f"this field is missing (a whole number from 0 to {MAX_COUNT})")
    count = body["count"]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_COUNT:
        raise invalid("count", f"this is a whole number from 0 to {MAX_COUNT}")
    return count


async def queue_of(name: str, context: Context) -> Queue:
    queue = (await context.loop.intake.newest()).queues.get(name)
    if queue is None:
        raise no_such_queue(name)
    return queue


async def worker_of(body: dict[str, Any], name: str, queue: Queue, context: Context) -> str:
    """The worker that is meant: the named one, else the only one there is."""
    names = sorted({*queue.workers, *available(context.settings.workers)})
    if body.get("worker_name") is None:
        if len(queue.workers) == 1:
            return next(iter(queue.workers))
        raise ApiError(400, f"worker_name is missing (one of {', '.join(names) or 'none yet'})", available_names=names)
    worker = text_field(body, "worker_name")
    if worker not in names:
        known = ", ".join(names) or "none: put a module into the workers folder"
        raise ApiError(400, f"there is no worker {worker[:100]} (available are {known})", available_names=names)
    if worker not in queue.workers:
        await check_imports(name, worker, context)
    return worker


def refuse_autoscaled(pool: Pool, queue: Queue) -> None:
    worker = queue.workers.get(pool.worker)
    if worker is not None and worker.autoscale is not None:
        bounds = f"{worker.autoscale.min} to {worker.autoscale.max}"
        raise ApiError(
            409,
            f"{pool.worker} on {pool.queue} is autoscaled, {bounds} processes by its messages "
            f"(change autoscale in queues.yaml, or put count in its place)",
        )


async def check_imports(name: str, worker: str, context: Context) -> None:
    asked = Desired(version=1, queues={name: Queue(workers={worker: Worker()})})
    for fault in (await context.modules.settled(asked)).values():
        raise invalid("worker_name", fault)


def alive(pool: Pool, context: Context) -> list[ObservedWorker]:
    return [w for w in context.workers(pool.queue) if w.pool == pool and w.running and w.state != WorkerState.STOPPING]


def is_scaled(turn: Turn, pool: Pool, count: int, context: Context) -> bool:
    workers = [w for w in context.workers(pool.queue) if w.pool == pool]
    if is_paused(turn, pool):
        return not workers
    return len(workers) == count and all(w.state == WorkerState.READY for w in workers)


def is_paused(turn: Turn | None, pool: Pool) -> bool:
    status = turn.status["queues"].get(pool.queue) if turn else None
    return bool(status and status["paused"])


def scaled(
    pool: Pool, count: int, before: list[ObservedWorker], revision: str, done: bool, context: Context
) -> dict[str, Any]:
    workers = alive(pool, context)
    old, new = {w.pid for w in before}, {w.pid for w in workers}
    text = f"{pool.worker} on {pool.queue}: {len(workers)} of {count} workers"
    paused = is_paused(context.loop.last, pool)
    if paused:
        text += f" while the queue is paused (POST /queue/resume/{pool.queue} brings them)"
    return {
        "queue_name": pool.queue,
        "worker_name": pool.worker,
        "previous_count": len(before),
        "current_count": len(workers),
        "target_count": count,
        "workers": [worker_view(w, context) for w in workers],
        "workers_added": len(new - old),
        "workers_removed": len(old - new),
        "status": "scaled" if done else "partial_scale",
        "success": done,
        "paused": paused,
        "message": text if done else f"{text}; the rest follows",
        "revision": revision,
        "converged": done,
    }


# -- list --------------------------------------------------------------------------------------------------------


async def list_workers(request: Request) -> Response:
    context, query = context_of(request), request.query_params
    state = query.get("state")
    if state and state not in list(WorkerState):
        raise ApiError(400, f"state={state[:40]} is none of {', '.join(WorkerState)}")
    workers = [
        w
        for w in everyone(state, context)
        if query.get("queue_name") in (None, "", w.pool.queue)
        and query.get("worker_name") in (None, "", w.pool.worker)
        and state in (None, "", w.state)
    ]
    return answer({"worker_count": len(workers), "workers": [worker_view(w, context) for w in workers]})


def everyone(state: str | None, context: Context) -> list[ObservedWorker]:
    """The workers that are, and for those who ask for it those that have ended."""
    if state == WorkerState.EXITED:
        return list(context.loop.supervisor.history(limit=500))
    return context.workers()


async def workers_of_queue(request: Request) -> Response:
    context = context_of(request)
    return answer(queue_workers(request.path_params["queue_name"], request, context))


async def workers_with_logs(request: Request) -> Response:
    context, body = context_of(request), await read_json(request)
    found = queue_workers(text_field(body, "queue_name"), request, context)
    for worker in found["workers"]:
        url = view_url(worker["pid"])
        full = str(request.base_url).rstrip("/") + url if url else None
        worker["log_file"] = {"view_url": url, "full_url": full}
    return answer(found)


def queue_workers(name: str, request: Request, context: Context) -> dict[str, Any]:
    only = request.query_params.get("worker_name")
    workers = [w for w in context.workers(name) if only in (None, "", w.pool.worker)]
    if name not in context.loop.intake.in_force.desired.all_queues() and not workers:
        raise no_such_queue(name)
    return {"queue_name": name, "worker_count": len(workers), "workers": [worker_view(w, context) for w in workers]}
