"""`POST /queue/publish/…`: one message, confirmed by the broker before it is answered."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import pika
from starlette.requests import Request
from starlette.responses import Response

from reconciler.errors import NoSuchQueue, Refused
from reconciler.web.answers import ApiError, answer, invalid, read_json, valid_text
from reconciler.web.context import Context, context_of
from workers.runtime.failure import MOST_PROPERTIES, size_of

GAP_SECONDS = 4.0  # for a queue to be there again while it is migrated

# RabbitMQ 4's default. One message that is too large closes the channel, and takes the confirms of all others along.
MAX_MESSAGE = 16 * 1024 * 1024
KNOWN_FIELDS = ("message", "headers", "priority", "expiration")


async def publish(request: Request) -> Response:
    context, name = context_of(request), request.path_params["queue_name"]
    body = await read_json(request)
    if "message" not in body:
        raise invalid("message", "this field is missing (any JSON)")
    message_id, now = str(uuid.uuid4()), datetime.now(UTC)
    properties = message_properties(body, message_id, now)
    if (size := size_of(properties)) > MOST_PROPERTIES:  # over more RabbitMQ closes the connection
        raise invalid("headers", f"they have {size:,} bytes on the wire (at most {MOST_PROPERTIES:,}; use the message)")
    if len(name.encode(errors="replace")) > 255 or not name:
        raise ApiError(404, "there is no queue of that name (names have 1 to 255 bytes)")
    content = {"message": body["message"], "timestamp": now.isoformat(), "message_id": message_id}
    data = json.dumps(content).encode()
    if len(data) > MAX_MESSAGE:
        raise ApiError(413, f"the message has {len(data):,} bytes (RabbitMQ takes {MAX_MESSAGE:,}; send a reference)")
    await published(name, data, properties, context)
    return answer({"message": "Message published", "queue": name, "message_id": message_id})


async def published(name: str, data: bytes, properties: pika.BasicProperties, context: Context) -> None:
    """A queue that is being migrated is away for a moment: that is not the caller's to know."""
    deadline = time.monotonic() + GAP_SECONDS
    while True:
        try:
            await context.loop.broker.publish(name, data, properties)
            return
        except (NoSuchQueue, Refused):
            if name not in context.migrating() or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


def message_properties(body: dict[str, Any], message_id: str, now: datetime) -> pika.BasicProperties:
    for key in body:
        if key not in KNOWN_FIELDS:
            raise invalid(key, f"unknown field (known are {', '.join(KNOWN_FIELDS)})")
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=message_id,
        timestamp=int(now.timestamp()),
        headers=headers_of(body.get("headers")),
        priority=priority_of(body.get("priority")),
        expiration=expiration_of(body.get("expiration")),
    )


def headers_of(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid("headers", "this is an object of names and values")
    for name, content in value.items():
        if name in ("CC", "BCC") and not isinstance(content, list):
            raise invalid(f"headers.{name}", "RabbitMQ takes this as a list of routing keys, and as nothing else")
        check_header(f"headers.{name}", name, content, depth=0)
    if len(json.dumps(value)) > 100_000:
        raise invalid("headers", "they are over 100,000 bytes (put it into the message)")
    return value


def check_header(path: str, name: str, value: Any, depth: int) -> None:
    """AMQP tables hold short names, valid text and 64-bit numbers, and not without end."""
    if depth > 20:
        raise invalid(path, "it is nested too deeply (at most 20 levels)")
    if not valid_text(name) or len(name.encode()) > 255:
        raise invalid(path[:80], "a header's name is valid text of at most 255 bytes")
    if isinstance(value, str) and not valid_text(value):
        raise invalid(path, "the text is not valid Unicode (it holds half of a surrogate pair)")
    if isinstance(value, float):
        raise invalid(path, "numbers with a fraction are not carried in headers (send it as text)")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise invalid(path, "the number does not fit into 64 bits (send it as text)")
    inner = value.items() if isinstance(value, dict) else ((name, v) for v in value) if isinstance(value, list) else ()
    for key, content in inner:
        check_header(f"{path}.{key}", key, content, depth + 1)


def priority_of(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise invalid("priority", "this is a whole number from 0 to 255")
    return value


def expiration_of(value: Any) -> str | None:
    """Milliseconds until the broker drops the message from the queue."""
    if value is None:
        return None
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32):
        raise invalid("expiration", "this is a number of milliseconds, such as 60000")
    return text
