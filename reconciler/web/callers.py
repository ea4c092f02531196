"""Who asks: what a request says of its caller.

Nothing here is proven: whoever may write may give any name. A proxy that knows its users sets the header anew.
"""

from __future__ import annotations

from starlette.requests import Request

from state.origin import API, CLI, Origin, named

USER = "x-reconciler-user"  # "name" or "name <mail>", in UTF-8
COMMAND_LINE = "reconciler-cli/"  # how the user agent of our own command line begins


def origin_of(request: Request) -> Origin:
    via = CLI if request.headers.get("user-agent", "").startswith(COMMAND_LINE) else API
    return Origin(via, named(as_text(request.headers.get(USER, ""))))


def as_text(header: str) -> str:
    """Headers are read as Latin-1; most clients mean UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
