"""Bodies in and answers out: JSON both ways, every error as `{"error": "what is wrong (what would be right)"}`."""

from __future__ import annotations

import errno
import json
import math
from typing import Any

from loguru import logger as log
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from reconciler.errors import NoSuchQueue, NotListed, Refused, Temporary
from state.edit import EditRefused
from state.faults import Rejected, details, dotted
from state.file import Conflict, MovedOn, WriteFailed

MAX_BODY = 32 * 1024 * 1024
DEFAULT_WAIT = 10.0
MAX_WAIT = 600.0


class ApiError(Exception):
    """An answer other than success. `extra` stands beside `error` in the body."""

    def __init__(self, status: int, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **extra}


def invalid(path: str, message: str) -> ApiError:
    """Valid JSON that breaks the schema."""
    where = f"{path}: " if path else ""
    return ApiError(422, where + message, details=[{"path": path, "message": message}])


def answer(body: Any, status: int = 200) -> Response:
    # ASCII escapes carry even what UTF-8 cannot, such as half of a surrogate pair in somebody's message.
    return Response(json.dumps(body), status, etag_of(body), media_type="application/json")


def etag_of(body: Any) -> dict[str, str]:
    """The file's revision as a header: what a client sends back as `If-Match`."""
    revision = body.get("revision") if isinstance(body, dict) else None
    return {"ETag": f'"{revision}"'} if isinstance(revision, str) and revision.isalnum() else {}


async def read_json(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The request's body, an object. Raises ApiError 400 if it is not JSON, 413 if too large, 422 if no object."""
    raw = await read_body(request)
    if not raw.strip():
        if optional:
            return {}
        raise ApiError(400, "the body is empty (send a JSON object)")
    try:
        body = json.loads(raw, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply (send a flat JSON object)") from None
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error} (send a JSON object)") from None
    if not isinstance(body, dict):
        raise invalid("", f"the body is {_kind(body)} (send a JSON object)")
    return body


async def read_body(request: Request, most: int = MAX_BODY) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise ApiError(413, f"the body is over {most:,} bytes (send less at once)")
            parts.append(part)
    except ClientDisconnect:
        raise ApiError(400, "the body was cut short (send it again)") from None
    return b"".join(parts)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:40]} is beyond what a number holds")
    return value


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def valid_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_field(body: dict[str, Any], key: str) -> str:
    if key not in body:
        raise invalid(key, "this field is missing (it is text)")
    if not isinstance(body[key], str):
        raise invalid(key, f"this is {_kind(body[key]) if not isinstance(body[key], dict) else 'an object'}, not text")
    return str(body[key])


def wait_of(request: Request) -> float:
    """Seconds to wait for the state to be reached."""
    raw = request.query_params.get("wait")
    if raw is None:
        return DEFAULT_WAIT
    try:
        seconds = float(raw)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MAX_WAIT:
        raise ApiError(400, f"wait={raw[:40]} is not a number of seconds (0 to {MAX_WAIT:.0f})")
    return seconds


def flag_of(request: Request, name: str) -> bool:
    raw = request.query_params.get(name, "false").lower()
    if raw not in ("true", "false", "1", "0", "yes", "no", ""):
        raise ApiError(400, f"{name}={raw[:40]} is neither true nor false")
    return raw in ("true", "1", "yes")


def number_of(request: Request, name: str, default: int | None, least: int, most: int) -> int | None:
    raw = request.query_params.get(name)
    if raw is None or raw == "":
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) < 20 and least <= int(raw) <= most):
        raise ApiError(400, f"{name}={raw[:40]} is not a whole number from {least} to {most}")
    return int(raw)


async def on_error(_: Request, error: Exception) -> Response:
    """Every failure of an endpoint as its documented answer."""
    found = as_api_error(error)
    if found is None:
        log.opt(exception=error).error("an endpoint failed")
        found = ApiError(500, "this is a fault of ours; the log has the details (please report it)")
    return answer(found.body, found.status)


def as_api_error(error: Exception) -> ApiError | None:
    match error:
        case ApiError():
            return error
        case Rejected():
            faults = [{"path": f.path, "message": f.message} for f in error.faults]
            return ApiError(422, f"the file would not be valid any more: {error}", details=faults)
        case ValidationError():
            faults = [{"path": dotted(path), "message": message} for path, message in details(error, ("queues", ""))]
            return ApiError(422, "; ".join(f"{f['path']}: {f['message']}" for f in faults), details=faults)
        case RecursionError():
            return ApiError(400, "the body is nested too deeply (send a flat JSON object)")
        case MovedOn():
            return ApiError(412, str(error), revision=error.revision)
        case Conflict() | EditRefused() | Refused():
            return ApiError(409, str(error))
        case WriteFailed():
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            return ApiError(507 if full else 409, str(error))
        case NoSuchQueue() | NotListed():
            return ApiError(404, str(error))
        case Temporary():
            return ApiError(503, str(error))
        case HTTPException():
            return http_error(error)
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EROFS):
            return ApiError(507, f"the state folder cannot be written: {error.strerror} (free some disk)")
    return None


def http_error(error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ApiError(404, "there is no such endpoint (see /openapi.json)")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return ApiError(405, f"this method is not offered here (use {allowed})")
    return ApiError(error.status_code, str(error.detail))


ERRORS: tuple[type[Exception], ...] = (
    ApiError,
    Rejected,
    ValidationError,
    WriteFailed,
    MovedOn,
    EditRefused,
    Refused,
    NoSuchQueue,
    NotListed,
    Temporary,
    HTTPException,
    RecursionError,
    OSError,
    Exception,
)
