"""Processes that write numbered lines as fast as they can, and what is left of their lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.supervisor.logfiles import open_log
from reconciler.supervisor.rotation import Writer
from reconciler.web.logs import whole_log
from state.processes import LogRules

# As our runtime does: SIGHUP opens LOG_FILE again.
REOPENS = """
import os, signal
def reopen(*_):
    try:
        fd = os.open(os.environ["LOG_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        return
    os.dup2(fd, 1), os.dup2(fd, 2), os.close(fd)
signal.signal(signal.SIGHUP, reopen)
"""
# {count} lines (for ever if 0), {batch} in one write, {rest} seconds after each; what cannot be written is let go.
WRITES = """
import os, sys, time
number = 0
while not {count} or number < {count}:
    lines = b"".join(b"line %012d of this worker, as long as lines are\\n" % n for n in range(number, number + {batch}))
    number += {batch}
    while lines:
        try:
            lines = lines[os.write(1, lines):]
        except OSError:
            break
    {rest} and time.sleep({rest})
"""
WAITS = "\nimport time\ntime.sleep(600)\n"


@contextmanager
def process(path: Path, script: str) -> Iterator[subprocess.Popen[bytes]]:
    log = open_log(path)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script],
        stdout=log,
        stderr=log,
        env={**os.environ, "LOG_FILE": str(path)},
        start_new_session=True,
    )
    os.close(log)
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def writer(child: subprocess.Popen[bytes], path: Path, rules: LogRules, reopens: bool = True) -> Writer:
    return Writer(child.pid, str(path), rules, reopens)


def writes(count: int = 0, batch: int = 1, rest: float = 0) -> str:
    return WRITES.format(count=count, batch=batch, rest=rest)


def line_of(number: int) -> bytes:
    return b"line %012d of this worker, as long as lines are\n" % number


def content_of(path: Path) -> bytes:
    """All of a log, over its files."""
    return b"".join(whole_log(path))


def assert_numbered(content: bytes, first: int | None = 0, count: int | None = None) -> int:
    """None lost, none torn, none doubled, in order. Returns how many."""
    lines = content.splitlines(keepends=True)
    start = int(lines[0].split()[1]) if first is None else first
    for number, line in enumerate(lines, start):
        assert line == line_of(number), f"after {number - start} good lines: {line[:80]!r}"
    if count is not None:
        assert len(lines) == count
    return len(lines)
