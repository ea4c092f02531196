"""Why a process ended, in words a person understands: exit code → reason. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

LONGEST = 300
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIME = r"[\[(]?\d{4}-\d\d-\d\d[T ][\d:.,]+(Z|[+-]\d\d:?\d\d)?[\])]?"
_WHOSE = r"\[[^\]\s]+/[^\]\s]+ \d+( [^\]\s]*)?\]\s+"  # as in the lines of our own runtime
_HEAD = re.compile(rf"^{_TIME}\s*(\|\s*)?([\[(]?[A-Z]{{4,8}}[\])]?\s+)?({_WHOSE})?")
_OURS = re.compile(rf"{_HEAD.pattern}(started|ended): slot \d")  # logfiles.py wrote it, not the process
_ERROR = re.compile(r"^(Uncaught )?[\w.]*(Error|Exception|Interrupt|Exit|panic|fatal)\b.*[:(]", re.ASCII)
_WORD = re.compile(r"\w{2}")
_SILENT = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def explain(code: int | None, log: Sequence[str], *, out_of_memory: bool = False) -> str:
    """One line from the exit code (minus the signal if negative, None if unknown) and the end of its log.

    `out_of_memory` only with evidence for it (oom.py); it counts for SIGKILL alone.
    """
    last = _last_words(log)
    if code is None:
        how = "exit status unknown"
    elif code >= 0:
        how = f"exit code {code}"
    else:
        how = f"killed by {_signal_name(-code)}"
        if -code == signal.SIGKILL and out_of_memory:
            how += ": out of memory"
        if -code in _SILENT:
            return how
    return f"{how}: {last}" if last else how


def ending(code: int | None, *, told_to_stop: bool, killed: bool = False, out_of_memory: bool = False) -> str:
    """How a process ended, for its own log. `killed`: by us, because grace was over after it was told to stop."""
    how = explain(code, (), out_of_memory=out_of_memory)
    if killed and code == -signal.SIGKILL:
        return f"{how} by us: grace was over after it was told to stop"
    return f"{how} after it was told to stop" if told_to_stop else how


def is_abnormal(code: int | None, *, told_to_stop: bool) -> bool:
    """Whether that end deserves a warning: all but exit code 0, and the SIGTERM of one that was told to stop."""
    return not (code == 0 or (told_to_stop and code == -signal.SIGTERM))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(log: Sequence[str]) -> str:
    """The line that says most: the last that names an error, else the last that is not indented."""
    lines = [_ANSI.sub("", line).rstrip() for line in log[-40:]]
    spoken = [line for line in lines if _WORD.search(line) and not line[0].isspace() and not _OURS.match(line)]
    errors = [line for line in spoken[-8:] if _ERROR.match(line)]
    words = (errors or spoken or [""])[-1]
    words = "".join(char if char.isprintable() else " " for char in _HEAD.sub("", words)).strip()
    return words if len(words) <= LONGEST else words[: LONGEST - 2] + " …"
