"""`/queue/pause/…` and `/queue/resume/…`: the workers of a queue drain and stand still, and come back."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.turn import Turn
from reconciler.web.answers import answer, invalid, read_json, text_field, wait_of
from reconciler.web.context import Context, Write, context_of, writes_file
from reconciler.web.edits import pause_queue, resume_queue
from state.units import iso, moment

FIELDS = ("reason", "until")


@writes_file
async def pause(request: Request) -> Response:
    context, seconds = context_of(request), wait_of(request)
    name, wanted = request.path_params["queue_name"], pause_of(await read_json(request, optional=True))
    before = sum(w.running for w in context.workers(name))
    write = await context.write(pause_queue(name, wanted), request)
    done = await write.converged(lambda turn: stands_still(turn, name, context), seconds)
    left = sum(w.running for w in context.workers(name))
    text = "paused" if done else f"is paused in the file; {left} of its workers are still finishing"
    body = answered(name, text, True, write, done) | {"reason": wanted.get("reason"), "until": wanted.get("until")}
    return answer(body | {"workers_stopped": before - left}, 200 if done else 202)


@writes_file
async def resume(request: Request) -> Response:
    context, seconds, name = context_of(request), wait_of(request), request.path_params["queue_name"]
    for key in await read_json(request, optional=True):
        raise invalid(key, "unknown field (this takes none)")
    write = await context.write(resume_queue(name), request)
    done = await write.converged(lambda turn: is_back(turn, name), seconds)
    text = "resumed" if done else "is resumed in the file; its workers follow"
    return answer(answered(name, text, False, write, done), 200 if done else 202)


def answered(name: str, text: str, paused: bool, write: Write, converged: bool) -> dict[str, Any]:
    return {
        "message": f"Queue {name} {text}",
        "queue_name": name,
        "paused": paused,
        "revision": write.revision,
        "converged": converged,
    }


def pause_of(body: dict[str, Any]) -> dict[str, str]:
    """What the file is to say of the pause. Raises ApiError 422."""
    for key in body:
        if key not in FIELDS:
            raise invalid(key, f"unknown field (known are {', '.join(FIELDS)})")
    given = {key: text_field(body, key) for key in FIELDS if body.get(key) is not None}
    if "reason" in given:
        given["reason"] = reason_of(given["reason"])
    if "until" in given:
        given["until"] = end_of(given["until"])
    return given


def reason_of(text: str) -> str:
    if len(text) > 1000 or not all(c.isprintable() for c in text):
        raise invalid("reason", "this is one line of at most 1,000 printable characters")
    return text


def end_of(text: str) -> str:
    try:
        end = moment(text).timestamp()
    except ValueError as error:
        raise invalid("until", str(error)) from None
    if end <= time.time():
        raise invalid("until", f"{text} has passed already (name a moment that is to come, or leave it out)")
    return iso(end)


def stands_still(turn: Turn, name: str, context: Context) -> bool:
    status = turn.status["queues"].get(name)
    return bool(status and status["paused"]) and not any(w.running for w in context.workers(name))


def is_back(turn: Turn, name: str) -> bool:
    status = turn.status["queues"].get(name)
    return bool(status and not status["paused"] and status["synced"] and status["healthy"])
