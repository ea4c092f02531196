"""What a forked child is to become, and how: in every way a process of its own, as if it had been started anew."""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import traceback
from _io import _IOBase
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from setproctitle import setproctitle

from .demote import demote
from .hooks import give_back

MARKER = "RECONCILER_WORKER"
OWN = ("SLOT", "LOG_FILE", MARKER)
inherited_files: list[_IOBase] = []  # those that the module has opened at its import, before they were frozen


@dataclass(frozen=True)
class Request:
    """One worker, as the supervisor asks for it. `log` and `gate` are descriptors."""

    log: int
    gate: int
    title: str
    cwd: str
    shared: Mapping[str, str | None]  # what differs from the zygote's own; None: it has no such variable
    own: Mapping[str, str]  # what differs from worker to worker of one pool
    limits: Mapping[str, Any]  # the arguments of `demote`; none where there are no limits

    @classmethod
    def read(cls, request: int, log: int, gate: int) -> Request:
        """From a pipe or a file that holds JSON. Raises ValueError, KeyError, OSError."""
        with open(request, "rb", closefd=False) as file:
            fields = json.load(file)
        env = fields["env"]
        own = {name: env.pop(name) for name in OWN if env.get(name) is not None}
        return cls(log, gate, fields["title"], fields["cwd"], env, own, fields["limits"])


def become(request: Request) -> None:
    """Makes the process that a fork has just made what `request` says, but for what the zygote has done before.

    Raises OSError, ValueError, KeyError.
    """
    os.setsid()
    give_back()
    _take_descriptors(request)
    for name, value in request.own.items():
        os.environ[name] = value
    _mark(request.own.get(MARKER, ""))
    setproctitle(request.title)
    if "numpy" in sys.modules:  # the random module does it by itself at each fork
        sys.modules["numpy"].random.seed()
    os.chdir(request.cwd)
    if request.limits:
        demote(**request.limits)
    gc.freeze()  # what the zygote has made since it froze the rest
    gc.enable()


def leave(code: int) -> NoReturn:
    """Ends the process as Python does, but does not take the heap apart: most of it would be copied for that."""
    try:
        threading._shutdown()  # type: ignore[attr-defined] # joins threads, those of executors too
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    _close_files()
    gc.collect()  # what the handler held; all that is the zygote's is frozen, and left alone
    os._exit(code & 0xFF)


def _close_files() -> None:
    """All but the standard ones. Some are written through others, as a GzipFile is: those go before C's own."""
    files = sorted([*inherited_files, *open_files()], key=lambda file: type(file).__module__ == "_io")
    for file in files:
        with suppress(Exception):
            file.flush()
    for file in files:
        with suppress(Exception):
            if file.fileno() > 2:
                file.close()


def open_files() -> list[_IOBase]:
    """All that the garbage collector knows of, and has not frozen."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), _IOBase)]


def reset_signals() -> None:
    """As Python has them at its start, whatever the module has made of them; its children inherit that."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
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
