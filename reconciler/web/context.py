"""What the endpoints work with, handed in by the daemon."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from reconciler.basis import Basis
from reconciler.deadletters import Desk
from reconciler.events import Events
from reconciler.journal import LogFollower
from reconciler.loop import Loop
from reconciler.metrics import Metrics
from reconciler.modules import Modules
from reconciler.recorder import Recorder
from reconciler.review import Review
from reconciler.settings import Settings
from reconciler.source import Source
from reconciler.turn import Turn
from reconciler.usage import Usage
from reconciler.web.callers import origin_of
from reconciler.web.preconditions import only_if
from state.file import DesiredFile, Edit
from state.observed import ObservedQueue
from state.processes import ObservedWorker

REMEMBERED = 16  # plans


@dataclass
class Context:
    """One for the whole app. `stopping` ends the streams when the daemon goes."""

    settings: Settings
    file: DesiredFile
    loop: Loop
    modules: Modules
    events: Events
    source: Source
    recorder: Recorder
    desk: Desk
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    usage: Usage = field(default_factory=Usage)
    follower: LogFollower = field(default_factory=LogFollower)
    metrics: Metrics = field(default_factory=Metrics)
    reviewed: dict[str, Basis] = field(default_factory=dict)  # the plans shown last, by digest

    def workers(self, queue: str | None = None) -> list[ObservedWorker]:
        return [w for w in self.loop.supervisor.observe() if queue is None or w.pool.queue == queue]

    def remember(self, review: Review) -> None:
        """So that what has moved since can be named if somebody confirms this plan."""
        self.reviewed[review.digest] = review.basis
        while len(self.reviewed) > REMEMBERED:
            del self.reviewed[next(iter(self.reviewed))]

    def migrating(self) -> Collection[str]:
        """The queues that are being replaced by others of their name."""
        return self.loop.migrations.under_way() if self.loop.migrations else ()

    async def observe(self) -> dict[str, ObservedQueue]:
        """The broker's queues now. Raises BrokerUnreachable."""
        return dict((await self.loop.see(self.loop.intake.in_force.desired)).queues)

    def file_changed(self) -> None:
        """Something has changed on disk, perhaps the file."""
        self.source.look()
        self.loop.wake("file")

    async def write(self, edit: Edit, request: Request, *, may_create: bool = False) -> Write:
        """Edits the file as `request` asks for it, and wakes the loop. Raises as `DesiredFile.edit` does."""
        written = await self.source.write(edit, origin_of(request), may_create=may_create, only_if=only_if(request))
        self.loop.wake("api")
        return Write(self, written.revision, written.number)


@dataclass(frozen=True)
class Write:
    """An edit that is in the file, on its way to being true."""

    context: Context
    revision: str
    number: int

    async def converged(self, reached: Callable[[Turn], bool], seconds: float) -> bool:
        """Waits until a turn that knows this write has reached what it asks for."""
        self.context.loop.wake("api")  # what was asked beside the file may be news too
        return await self.context.loop.until(
            lambda turn: turn.reading.write >= self.number and turn.reading.current and reached(turn), seconds
        )


def context_of(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Endpoint = Callable[[Request], Awaitable[Response]]


def writes_file(endpoint: Endpoint) -> Endpoint:
    """Answers 412 before the endpoint does anything, if `If-Match` says so; the edit itself asks again."""

    @functools.wraps(endpoint)
    async def checked(request: Request) -> Response:
        if (revisions := only_if(request)) is not None:
            await asyncio.to_thread(context_of(request).file.require, revisions)
        return await endpoint(request)

    return checked
