"""What a forked child is to become, and how: in every way a process of its own, as if it had been started anew."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from setproctitle import setproctitle

from .demote import demote

MARKER = "RECONCILER_WORKER"


@dataclass(frozen=True)
class Request:
    """One worker, as the supervisor asks for it. `log` and `gate` are descriptors."""

    log: int
    gate: int
    title: str
    cwd: str
    env: Mapping[str, str]
    limits: Mapping[str, Any]  # the arguments of `demote`

    @classmethod
    def read(cls, request: int, log: int, gate: int) -> Request:
        """From a pipe or a file that holds JSON. Raises ValueError, KeyError, OSError."""
        with open(request, "rb", closefd=False) as file:
            fields = json.load(file)
        return cls(log, gate, fields["title"], fields["cwd"], fields["env"], fields["limits"])


def become(request: Request) -> None:
    """Makes the process that a fork has just made what `request` says. Raises OSError, ValueError, KeyError."""
    os.setsid()
    _reset_signals()
    _take_descriptors(request)
    os.environ.clear()
    os.environ.update(request.env)
    os.environ["START_GATE"] = str(request.gate)
    _mark(request.env.get(MARKER, ""))
    setproctitle(request.title)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    os.chdir(request.cwd)
    demote(**request.limits)
    gc.enable()


def _reset_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python does at its start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _take_descriptors(request: Request) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (request.log, 1), (request.log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(request.log)


# The kernel shows the environment that a program was started with, which for a child of ours is its parent's. The
# supervisor knows stray workers by their mark there, so the parent is started with room for one, and it is put there.
_libc = ctypes.CDLL(None)
_libc.getenv.restype = ctypes.c_void_p
_room = _libc.getenv(MARKER.encode())
_size = len(os.environb.get(MARKER.encode(), b""))


def _mark(text: str) -> None:
    data = text.encode()
    if _room and len(data) <= _size:
        ctypes.memmove(_room, data.ljust(_size), _size)
