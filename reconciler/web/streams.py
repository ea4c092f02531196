"""Server-sent events: what comes, a ping now and then so that dead connections show, an end with the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

PING_SECONDS = 15.0
GATHER = 0.01  # seconds in which what comes is sent together, once
BURST = 8  # … so many were sent one by one
MOST = 65536  # bytes that are held ready for a client
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


def stream(request: Request, source: AsyncGenerator[Sent, None], stopping: asyncio.Event) -> Response:
    if request.method == "HEAD":  # it has no body, and a body without end would keep the connection from the next
        return Response(media_type="text/event-stream", headers=HEADERS)
    return StreamingResponse(_bytes(source, stopping), media_type="text/event-stream", headers=HEADERS)


async def _bytes(source: AsyncGenerator[Sent, None], stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """The first of a burst go out at once, what follows within `GATHER` seconds as one."""
    yield b"retry: 1000\n\n"
    gathered, pace = Gathered(), Pace(asyncio.get_running_loop().time)
    filling, stop = asyncio.ensure_future(gathered.fill(source)), asyncio.ensure_future(stopping.wait())
    for ended in (filling, stop):
        ended.add_done_callback(gathered.wake)
    try:
        while not stop.done():
            if not await gathered.within(PING_SECONDS):
                yield b": ping\n\n"
                continue
            if wait := pace.wait():
                await asyncio.sleep(wait)
            if data := gathered.take():
                yield data
            if filling.done() and gathered.empty:
                filling.result()  # raises what its source did
                return
        if data := gathered.take():
            yield data
    finally:
        stop.cancel()
        filling.cancel()  # its source ends where it waits, and lets go of what it watches
        await asyncio.wait({filling})


class Pace:
    """`BURST` at once, and then one each `GATHER` seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used = clock() - BURST * GATHER  # up to when all that may go has gone

    def wait(self) -> float:
        """Seconds until the next may go, which it then does."""
        now = self._clock()
        self._used = max(self._used, now - BURST * GATHER) + GATHER
        return max(0.0, self._used - now)


class Gathered:
    """What a source has said and nobody has sent yet, no more than `MOST` bytes and one event."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def fill(self, source: AsyncGenerator[Sent, None]) -> None:
        """Until the source ends."""
        async with aclosing(source):
            async for event in source:
                await self._room.wait()
                self._parts.append(event.encode())
                self._size += len(self._parts[-1])
                self._news.set()
                if self._size > MOST:
                    self._room.clear()

    @property
    def empty(self) -> bool:
        return not self._parts

    def wake(self, *_: object) -> None:
        self._news.set()

    async def within(self, seconds: float) -> bool:
        """Whether there is something to be sent, or somebody wakes us, in that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        return self._news.is_set()

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._news.clear()
        self._room.set()
        return data
