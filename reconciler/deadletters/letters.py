"""One dead letter: why it is one, where it came from, and what of it can be shown. Pure.

Two write on it: the worker's runtime, in headers of ours, and the broker, in `x-death`. A copy that the runtime made
has no `x-death`, so where there is one, the broker had the last word.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from workers.runtime import failure

PREVIEW = 1024  # bytes of a body
MOST_DEPTH = 6  # of what is shown of headers


@dataclass(frozen=True)
class Letter:
    """`source` is the queue that it failed in; None if nothing on it tells."""

    message_id: str | None
    reason: str = "unknown"  # rejected, expired, maxlen or delivery_limit, as RabbitMQ calls them
    source: str | None = None
    exception: str | None = None
    worker_name: str | None = None
    at: str | None = None
    attempt: int = 0
    redriven: int = 0
    run: str | None = None  # the redrive that moved it back last

    @classmethod
    def read(cls, properties: Any) -> Letter:
        """From pika's properties, whoever wrote them."""
        headers: Mapping[str, Any] = properties.headers or {}
        common: dict[str, Any] = {
            "message_id": text(properties.message_id),
            "attempt": failure.failures_of(headers),
            "redriven": failure.redriven(headers),
            "run": text(headers.get(failure.REDRIVE)),
        }
        if (death := last_death(headers)) is not None:
            at = death.get("time")
            return cls(
                reason=text(death.get("reason")) or "unknown",
                source=text(death.get("queue")),
                at=iso(at) if isinstance(at, datetime) else None,
                **common,
            )
        return cls(
            reason=text(headers.get(failure.REASON)) or "unknown",
            source=text(headers.get(failure.QUEUE)),
            exception=text(headers.get(failure.EXCEPTION)),
            worker_name=text(headers.get(failure.WORKER)),
            at=text(headers.get(failure.FAILED_AT)),
            **common,
        )


def last_death(headers: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the broker did last: the newest stands first."""
    deaths = headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else None
    return first if isinstance(first, dict) else None


def as_routed(properties: Any) -> None:
    """Notes on it by which exchange and key it came to its queue, if only the broker knows that."""
    death = last_death(properties.headers or {})
    keys = death.get("routing-keys") if death else None
    if death and isinstance(keys, list) and keys and failure.ROUTING_KEY not in properties.headers:
        came = {failure.EXCHANGE: str(death.get("exchange", "")), failure.ROUTING_KEY: str(keys[0])}
        properties.headers = {**properties.headers, **came}


def shown(letter: Letter, properties: Any, body: bytes, size: int) -> dict[str, Any]:
    """It as JSON: `body` is the beginning of one that has `size` bytes."""
    headers = dict(properties.headers or {})
    traceback = headers.pop(failure.TRACEBACK, None)
    return {
        "message_id": letter.message_id,
        "queue_name": letter.source,
        "at": letter.at,
        "attempt": letter.attempt,
        "redriven": letter.redriven,
        "exception_message": text(headers.get(failure.MESSAGE)),
        "traceback": text(traceback),
        "headers": plain(headers),
        "body": readable(body, whole=len(body) == size),
        "body_bytes": size,
    }


def readable(body: bytes, *, whole: bool) -> str:
    """A body as text, or in base64 if it is none. What was cut may end within a character."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        if not whole and error.start >= len(body) - 3:
            return body[: error.start].decode()
        return "base64:" + base64.b64encode(body).decode()


def plain(value: Any, depth: int = 0) -> Any:
    """What AMQP carries, as JSON."""
    if isinstance(value, dict) and depth < MOST_DEPTH:
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list) and depth < MOST_DEPTH:
        return [plain(inner, depth + 1) for inner in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes):
        return readable(value, whole=True)
    return str(value) if isinstance(value, Decimal) else "…"


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
