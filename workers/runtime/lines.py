"""One record of the log as a line: text for people, or JSON for machines.

2026-11-25T01:02:03.456Z INFO    [QUEUE/WORKER PID MESSAGE_ID] text
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .hand import Hand, one_word

if TYPE_CHECKING:
    from loguru import Message

FORMATS = ("text", "json")


class Lines:
    """Says with every line whose it is, and over which message."""

    def __init__(self, queue: str, worker: str, hand: Hand) -> None:
        self._queue = queue
        self._worker = worker
        self.hand = hand
        self._name = f"{one_word(queue) or '-'}/{one_word(worker) or '-'}"

    def own(self, text: str, *, as_json: bool) -> str:
        """What the runtime itself says, at INFO: the line that `text` or `json` would make of it."""
        now = stamp(datetime.now(UTC))
        if as_json:
            return dumps(self._fields(now, "INFO", text)) + "\n"
        return f"{now} {'INFO': <7} [{self._who()}] {text}\n"

    def text(self, message: Message) -> str:
        """With a traceback, or a message of several lines, these follow as they are."""
        record = message.record
        if message == record["message"]:  # opt(raw=True): all of it is the writer's own affair
            return str(message)
        return f"{stamp(record['time'])} {record['level'].name: <7} [{self._who()}] {message}"

    def json(self, message: Message) -> str:
        """Always one line. `exception` and `extra`, what was bound, only if there is any."""
        record = message.record
        if message == record["message"]:
            return str(message)
        fields = self._fields(stamp(record["time"]), record["level"].name, record["message"])
        if exception := message[len(record["message"]) + 1 :].rstrip("\n"):
            fields["exception"] = exception
        if extra := self._extra(record["extra"]):
            fields["extra"] = extra
        return dumps(fields) + "\n"

    def _who(self) -> str:
        return f"{self._name} {os.getpid()} {self.hand.label}".rstrip()

    def _fields(self, time: str, level: str, text: str) -> dict[str, Any]:
        return {
            "time": time,
            "level": level,
            "queue": self._queue,
            "worker": self._worker,
            "pid": os.getpid(),
            "message_id": self.hand.label or None,
            "message": text,
        }

    def _extra(self, bound: dict[Any, Any]) -> dict[str, Any]:
        ours = {"queue": self._queue, "worker": self._worker}  # BaseWorker binds these, for the user's own sinks
        return {str(key): value for key, value in bound.items() if key not in ours or value != ours[key]}


def stamp(time: datetime) -> str:
    """In UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def dumps(fields: dict[str, Any]) -> str:
    """As JSON, whatever a handler may have bound."""
    try:
        return _dumps(fields)
    except Exception:  # an object's own __str__ may raise anything
        return _dumps(fields | {"extra": {key: _plain(value) for key, value in fields["extra"].items()}})


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: object) -> object:
    with suppress(Exception):
        _dumps(value)
        return value
    with suppress(Exception):
        return repr(value)
    return object.__repr__(value)
