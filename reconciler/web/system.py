"""`/status`, `/plan`, `/sync`, `/events`, and what machines ask for: health, readiness, OpenAPI."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.basis import is_digest, moved
from reconciler.review import Confirmation, in_words
from reconciler.status import with_reasons
from reconciler.turn import Turn
from reconciler.web.answers import ApiError, answer, read_json, text_field, wait_of
from reconciler.web.context import Context, context_of
from reconciler.web.openapi import document
from reconciler.web.streams import Sent, stream


async def status(request: Request) -> Response:
    context = context_of(request)
    await refresh(context)
    return answer(await with_git(status_of(context), context))


FRESH = 2.0  # seconds that the last turn's counts are good for, or 20 times what that turn took
PATIENCE = 0.5  # seconds that an answer waits for newer ones


async def refresh(context: Context) -> None:
    """Has the loop look again if its last look is old: while nothing happens it looks only now and then."""
    if (last := context.loop.last) is None:
        return
    seen = datetime.fromisoformat(last.status["last_reconcile"]["at"])
    if (datetime.now(UTC) - seen).total_seconds() > max(FRESH, 20 * last.seconds):
        number = context.loop.started
        context.loop.wake("resync")
        await context.loop.until(lambda turn: turn.number > number, PATIENCE)


def status_of(context: Context) -> dict[str, Any]:
    """Where things stand: what the last turn saw, with its workers as they are now. Raises ApiError 503 before it."""
    if (turn := context.loop.last) is None:
        raise ApiError(503, "the first reconciliation has not ended yet (ask again in a moment)")
    status = with_reasons(turn.status_with(context.loop.supervisor.observe()), context.loop.scaler.decisions)
    return {**status, "redrives": context.desk.runs}


async def with_git(status: dict[str, Any], context: Context) -> dict[str, Any]:
    """The status with the commit of the file in force, and what git says of the one that is not."""
    data = context.loop.intake.in_force.data
    git = await context.source.view(data)
    commit = await context.source.commit_of(data)
    if git and git["mode"] == "follow" and git["commit"] and status["file_error"]:
        where = f" (commit {git['commit'][:12]})"
        status = status | {"file_error": "\n".join(line + where for line in status["file_error"].splitlines())}
    return status | {"commit": commit, "git": git}


async def plan(request: Request) -> Response:
    context = context_of(request)
    turn, review = await context.loop.review()
    context.remember(review)
    problems = {"file_error": turn.status["file_error"], "broker_error": turn.broker_error}
    return answer(review.body() | problems)


async def sync(request: Request) -> Response:
    context, seconds = context_of(request), wait_of(request)
    body = await read_json(request, optional=True)
    asked = None
    if body.get("confirm") is not None:
        asked = await confirm(text_field(body, "confirm"), context)
    number = context.loop.started  # a turn that is under way does not know of it
    context.loop.retry_everything()
    await context.loop.until(lambda turn: turn.number > number and is_settled(turn), seconds)
    if asked is not None and asked.moved:  # in the moment between the review and the turn
        raise plan_moved(asked.moved)
    return answer(await with_git(status_of(context), context))


def is_settled(turn: Turn) -> bool:
    return not turn.plan.actions and not turn.reading.waiting


async def confirm(word: str, context: Context) -> Confirmation | None:
    """Takes a revision or a plan's digest as a person's word. Raises ApiError 409 if it is of another world."""
    in_force = context.loop.intake.in_force.revision
    if len(word) >= 8 and in_force.startswith(word):
        context.loop.confirm(in_force)
        return None
    if not is_digest(word):
        raise ApiError(409, f"revision {word[:64]} is not in force (it is {in_force}; look at /plan again)")
    _, review = await context.loop.review()
    context.remember(review)
    asked = Confirmation(word, context.reviewed.get(word))
    if things := moved(word, review.basis, asked.basis):
        raise plan_moved(things)
    context.loop.confirm_plan(asked)
    return asked


def plan_moved(things: Sequence[str]) -> ApiError:
    return ApiError(409, in_words(things), moved=list(things))


async def events(request: Request) -> Response:
    context = context_of(request)
    last = request.headers.get("last-event-id", "")
    after = int(last) if last.isascii() and last.isdigit() and len(last) < 20 else 0
    if after > context.events.last_id:  # a number of an earlier daemon
        after = 0
    return stream(request, told(context, after), context.stopping)


async def told(context: Context, after: int) -> AsyncGenerator[Sent, None]:
    async for event in context.events.listen(after):
        yield Sent(json.dumps(event.as_json()), id=str(event.id), event=event.kind)


async def healthz(_: Request) -> Response:
    return answer({"status": "ok"})


async def readyz(request: Request) -> Response:
    if not context_of(request).loop.reconciled:
        raise ApiError(503, "the first reconciliation has not ended yet (is the broker there? see /status)")
    return answer({"status": "ready"})


async def openapi(_: Request) -> Response:
    return answer(document())
