"""What a failed message carries: how often, where, why and in whose hands it failed. Pure.

Its copy has every property and header of the message, and headers of ours beside them. What the broker adds to a
message on its way is left out: `x-death` would count for a copy as if it had been on that way (RabbitMQ before 4.0
drops a message that comes by a queue twice without having been rejected).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pika.spec import Basic, BasicProperties

from . import fractions  # noqa: F401  (a copy keeps its headers)

PREFIX = "x-reconciler-"
ATTEMPT = PREFIX + "attempt"  # how often it has failed
QUEUE = PREFIX + "queue"  # where it failed
EXCHANGE, ROUTING_KEY = PREFIX + "exchange", PREFIX + "routing-key"  # how it got there at first
REASON = PREFIX + "reason"
EXCEPTION, MESSAGE, TRACEBACK = PREFIX + "exception", PREFIX + "exception-message", PREFIX + "traceback"
WORKER, PID, HOST = PREFIX + "worker", PREFIX + "pid", PREFIX + "host"
FAILED_AT, FIRST_FAILED_AT = PREFIX + "failed-at", PREFIX + "first-failed-at"
EXPIRATION, USER_ID = PREFIX + "expiration", PREFIX + "user-id"  # properties that a copy cannot have
REDRIVEN, REDRIVE = PREFIX + "redriven", PREFIX + "redrive"  # how often it was moved back; the last time it was

# Of one failure alone: a later one without an exception must not show that of an earlier one.
OF_ONE_FAILURE = (REASON, EXCEPTION, MESSAGE, TRACEBACK, WORKER, PID, HOST, FAILED_AT)
# Of the broker's making, or (CC, BCC) an order to it that has been carried out.
OF_THE_BROKER = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", "CC", "BCC")

MOST_TEXT = 1024  # bytes of an exception's message
MOST_TRACEBACK = 8 * 1024  # bytes, of its end
# All properties travel in one frame, and RabbitMQ's are 128 KiB; the rest is for what the broker adds.
MOST_PROPERTIES = 120 * 1024

Headers = dict[str, Any]


class TooLarge(ValueError):
    """The message's own headers leave no room for ours."""


@dataclass(frozen=True)
class Ways:
    """Where the failed messages of a queue go: to a delay queue, and after `attempts` to the dead letters."""

    queue: str
    attempts: int = 1
    delays: tuple[str, ...] = ()  # the delay queues; the last one repeats
    dead_letter: str | None = None

    def after(self, failures: int) -> str | None:
        """The queue for a message that has failed so often; None if the broker is to decide."""
        if failures < self.attempts and self.delays:
            return self.delays[min(failures, len(self.delays)) - 1]
        return self.dead_letter


@dataclass(frozen=True)
class Cause:
    """Why a message failed, and in whose hands. `reason` is in RabbitMQ's words."""

    at: float  # seconds since the epoch
    reason: str = "rejected"
    exception: str | None = None
    message: str | None = None
    traceback: str | None = None
    worker: str | None = None
    pid: int | None = None
    host: str | None = None

    def headers(self) -> Headers:
        found = {
            REASON: self.reason,
            EXCEPTION: self.exception,
            MESSAGE: self.message,
            TRACEBACK: self.traceback,
            WORKER: self.worker,
            PID: self.pid,
            HOST: self.host,
            FAILED_AT: moment(self.at),
        }
        return {key: value for key, value in found.items() if value is not None}


def failures_of(headers: Mapping[str, Any] | None) -> int:
    """How often it has failed so far. What others may have written there counts as never."""
    return _count((headers or {}).get(ATTEMPT))


def redriven(headers: Mapping[str, Any] | None) -> int:
    """How often it was moved back from the dead letters."""
    return _count((headers or {}).get(REDRIVEN))


def failed_copy(properties: BasicProperties, came: tuple[str, str], queue: str, cause: Cause) -> BasicProperties:
    """The properties of the message that takes the failed one's place in `queue`. Raises TooLarge.

    It `came` by this exchange and this routing key, unless it says itself by which it came at first.
    """
    made = carried(properties)
    headers = {key: value for key, value in made.headers.items() if key not in OF_ONE_FAILURE}
    headers |= {ATTEMPT: failures_of(headers) + 1, QUEUE: queue, **cause.headers()}
    for key, value in (
        (EXCHANGE, came[0]),
        (ROUTING_KEY, came[1]),
        (FIRST_FAILED_AT, headers[FAILED_AT]),
    ):
        headers.setdefault(key, value)
    made.headers = headers
    return fitting(made)


def carried(properties: BasicProperties) -> BasicProperties:
    """A copy that can be published again by anybody, at any later time, to one queue alone."""
    made = copy(properties)
    made.headers = {k: v for k, v in (properties.headers or {}).items() if not _is_of_the_broker(k)}
    # It would expire in the delay queue, and come back too early; and only its sender may say who sent it.
    if made.expiration is not None:
        made.headers[EXPIRATION], made.expiration = made.expiration, None
    if made.user_id is not None:
        made.headers[USER_ID], made.user_id = made.user_id, None
    return made


def fitting(properties: BasicProperties) -> BasicProperties:
    """Without what is long and only ours, if they would not fit into a frame."""
    for key in (TRACEBACK, MESSAGE):
        if size_of(properties) <= MOST_PROPERTIES:
            return properties
        properties.headers.pop(key, None)
    if size_of(properties) > MOST_PROPERTIES:
        raise TooLarge(f"its own headers take nearly all of the {MOST_PROPERTIES:,} bytes that there are")
    return properties


def size_of(properties: BasicProperties) -> int:
    return sum(map(len, properties.encode()))


def reset(properties: BasicProperties, run: str) -> BasicProperties:
    """What goes back to its queue from the dead letters: as new, but for how often that was done."""
    made = carried(properties)
    again = redriven(made.headers) + 1
    stale = (*OF_ONE_FAILURE, ATTEMPT, QUEUE, FIRST_FAILED_AT)
    made.headers = {key: value for key, value in made.headers.items() if key not in stale}
    made.headers |= {REDRIVEN: again, REDRIVE: run}
    return made


def as_sent(method: Basic.Deliver, properties: BasicProperties) -> None:
    """Lets a message that has come back look as if it came by the exchange and the key of its sender."""
    headers = properties.headers
    if headers and isinstance(key := headers.get(ROUTING_KEY), str):
        method.routing_key = key
        method.exchange = str(headers.get(EXCHANGE, ""))


def told(error: BaseException) -> dict[str, str]:
    """The exception, its message and its traceback, each bounded, as the fields of a `Cause`."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    frames = error.__traceback__
    own = frames.tb_next if frames and frames.tb_next else frames  # the first is the runtime's
    try:
        trace = "".join(traceback.format_exception(kind, error, own))
    except Exception:  # its own __getattr__, or what is in it, may be anything
        trace = "".join(traceback.format_tb(own))
    return {
        "exception": bounded(name, 255),
        "message": bounded(words_of(error), MOST_TEXT),
        "traceback": bounded(trace, MOST_TRACEBACK, end=True),
    }


def words_of(error: BaseException) -> str:
    """Its message, whatever its __str__ may do."""
    try:
        return str(error)
    except Exception as broken:
        return f"(it has no words: its __str__ raises {type(broken).__name__})"


def bounded(text: str, most: int, *, end: bool = False) -> str:
    """Its first (or last) bytes, as text that can be sent."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > most:
        data = b"..." + data[-most + 3 :] if end else data[: most - 3] + b"..."
    return data.decode("utf-8", "ignore")


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0


def _is_of_the_broker(key: str) -> bool:
    return str(key).startswith(OF_THE_BROKER[:3]) or key in OF_THE_BROKER
