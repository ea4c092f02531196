"""`/logs/…`: pages and streams of the log of one worker process, running or ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from reconciler.journal import read_page
from reconciler.journal.levels import level_of, threshold
from reconciler.web.answers import ApiError, answer, number_of
from reconciler.web.context import Context, context_of
from reconciler.web.streams import Sent, stream
from state.processes import ObservedWorker

MOST_LINES = 10_000
MOST_OFFSET = 2**62


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
    worker = worker_of(request, context_of(request))
    path = log_of(worker)
    if not path.is_file():
        raise gone(worker)
    name = f"{worker.pool.worker}-{worker.slot}-{worker.pid}.log"
    return FileResponse(path, media_type="text/plain; charset=utf-8", filename=name)


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
) -> AsyncIterator[Sent]:
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
