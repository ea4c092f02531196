"""When a line of a log was written, as far as its head says so. Pure."""

from __future__ import annotations

import re
from datetime import datetime

_STAMP = re.compile(
    r"[\[(]?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?"
)  # of ISO 8601 and of logging's own
_FIELD = re.compile(r'"(?:time|timestamp|ts|@timestamp|asctime)"\s*:\s*(?:"([^"]{10,40})"|(\d{9,19}(?:\.\d{1,9})?))')
END = 253402300800.0  # the year 10000, in which nothing can be shown; what is before 1970 is no time of a log either
HEAD = 400  # characters in which a JSON line names its time


def time_of(line: str) -> float | None:
    """Seconds since the epoch; a time without a zone is local. None for a line that belongs to the one before it."""
    if line[:1] == "{":
        return _of_json(line[:HEAD])
    match = _STAMP.match(line)
    return _seconds(match) if match else None


def parse_time(text: str, now: float) -> float:
    """ISO 8601, seconds since the epoch, or how long ago: `90s`, `15m`, `2h`, `3d`. Raises ValueError."""
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return now - int(ago[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago[2]]
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
        return float(text)
    try:
        return datetime.fromisoformat(
            text.replace(" ", "+") if re.search(r"T.* \d\d:\d\d$", text) else text
        ).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text[:40]} is no time (2026-11-25T01:02:03Z, seconds since 1970, or 15m for that ago)"
        ) from None


def _of_json(head: str) -> float | None:
    match = _FIELD.search(head)
    if not match:
        return None
    if match[1]:
        stamp = _STAMP.match(match[1])
        return _seconds(stamp) if stamp else None
    number = float(match[2])
    while number > 1e11:  # milli-, micro- or nanoseconds
        number /= 1000
    return number


def _seconds(match: re.Match[str]) -> float | None:
    date, clock, fraction, zone = match.groups()
    try:
        found = datetime.fromisoformat(f"{date}T{clock}.{(fraction or '0')[:6]:0<6}{zone or ''}").timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return found if 0 <= found < END else None
