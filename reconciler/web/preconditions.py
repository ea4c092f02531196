"""`If-Match: REVISION`: a write that only counts if the file still is as the caller saw it."""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.requests import Request

from reconciler.web.answers import ApiError
from state.file import ANY

# In quotes as in an ETag, also a weak one (proxies that compress make them so), or bare as the body has it.
_REVISION = re.compile(r'[\s,]*(?:(?:W/)?"([^"]*)"|([^\s",]+))\s*(?=,|$)')


def only_if(request: Request) -> Collection[str] | None:
    """The revisions that the caller allows; None: any. Raises ApiError 400 if the header cannot be read."""
    headers = request.headers.getlist("if-match")
    return frozenset(revisions(", ".join(headers))) if headers else None


def revisions(header: str) -> list[str]:
    found, at, text = [], 0, header.rstrip(" \t,")
    while at < len(text):
        match = _REVISION.match(text, at)
        if match is None:
            raise ApiError(400, f'If-Match: {header[:100]} is not a list of revisions (send "REVISION", or {ANY})')
        found.append(match[1] or match[2] or "")
        at = match.end()
    if not any(found):
        raise ApiError(400, f'If-Match names no revision (send "REVISION" as /status tells it, or {ANY})')
    return found
