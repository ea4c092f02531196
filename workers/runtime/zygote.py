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

import itertools
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from setproctitle import setproctitle

from workers.base import BaseWorker

from .loader import stamp_of
from .main import Prepared
from .newborn import Request, reset_signals
from .preload import Preloaded, preload
from .signals import before_the_loop
from .stage import Stage

IDLE = 60.0  # seconds without a child after which it ends
KEPT = 4096  # exit statuses remembered for a daemon that is away
AT_ONCE = 64  # children that are forked before the first of them is told of
MORE = 0.002  # seconds for others to be asked for, too: together they share what the zygote does for them
LONGEST = 4096  # bytes of a message; what is long is in a descriptor
_INT = struct.Struct("i")
_inherited: list[object] = []  # what the parent has in hand: a child that took it apart would copy it for that


def serve(name: str) -> tuple[Request, type[BaseWorker], Prepared | None]:
    """Imports the module and forks for whoever asks. Returns in each child only: what it is to become, and to run."""
    setproctitle(f"reconciler: zygote {name}")
    listener = socket.socket(fileno=int(os.environ.pop("ZYGOTE_SOCKET")))
    preloaded = preload(name, listener.fileno())
    zygote = Zygote(name, listener, preloaded)
    request = zygote.run()
    zygote.forget()
    assert preloaded.worker
    return request, preloaded.worker, zygote.stage.prepared


@dataclass(frozen=True)
class Asked:
    """A child that somebody wants."""

    number: int
    client: socket.socket
    request: Request


def _receive(client: socket.socket) -> tuple[bytes, list[int]]:
    """What has come, and the descriptors with it; socket.recv_fds() does not pass its flags on. Raises OSError."""
    room = socket.CMSG_SPACE(3 * _INT.size)
    data, ancillary, _, _ = client.recvmsg(LONGEST, room, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
    return data, [fd for _, _, held in ancillary for (fd,) in _INT.iter_unpack(held[: len(held) // 4 * 4])]


class Zygote:
    """Serves until a fork makes it somebody else."""

    def __init__(self, name: str, listener: socket.socket, preloaded: Preloaded) -> None:
        self.stage = Stage(name)
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
        asked: list[Asked] = []
        while True:
            patience = MORE if asked else None if self._children else IDLE
            came = poll.poll(None if patience is None else patience * 1000)
            for fd, _ in came:
                if fd == self._listener.fileno():
                    self._accept(poll)
                elif fd == self._woken.fileno():
                    self._reap()
                else:
                    asked += self._hear(fd, poll)
            if asked and (not came or len(asked) >= AT_ONCE):
                _inherited.append(asked)
                if request := self._fork(asked):
                    return request
                asked = []
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

    def _hear(self, fd: int, poll: select.poll) -> list[Asked]:
        """All that this client has said: the children that it wants."""
        client = self._clients[fd]
        asked: list[Asked] = []
        try:
            while len(asked) < AT_ONCE:
                data, fds = _receive(client)
                if not data:
                    raise ConnectionError
                match json.loads(data):
                    case {"fork": int(number)}:
                        asked += self._read(number, fds, client)
                    case {"known": int(pid)}:
                        self._ended.pop(pid, None)
                    case {"quit": _} if not self._children and not asked:
                        sys.exit(0)
        except BlockingIOError:
            pass
        except OSError:
            poll.unregister(fd)
            self._clients.pop(fd).close()
        return asked

    def _read(self, number: int, fds: list[int], client: socket.socket) -> list[Asked]:
        """What is asked for; nothing if it cannot be read, and then that is said."""
        try:
            return [Asked(number, client, Request.read(*fds))]
        except (OSError, ValueError, TypeError, LookupError) as error:
            self._say({"failed": number, "why": f"it cannot be forked: {error}"}, client)
            for fd in fds[1:]:
                os.close(fd)
            return []
        finally:
            for fd in fds[:1]:
                os.close(fd)

    def _fork(self, asked: list[Asked]) -> Request | None:
        """In each child: its request."""
        held = [fd for one in asked for fd in (one.request.log, one.request.gate)]
        if why := self._why_not():
            self._refuse(asked, **why)
        else:
            for _, same in itertools.groupby(asked, key=lambda one: one.request.shared):
                if request := self._fork_alike(list(same), held):
                    return request
        for fd in held:
            os.close(fd)
        _inherited.clear()
        return None

    def _fork_alike(self, alike: list[Asked], held: list[int]) -> Request | None:
        """Those that share a pool's environment; `held` are the descriptors of all that are asked for.

        Nothing is done between two forks: of whatever the parent writes to it gets a copy, and leaves the page that it
        had to its last child alone. What it has done before is one page for all.
        """
        self.stage.set(alike[0].request.shared)
        forked: list[int | OSError] = []
        _inherited.extend((self, alike, held, forked))
        for one in alike:
            try:
                pid = os.fork()
            except OSError as error:
                forked.append(error)
                continue
            if pid == 0:
                request = one.request
                own = request.log, request.gate
                for fd in held:
                    if fd not in own:
                        os.close(fd)
                return request
            forked.append(pid)
        for one, outcome in zip(alike, forked, strict=True):
            if isinstance(outcome, int):
                self._children.add(outcome)
                self._say({"forked": one.number, "pid": outcome}, one.client)
            else:
                self._refuse([one], why=f"it cannot be forked: {outcome}")
        return None

    def _refuse(self, asked: list[Asked], **why: Any) -> None:
        for one in asked:
            self._say({"failed": one.number, **why}, one.client)

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
