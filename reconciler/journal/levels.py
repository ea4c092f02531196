"""How serious a line of a log is, guessed from its head. Pure."""

from __future__ import annotations

import re

LEVELS = {
    "TRACE": 5,
    "DEBUG": 10,
    "INFO": 20,
    "NOTICE": 22,
    "SUCCESS": 25,
    "WARN": 30,
    "WARNING": 30,
    "ERR": 40,
    "ERROR": 40,
    "CRITICAL": 50,
    "FATAL": 50,
    "PANIC": 50,
}
UNKNOWN = LEVELS["INFO"]  # of lines before which no line names a level

_NAMES = "|".join(sorted(LEVELS, key=len, reverse=True))
_OWN = re.compile(r"\d{4}-\d\d-\d\dT\S+ ([A-Z]+) ")  # as our own workers write: no need to look further
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_UPPER = re.compile(rf"\b({_NAMES})\b")
_FIELD = re.compile(rf"""\b(?:level|lvl|severity|levelname)["']?\s*[=:]\s*["']?({_NAMES})\b""", re.IGNORECASE)
HEAD = 80  # characters in which a level stands, after time and logger name


def level_of(line: str) -> int | None:
    """The level a line names, None if it names none: such a line belongs to the one before it."""
    if (plain := _OWN.match(line)) and plain[1] in LEVELS:
        return LEVELS[plain[1]]
    if line[:1].isspace():
        return None
    line = line[:400]
    if "\x1b" in line:
        line = _ANSI.sub("", line)
    if line.startswith("Traceback (most recent call last)"):
        return LEVELS["ERROR"]
    found = (("=" in line or '"' in line) and _FIELD.search(line)) or _UPPER.search(line, 0, HEAD)
    return LEVELS[found[1].upper()] if found else None


def threshold(name: str) -> int:
    """The number of a level's name, in any case. Raises ValueError that lists the names."""
    if name.upper() not in LEVELS:
        raise ValueError(f"no such level: {name} (one of {', '.join(LEVELS)})")
    return LEVELS[name.upper()]
