"""`/logs/…`: pages and streams of the log of one worker process, running or ended; lines of many merged by time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from reconciler.journal import Found, Origin, Selection, read_page
from reconciler.journal import search as find_lines
from reconciler.journal.levels import level_of, threshold
from reconciler.journal.reader import open_log
from reconciler.journal.stamps import parse_time
from reconciler.web.answers import ApiError, answer, number_of
from reconciler.web.context import Context, context_of
from reconciler.web.streams import Sent, stream
from reconciler.web.views import iso
from state.processes import ObservedWorker

MOST_LINES = 10_000
MOST_OFFSET = 2**62
MOST_PID = 2**31
MOST_ENDED = 500  # workers whose logs are searched beside those of the living
PIECE = 256 * 1024  # bytes of a download sent at once


async def page(request: Request) -> Response:
    context = context_of(request)
    worker = worker_of(request, context)
    lines = number_of(request, "lines", 100, 1, MOST_LINES)
    before = number_of(request, "before", None, 0, MOST_OFFSET)
    q, level = filters_of(request)
    path = log_of(worker)
    whole = worker.ended_at is None  # the last line of one that still writes may be cut short
    try:
        found = await asyncio.to_thread(read_page, path, lines or 100, before, q, level, partial=not whole)
    except OSError:
        raise gone(worker) from None
    return answer({"pid": worker.pid, "log_file": str(path), **asdict(found)})


async def raw(request: Request) -> Response:
    """All files of the log as one, packed ones unpacked."""
    worker = worker_of(request, context_of(request))
    pieces = whole_log(log_of(worker))
    try:
        await asyncio.to_thread(next, pieces)
    except OSError:
        raise gone(worker) from None
    name = f"{worker.pool.worker}-{worker.slot}-{worker.pid}.log".encode("ascii", "replace").decode()
    headers = {"Content-Disposition": f'attachment; filename="{name.translate(NO_QUOTES)}"'}
    if request.method == "HEAD":
        return Response(media_type="text/plain; charset=utf-8", headers=headers)
    return StreamingResponse(pieces, media_type="text/plain; charset=utf-8", headers=headers)


NO_QUOTES = str.maketrans(dict.fromkeys('"\\/', "_"))


def whole_log(path: Path) -> Iterator[bytes]:
    """Nothing first, once it is open; then its bytes as they are now. Raises OSError."""
    with ExitStack() as stack:
        log = stack.enter_context(open_log(path))
        yield b""
        position = 0
        while data := log.pread(PIECE, position):
            position += len(data)
            yield data


async def search(request: Request) -> Response:
    """The newest lines of all the workers that are selected, running and ended, oldest first."""
    context, query = context_of(request), request.query_params
    lines = number_of(request, "lines", 100, 1, MOST_LINES)
    q, level = filters_of(request)
    since, until = time_asked(request, "since"), time_asked(request, "until")
    origins = origins_of(request, context)
    if query.get("queue_name") and not origins and not is_queue(query["queue_name"], context):
        raise ApiError(404, f"there is no queue {query['queue_name'][:100]} (GET /queue/list shows those there are)")
    wanted = Selection(since, until, q, level)
    found, partial = await asyncio.to_thread(find_lines, origins, wanted, lines or 100)
    return answer({"lines": [line_view(line) for line in found], "partial": partial, "workers": len(origins)})


def origins_of(request: Request, context: Context) -> list[Origin]:
    query = request.query_params
    pid, slot = number_of(request, "pid", None, 0, MOST_PID), number_of(request, "slot", None, 0, MOST_PID)
    everyone = [*context.workers(), *context.loop.supervisor.history(limit=MOST_ENDED)]
    chosen = {
        w.log_path: Origin(w.pid or 0, w.slot, w.pool.worker, w.pool.queue, Path(w.log_path), w.started_at, w.ended_at)
        for w in everyone
        if w.log_path
        and query.get("queue_name") in (None, "", w.pool.queue)
        and query.get("worker_name") in (None, "", w.pool.worker)
        and pid in (None, w.pid)
        and slot in (None, w.slot)
    }
    return list(chosen.values())


def is_queue(name: str, context: Context) -> bool:
    return name in context.loop.intake.in_force.desired.all_queues()


def line_view(line: Found) -> dict[str, Any]:
    return {
        "time": iso(line.time),
        "pid": line.origin.pid,
        "slot": line.origin.slot,
        "worker_name": line.origin.worker,
        "queue_name": line.origin.queue,
        "offset": line.offset,
        "line": line.text,
    }


def time_asked(request: Request, name: str) -> float | None:
    raw = request.query_params.get(name)
    if not raw:
        return None
    try:
        return parse_time(raw, time.time())
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}") from None


async def follow(request: Request) -> Response:
    context = context_of(request)
    worker = worker_of(request, context)
    path = log_of(worker)
    q, level = filters_of(request)
    try:
        offset = start_of(request)
        if offset is None:
            offset = (await asyncio.to_thread(read_page, path, 1, partial=False)).end
    except OSError:
        raise gone(worker) from None
    return stream(request, lines_of(worker, path, offset, q, level, context), context.stopping)


async def lines_of(
    worker: ObservedWorker, path: Path, offset: int, q: str | None, level: str | None, context: Context
) -> AsyncGenerator[Sent, None]:
    def ended() -> bool:
        now = context.loop.supervisor.find(worker.pid) if worker.pid else None
        return now is None or now.ended_at is not None or now.started_at != worker.started_at

    kept = Kept(q, level, await asyncio.to_thread(level_before, path, offset) if level else None)
    async for line in context.follower.follow(path, offset, ended):
        if kept.keeps(line.text):
            yield Sent(line.text, id=str(line.end))
    yield Sent("the worker has ended", event="end")


class Kept:
    """Which lines of a stream pass the filter; a line without a level belongs to the one before it."""

    def __init__(self, q: str | None, level: str | None, before: int | None) -> None:
        self._q = q.casefold() if q else None
        self._least = threshold(level) if level else None
        self._level = before

    def keeps(self, text: str) -> bool:
        self._level = level_of(text) or self._level
        serious = self._least is None or (self._level is not None and self._level >= self._least)
        return serious and (self._q is None or self._q in text.casefold())


def level_before(path: Path, offset: int) -> int | None:
    """The level that a line without one would have at `offset`: a stream may begin within a traceback."""
    levels = [level for line in read_page(path, 200, before=offset).lines if (level := level_of(line))]
    return levels[-1] if levels else None


def worker_of(request: Request, context: Context) -> ObservedWorker:
    pid = request.path_params["pid"]
    found = context.loop.supervisor.find(int(pid)) if pid.isascii() and pid.isdigit() and len(pid) < 12 else None
    if found is None:
        raise ApiError(404, f"no worker has or had the pid {pid[:40]} (GET /worker/list shows those that run)")
    return found


def log_of(worker: ObservedWorker) -> Path:
    if worker.log_path is None:
        raise gone(worker)
    return Path(worker.log_path)


def gone(worker: ObservedWorker) -> ApiError:
    return ApiError(404, f"the log of worker {worker.pid} is not there any more (old logs are removed)")


def filters_of(request: Request) -> tuple[str | None, str | None]:
    q, level = request.query_params.get("q") or None, request.query_params.get("level") or None
    if level is not None:
        try:
            threshold(level)
        except ValueError as error:
            raise ApiError(400, f"level: {error}") from None
    return q, level


def start_of(request: Request) -> int | None:
    """Where a stream goes on: what the client saw last, or what it asks for, or None for the end of the file."""
    last = request.headers.get("last-event-id", "")
    if last.isascii() and last.isdigit() and len(last) < 20:
        return int(last)
    return number_of(request, "after", None, 0, MOST_OFFSET)
