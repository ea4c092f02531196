"""A process that has imported a worker's module and forks a worker on request: `__main__.py zygote NAME`.

The supervisor starts one for each image (interpreter, module, environment at import) and talks to it over a socket
that the next daemon finds, too. It is its workers' parent: it knows how each ended. It opens nothing else, runs one
thread, and ends by itself when nobody has needed it for a while.

Messages are JSON, one a packet. In: {"fork": ID} with three descriptors (request, log, gate); {"known": PID},
its end is filed; {"quit": …} for one without children.
Out: {"forked": ID, "pid"}, {"failed": ID, "why"}, {"ended": PID, "code"}; to whoever connects, how those ended that
it has not filed, and then {"hello": …}.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from workers.base import BaseWorker

from . import log, main, newborn  # noqa: F401  (all that a worker needs)
from .loader import Fault, folder, load, stamp_of
from .newborn import Request, reset_signals
from .rehearsal import rehearse
from .settings import parsed
from .signals import before_the_loop

IDLE = 60.0  # seconds without a child after which it ends
KEPT = 4096  # exit statuses remembered for a daemon that is away
LONGEST = 4096  # bytes of a message; what is long is in a descriptor
# What differs from worker to worker of one image: a module that asks for it at import cannot be shared.
OF_THE_QUEUE = (b"QUEUE_NAME", b"QUEUE_RETRY", b"QUEUE_DEAD_LETTER")
PER_WORKER = (*OF_THE_QUEUE, b"SLOT", b"PREFETCH", b"NOTIFY_SOCKET", b"LOG_FILE", b"START_GATE")


def serve(name: str) -> tuple[Request, type[BaseWorker]]:
    """Imports the module and forks for whoever asks. Returns in each child only: what it is to become, and to run."""
    setproctitle(f"reconciler: zygote {name}")
    listener = socket.socket(fileno=int(os.environ.pop("ZYGOTE_SOCKET")))
    preloaded = preload(name, listener.fileno())
    zygote = Zygote(listener, preloaded)
    request = zygote.run()
    zygote.forget()
    assert preloaded.worker
    return request, preloaded.worker


@dataclass(frozen=True)
class Preloaded:
    """What came of the import: `unfit` says why nothing may be forked from it; `files` are the user's, with stamps."""

    unfit: str | None
    worker: type[BaseWorker] | None = None
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


def preload(name: str, own_socket: int) -> Preloaded:
    """Imports the worker's module, and looks at what that has left behind."""
    asked: set[bytes] = set()
    log.set_up(os.environ, name)  # before the module, as in a process of its own: it may change it
    plain, os.environ._data = os.environ._data, _Watched(os.environ._data, asked)  # type: ignore[attr-defined]
    try:
        worker = load(name)
    except Fault as fault:
        return Preloaded(why_unfit(own_socket, asked) or str(fault))
    finally:
        os.environ._data = plain  # type: ignore[attr-defined]
        sys.stdout.flush()
        sys.stderr.flush()
    unfit = why_unfit(own_socket, asked)
    if unfit is None:
        rehearse(name)
        with suppress(Exception):  # a worker says what is wrong with it
            parsed(os.environ["AMQP_URL"])
        unfit = why_unfit(own_socket, asked)
    gc.collect()
    newborn.inherited_files.extend(newborn.open_files())
    gc.disable()  # a collection in the child would touch, and so copy, every page
    gc.freeze()
    return Preloaded(unfit, worker, loaded_files())


class _Watched(dict[bytes, bytes]):
    """The environment, noting which of the names are asked for that differ from worker to worker."""

    def __init__(self, data: dict[bytes, bytes], asked: set[bytes]) -> None:
        super().__init__(data)
        self._asked = asked

    def __getitem__(self, key: bytes) -> bytes:
        if key in PER_WORKER:
            self._asked.add(key)
        return super().__getitem__(key)


def why_unfit(own_socket: int, asked: set[bytes]) -> str | None:
    """What a fork would break in a process such as this one, None if nothing."""
    if asked:
        return f"its module reads {', '.join(sorted(map(os.fsdecode, asked)))} when it is imported"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"importing its module starts {threads - 1} thread{'s' if threads > 2 else ''}"
    sockets = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd != own_socket and _is_socket(fd)]
    if sockets:
        return f"importing its module opens {len(sockets)} socket{'s' if len(sockets) > 1 else ''}"
    return None


def _is_socket(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("socket:", "anon_inode:[eventpoll]"))
    except OSError:
        return False


def loaded_files() -> dict[str, tuple[int, int]]:
    """The files that modules outside the interpreter's own folders came from, with their time and size.

    Those of the workers' folder are left out: other code there is another image, and while a change of it is held up,
    this one still gives workers of the code before.
    """
    ours = (sys.prefix, sys.base_prefix, str(Path(__file__).parent), str(folder()))
    known = tuple(place + os.sep for place in ours)
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not path.startswith(known) and (stamp := stamp_of(path)):
            found[path] = stamp
    return found


class Zygote:
    """Serves until a fork makes it somebody else."""

    def __init__(self, listener: socket.socket, preloaded: Preloaded) -> None:
        self._pid = os.getpid()
        self._listener = listener
        self._preloaded = preloaded
        self._clients: dict[int, socket.socket] = {}
        self._children: set[int] = set()
        self._ended: dict[int, int] = {}
        self._deserted = time.monotonic()
        reset_signals()  # here, so that no child has to
        before_the_loop()
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        listener.setblocking(False)

    def run(self) -> Request:
        poll = select.poll()
        for fd in (self._listener.fileno(), self._woken.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll(None if self._children else IDLE * 1000):
                if fd == self._listener.fileno():
                    self._accept(poll)
                elif fd == self._woken.fileno():
                    self._reap()
                elif request := self._hear(fd, poll):
                    return request
            if not self._children and time.monotonic() - self._deserted >= IDLE:
                sys.exit(0)

    def forget(self) -> None:
        """In the child: lets go of everything that was the parent's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for held in (self._listener, self._wake, self._woken, *self._clients.values()):
            held.close()

    def _accept(self, poll: select.poll) -> None:
        with suppress(OSError):
            client, _ = self._listener.accept()
            uid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if uid not in (0, os.geteuid()):
                client.close()
                return
            self._clients[client.fileno()] = client
            poll.register(client.fileno(), select.POLLIN)
            for pid, code in self._ended.items():
                self._say({"ended": pid, "code": code}, client)
            # Last, for it says that all is told: who heard it first would file those that ended as unknown.
            self._say({"hello": self._pid, "alive": sorted(self._children)}, client)

    def _say(self, message: dict[str, Any], client: socket.socket) -> None:
        client.setblocking(True)  # a daemon that reads slowly is waited for: its children come first, not ours
        with suppress(OSError):
            client.send(json.dumps(message).encode())

    def _hear(self, fd: int, poll: select.poll) -> Request | None:
        client = self._clients[fd]
        try:
            data, fds, _, _ = socket.recv_fds(client, LONGEST, 3, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, fds = b"", []
        if not data:
            poll.unregister(fd)
            self._clients.pop(fd).close()
            return None
        match json.loads(data):
            case {"fork": int(number)}:
                return self._fork(number, fds, client)
            case {"known": int(pid)}:
                self._ended.pop(pid, None)
            case {"quit": _} if not self._children:
                sys.exit(0)
        return None

    def _fork(self, number: int, fds: list[int], client: socket.socket) -> Request | None:
        try:
            request = Request.read(*fds)
            if why := self._why_not():
                self._say({"failed": number, **why}, client)
                return None
            pid = os.fork()
        except (OSError, ValueError, TypeError, LookupError) as error:
            self._say({"failed": number, "why": f"it cannot be forked: {error}"}, client)
            return None
        else:
            if pid == 0:
                os.close(fds[0])
                return request
            self._children.add(pid)
            self._say({"forked": number, "pid": pid}, client)
            return None
        finally:
            if os.getpid() == self._pid:
                for fd in fds:
                    os.close(fd)

    def _why_not(self) -> dict[str, Any] | None:
        if self._preloaded.unfit:
            return {"why": self._preloaded.unfit, "unfit": True}
        changed = [path for path, stamp in self._preloaded.files.items() if stamp_of(path) != stamp]
        return {"why": f"{changed[0]} has changed", "stale": True} if changed else None

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._bury(ended)

    def _bury(self, ended: os.waitid_result) -> None:
        pid = ended.si_pid
        if pid in self._children:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # while its number is still its own
        os.waitpid(pid, 0)
        if pid not in self._children:
            return
        self._children.discard(pid)
        self._deserted = time.monotonic()
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        self._ended[pid] = code
        if len(self._ended) > KEPT:
            del self._ended[next(iter(self._ended))]
        for client in self._clients.values():
            self._say({"ended": pid, "code": code}, client)
