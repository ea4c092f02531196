"""SIGHUP: the daemon executes itself anew in the same process, after an upgrade of its code, say.

Workers, zygotes and the embedded broker go on meanwhile, and the listening socket is handed over: who connects in
between is answered late, not refused.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

LISTENER = "RECONCILER_LISTENER"  # the descriptor that the program before this one left open
SECONDS = 30.0


def why_not() -> str | None:
    """What keeps the program on disk from starting, None if nothing seems to; blocks."""
    command = [sys.executable, "-c", "import reconciler.cli, reconciler.daemon"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def execute(listener: socket.socket) -> None:
    """Does not return. Raises OSError."""
    os.set_inheritable(listener.fileno(), True)
    os.environ[LISTENER] = str(listener.fileno())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)


def inherited_listener() -> socket.socket | None:
    """The socket that this program listened on before it was executed anew."""
    fd = os.environ.pop(LISTENER, "")
    if not fd.isdigit():
        return None
    listener = socket.socket(fileno=int(fd))
    listener.set_inheritable(False)
    return listener
