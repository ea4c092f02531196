"""A program that is run to its end: what it says is kept in memory, and nothing of it is left if nobody wants it.

Not with asyncio's subprocesses: one that is cancelled while it starts may wait for ever (Python 3.11), and the pipes
that they read are held open by what a program leaves behind, such as ssh with ControlPersist.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Ended:
    """How it ended (minus the signal's number if one ended it), and what it has said."""

    status: int
    out: bytes
    err: bytes


async def run(
    command: Sequence[str], *, stdin: bytes = b"", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Ended:
    """Runs it in a session of its own. Raises OSError if it cannot be started.

    When cancelled, it and all that it has started in that session are killed first.
    """
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(_memory(name)) for name in ("stdin", "stdout", "stderr"))
        given.write(stdin)
        given.seek(0)
        child = subprocess.Popen(command, cwd=cwd, env=env, stdin=given, stdout=out, stderr=err, start_new_session=True)
        try:
            with watched(child.pid) as over:
                await _until(over, child)
        except OSError:  # no descriptor is left to watch it by
            child.kill()
            raise
        finally:
            child.wait()  # it has ended
        return Ended(child.returncode, _all_of(out), _all_of(err))


async def _until(over: asyncio.Event, child: subprocess.Popen[bytes]) -> None:
    try:
        await over.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        while not over.is_set():  # at the end of a loop one is cancelled twice
            with suppress(asyncio.CancelledError):
                await over.wait()
        raise


@contextmanager
def watched(pid: int) -> Iterator[asyncio.Event]:
    """An event that is set once the process has ended; until then it costs nothing. Somebody else reaps it.

    Raises OSError, ProcessLookupError if there is none.
    """
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    pidfd = os.pidfd_open(pid)
    try:
        loop.add_reader(pidfd, over.set)
        yield over
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _memory(name: str) -> BinaryIO:
    return open(os.memfd_create(name, os.MFD_CLOEXEC), "w+b", buffering=0)


def _all_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
