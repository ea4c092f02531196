"""Why a process ended, in words a person understands: exit code → reason. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

LONGEST = 300
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIME = r"[\[(]?\d{4}-\d\d-\d\d[T ][\d:.,]+(Z|[+-]\d\d:?\d\d)?[\])]?"
_HEAD = re.compile(rf"^{_TIME}\s*(\|\s*)?([\[(]?[A-Z]{{4,8}}[\])]?\s+)?")
_ERROR = re.compile(r"^(Uncaught )?[\w.]*(Error|Exception|Interrupt|Exit|panic|fatal)\b.*[:(]", re.ASCII)
_WORD = re.compile(r"\w{2}")
_SILENT = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def explain(code: int | None, log: Sequence[str]) -> str:
    """One line from the exit code (minus the signal if negative, None if unknown) and the end of its log."""
    last = _last_words(log)
    if code is None:
        how = "exit status unknown"
    elif code >= 0:
        how = f"exit code {code}"
    else:
        how = f"killed by {_signal_name(-code)}"
        if -code == signal.SIGKILL:
            how += " (out of memory?)"
        if -code in _SILENT:
            return how
    return f"{how}: {last}" if last else how


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(log: Sequence[str]) -> str:
    """The line that says most: the last that names an error, else the last that is not indented."""
    lines = [_ANSI.sub("", line).rstrip() for line in log[-40:]]
    spoken = [line for line in lines if _WORD.search(line) and not line[0].isspace()]
    errors = [line for line in spoken[-8:] if _ERROR.match(line)]
    words = (errors or spoken or [""])[-1]
    words = "".join(char if char.isprintable() else " " for char in _HEAD.sub("", words)).strip()
    return words if len(words) <= LONGEST else words[: LONGEST - 2] + " …"
