"""Server-sent events: what comes, a ping now and then so that dead connections show, an end with the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

PING_SECONDS = 15.0
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Sent:
    """One event. `id` is what a client that lost the connection sends back as Last-Event-ID."""

    data: str
    id: str | None = None
    event: str | None = None

    def encode(self) -> bytes:
        head = (f"event: {self.event}\n" if self.event else "") + (f"id: {self.id}\n" if self.id else "")
        # A carriage return would end the line of the protocol, and what follows it would be lost.
        lines = self.data.replace("\r", "\u240d").split("\n")
        return (head + "".join(f"data: {line}\n" for line in lines) + "\n").encode(errors="replace")


def stream(request: Request, source: AsyncIterator[Sent], stopping: asyncio.Event) -> Response:
    if request.method == "HEAD":  # it has no body, and a body without end would keep the connection from the next
        return Response(media_type="text/event-stream", headers=HEADERS)
    return StreamingResponse(_bytes(source, stopping), media_type="text/event-stream", headers=HEADERS)


async def _bytes(source: AsyncIterator[Sent], stopping: asyncio.Event) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    stop = asyncio.ensure_future(stopping.wait())
    step: asyncio.Future[Sent] | None = None
    try:
        while not stopping.is_set():
            step = step or asyncio.ensure_future(anext(source))
            waiting: set[asyncio.Future[Any]] = {step, stop}
            await asyncio.wait(waiting, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not step.done():
                yield b": ping\n\n"
                continue
            done, step = step, None
            if isinstance(done.exception(), StopAsyncIteration):
                return
            yield done.result().encode()
    finally:
        stop.cancel()
        await _close(source, step)


async def _close(source: AsyncIterator[Sent], step: asyncio.Future[Sent] | None) -> None:
    """Ends the source where it waits, so that it lets go of what it watches."""
    if step is not None:
        step.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await step
    if (close := getattr(source, "aclose", None)) is not None:
        await close()
