"""What a worker tells of itself in sd_notify's protocol: datagram → fields → `Report`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T", float, float | None)
MAX_STATS = 32
MAX_VALUE = 512
_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def parse(datagram: bytes) -> dict[str, str]:
    """The KEY=value lines of a datagram; whatever is not such a line is left out."""
    fields = {}
    for line in datagram.decode(errors="replace").split("\n"):
        key, equals, value = line.partition("=")
        if equals and _KEY.fullmatch(key):
            fields[key] = value[:MAX_VALUE]
    return fields


@dataclass
class Report:
    """The sum of what one process has told so far."""

    ready: bool = False
    stopping: bool = False
    status: str | None = None
    busy: bool = False
    consumer_tag: str | None = None
    processed: int = 0
    failed: int = 0
    redelivered: int = 0
    in_flight_since: float | None = None  # seconds since the epoch; None with no message in hand
    last_message_at: float | None = None
    busy_seconds: float = 0.0  # in its handler, as of `heartbeat_at`
    heartbeat_at: float | None = None
    stats: dict[str, str] = field(default_factory=dict)

    def take(self, fields: Mapping[str, str], now: float) -> None:
        """Adds one datagram, received at `now` (seconds since the epoch)."""
        self.heartbeat_at = now
        for key, value in fields.items():
            self._take(key, value)

    def _take(self, key: str, value: str) -> None:
        match key, value:
            case "READY", "1":
                self.ready, self.stopping = True, False
            case "RELOADING", "1":
                self.ready = False
            case "STOPPING", "1":
                self.ready, self.stopping = False, True
            case "STATUS", _:
                self.status = value or None
            case "X_BUSY", _:
                self.busy = value == "1"
            case "X_CONSUMER_TAG", _:
                self.consumer_tag = value or None
            case "X_PROCESSED", _:
                self.processed = _count(value, self.processed)
            case "X_FAILED", _:
                self.failed = _count(value, self.failed)
            case "X_REDELIVERED", _:
                self.redelivered = _count(value, self.redelivered)
            case "X_IN_FLIGHT_SINCE", _:
                self.in_flight_since = _seconds(value, self.in_flight_since) if value else None
            case "X_LAST_MESSAGE", _:
                self.last_message_at = _seconds(value, self.last_message_at) if value else None
            case "X_BUSY_SECONDS", _:
                self.busy_seconds = _seconds(value, self.busy_seconds)
            case (("READY" | "RELOADING" | "STOPPING" | "WATCHDOG" | "BARRIER"), _):
                pass
            case _:
                self._keep(key, value)

    def _keep(self, key: str, value: str) -> None:
        if key in self.stats or len(self.stats) < MAX_STATS:
            self.stats[key] = value


def _count(value: str, otherwise: int) -> int:
    return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else otherwise


def _seconds(value: str, otherwise: T) -> float | T:
    return float(value) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value) else otherwise
