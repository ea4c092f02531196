"""SIGHUP: the daemon executes itself anew in the same process, after an upgrade of its code, say.

Workers, zygotes and the embedded broker go on meanwhile, and stay our children. The listening socket is handed over:
who connects in between is answered late, not refused. A signal that comes in between is heard by the new program.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Container, Iterable
from contextlib import suppress

from reconciler.supervisor import proc

LISTENER = "RECONCILER_LISTENER"  # the descriptor that the program before this one left open
SECONDS = 30.0
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
PARTS = "reconciler.cli, reconciler.daemon, workers.runtime.check, workers.runtime.zygote"


def why_not() -> str | None:
    """What keeps the program on disk from starting, None if nothing seems to; blocks."""
    here = () if "-m" in sys.orig_argv[1:] else ("-P",)  # as `-m`, `-c` looks into the current folder first
    command = [sys.executable, *here, "-c", f"import {PARTS}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    where = next((line.strip() for line in reversed(lines) if line.startswith("  File ")), None)
    return f"{lines[-1]} ({where})" if where else lines[-1]


def execute(listener: socket.socket) -> None:
    """Does not return. Raises OSError; then everything is as it was."""
    listener.set_inheritable(True)
    os.environ[LISTENER] = str(listener.fileno())
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(sys.executable, sys.orig_argv)
    finally:
        del os.environ[LISTENER]
        listener.set_inheritable(False)


def hold_signals() -> None:
    """From now on signals wait; what is executed finds them waiting."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def release_signals() -> None:
    """Once there are handlers for them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def inherited_listener() -> socket.socket | None:
    """The socket that this program listened on before it was executed anew."""
    fd = os.environ.pop(LISTENER, "")
    if not (fd.isascii() and fd.isdigit()):
        return None
    try:
        listener = socket.socket(fileno=int(fd))
        listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return None
    listener.set_inheritable(False)
    return listener


def children() -> set[int]:
    """Our own, living or not yet reaped."""
    stats = (proc.read_stat(pid) for pid in proc.pids())
    return {stat.pid for stat in stats if stat and stat.parent == os.getpid()}


def look_after(left: Iterable[int], others: Container[int], loop: asyncio.AbstractEventLoop) -> None:
    """Reaps the children that the program before this one has left, but for `others`, when they end."""
    for pid in left:
        if pid not in others:
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                loop.add_reader(pidfd, _reap, loop, pid, pidfd)


def _reap(loop: asyncio.AbstractEventLoop, pid: int, pidfd: int) -> None:
    loop.remove_reader(pidfd)
    os.close(pidfd)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
