"""Durations, sizes, shares and moments as people write them in queues.yaml → numbers, and moments back. Pure.

Each takes what YAML or JSON read, and raises ValueError with what is wrong (what would be right).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
POWERS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
POWERS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
BYTES = {unit: Decimal(number) for unit, number in POWERS.items()}
NUMBER_AND_UNIT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([a-z]+)", re.ASCII | re.IGNORECASE)
PERCENT = re.compile(r"([0-9]{1,3}) ?%", re.ASCII)

A_DURATION = "a duration is a number of seconds, or text such as 30s, 5m, 1h or 2d"
A_SIZE = "a size is a whole number of bytes, or text such as 512MiB, 50MB or 1GiB"
A_SHARE = 'this is a share such as "25%", or a whole number of processes, at least 1'
A_MOMENT = "a moment is written as 2026-12-01T09:00Z"


def seconds(value: Any) -> float:
    """`30`, `1.5`, `"30s"`, `"5m"`, `"1h"`, `"2d"` in seconds. What is whole stays whole."""
    number = value if is_number(value, int | float) else with_unit(value, SECONDS, A_DURATION)
    if not (math.isfinite(number) and 0 <= number < 2**63):
        raise ValueError(f"{shown(value)} is out of range ({A_DURATION})")
    if isinstance(number, Decimal):
        return int(number) if number == int(number) else float(number)
    return number


def size(value: Any) -> int:
    """`1048576`, `"512MiB"`, `"50MB"`, `"1GiB"` in bytes: KiB, MiB, GiB are powers of 1024; kB, MB, GB of 1000."""
    number = value if is_number(value, int) else with_unit(value, BYTES, A_SIZE)
    if not 0 <= number < 2**63:
        raise ValueError(f"{shown(value)} is out of range ({A_SIZE})")
    return int(number)


def share(value: Any) -> int | str:
    """`"25%"` or a whole number, each at least 1, as it stands."""
    if is_number(value, int) and value >= 1:
        return int(value)
    if isinstance(value, str) and (match := PERCENT.fullmatch(value.strip())) and 1 <= int(match[1]) <= 100:
        return f"{int(match[1])}%"
    raise ValueError(f"{shown(value)} does not fit ({A_SHARE})")


def share_of(share: int | str, count: int) -> int:
    """How many of `count` a share is: rounded down, but at least one."""
    number = count * int(share.rstrip("%")) // 100 if isinstance(share, str) else share
    return max(1, number)


def moment(value: Any) -> datetime:
    """A YAML timestamp or date, or ISO 8601 text, in UTC. What names no zone is UTC."""
    try:
        found = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        if isinstance(found, date) and not isinstance(found, datetime):
            found = datetime.combine(found, time())
        if isinstance(found, datetime):
            found = found.replace(microsecond=0)  # as a float, the last one of the year 9999 is in the next
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{shown(value)} is no moment ({A_MOMENT})")


def iso(epoch: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def with_unit(value: Any, units: Mapping[str, Decimal], right: str) -> Decimal:
    """Text needs a unit: without one it is a number that was quoted by mistake."""
    match = NUMBER_AND_UNIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match or (unit := units.get(match[2].lower())) is None:
        raise ValueError(f"{shown(value)} does not fit ({right})")
    return Decimal(match[1]) * unit


def is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def shown(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    text = repr(text) if isinstance(value, str) else text  # escaped, one character takes up to ten
    return text if len(text) <= 60 else text[:57] + "…"
