"""`/history` and `/rollback/…`: what was in force, whose it was, and the way back to it."""

from __future__ import annotations

import asyncio
import difflib
import time
from dataclasses import asdict, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.turn import Turn
from reconciler.web.answers import ApiError, answer, invalid, number_of, read_json, wait_of
from reconciler.web.callers import origin_of
from reconciler.web.context import Context, Write, context_of, writes_file
from reconciler.web.preconditions import only_if
from reconciler.web.views import iso
from state.history import FAULTS, KEPT, AmbiguousRevision, Entry, UnknownRevision
from state.origin import FILE, ROLLBACK, Origin
from state.reader import parse

MOST_LINES = 200_000  # of two texts that are compared here: more would take minutes


async def history(request: Request) -> Response:
    context = context_of(request)
    limit = number_of(request, "limit", 100, 1, KEPT)
    await context.recorder.settle()
    kept = context.recorder.history
    revisions = [entry_view(entry) for _, entry in zip(range(limit or KEPT), kept, strict=False)]
    in_force = context.loop.intake.in_force.revision
    return answer({"in_force": in_force, "revisions": revisions, "error": kept.error})


def entry_view(entry: Entry) -> dict[str, Any]:
    return asdict(entry) | {"at": iso(entry.at)}


async def text(request: Request) -> Response:
    revision, data = await kept_text(request, request.path_params["revision"])
    return Response(data, media_type="application/yaml", headers={"ETag": f'"{revision}"'})


async def diff(request: Request) -> Response:
    """The unified difference from the revision to another, or to what is in force."""
    before, old = await kept_text(request, request.path_params["revision"])
    target = request.query_params.get("to") or context_of(request).loop.intake.in_force.revision
    after, new = await kept_text(request, target)
    body = await asyncio.to_thread(unified, before, old, after, new)
    return Response(body, media_type="text/x-diff")


def unified(before: str, old: bytes, after: str, new: bytes) -> str:
    one, two = (data.decode(errors="replace").splitlines() for data in (old, new))
    if len(one) + len(two) > MOST_LINES:
        raise ApiError(413, f"they have over {MOST_LINES:,} lines together (get both from /history and use diff)")
    return "\n".join(difflib.unified_diff(one, two, before[:12], after[:12], lineterm=""))


async def kept_text(request: Request, start: str) -> tuple[str, bytes]:
    """The revision that begins with `start`, and its text. Raises ApiError 404, 409."""
    kept = context_of(request).recorder.history
    await context_of(request).recorder.settle()
    try:
        revision = kept.find(start)
    except UnknownRevision as error:
        raise ApiError(404, str(error)) from None
    except AmbiguousRevision as error:
        raise ApiError(409, str(error)) from None
    data = await asyncio.to_thread(kept.text, revision)
    if data is None:
        raise ApiError(404, f"revision {revision[:12]} is in the history, and its text is not (git may have it)")
    return revision, data


@writes_file
async def rollback(request: Request) -> Response:
    """Writes the old file, as any other edit: so nothing fights it, and removals are as careful as ever."""
    context, seconds = context_of(request), wait_of(request)
    for key in await read_json(request, optional=True):
        raise invalid(key, "unknown field (this takes none)")
    revision, data = await kept_text(request, request.path_params["revision"])
    parse(data, context.file.path.name)
    write, unchanged = await write_back(revision, data, request)
    done = await write.converged(is_reached, seconds)
    held = context.loop.last.status["held"] if context.loop.last else None
    body = {
        "message": message_of(revision, unchanged, done, held),
        "revision": revision,
        "unchanged": unchanged,
        "converged": done,
        "held": held,
    }
    return answer(body, 200 if done or unchanged else 202)


async def write_back(revision: str, data: bytes, request: Request) -> tuple[Write, bool]:
    context = context_of(request)
    origin = replace(origin_of(request), via=ROLLBACK, text=f"roll back to {revision[:8]}")
    written = await context.source.replace(data, origin, only_if=only_if(request))
    context.loop.wake("api")
    if written.before is not None and written.before != written.after:
        await keep(written.before, context)
    return Write(context, written.revision, written.number), written.before == written.after


async def keep(before: bytes, context: Context) -> None:
    """What a rollback takes the place of may never have been in force, and is nobody's to lose."""
    await context.recorder.settle()
    kept, now = context.recorder.history, time.time()
    await asyncio.to_thread(kept.keep, Origin(FILE, None, "rolled back"), before, now, result=FAULTS)
    await asyncio.to_thread(kept.flush)


def is_reached(turn: Turn) -> bool:
    return bool(turn.status["synced"])


def message_of(revision: str, unchanged: bool, done: bool, held: dict[str, Any] | None) -> str:
    if unchanged:
        return f"Revision {revision[:12]} is what the file says already"
    if done:
        return f"Rolled back to revision {revision[:12]}"
    waits = f"; held: {held['reason']}" if held else "; the broker and the workers follow"
    return f"Revision {revision[:12]} is in the file again{waits}"
