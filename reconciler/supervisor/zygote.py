"""The daemon's side of a zygote: start it, have it fork, hear how its children ended (see workers/runtime/zygote.py).

A zygote outlives the daemon. The next daemon connects to its socket and hears of the children that ended meanwhile,
but forks from one that it has started itself: between the two there may have been an upgrade.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from reconciler.supervisor import proc
from reconciler.supervisor.image import Image
from reconciler.supervisor.logfiles import last_lines
from reconciler.supervisor.reason import explain
from state.file import remove

LONGEST = 65536  # bytes of a message
PIPE = 65536  # bytes that a pipe holds


class Lost(Exception):
    """The zygote has died, or ended since nobody needed it; another can be started."""


class Stale(Exception):
    """A file that the zygote has imported has changed since; another one would import it anew."""


class Unfit(Exception):
    """Nothing may be forked from a process that has imported this module; says why."""


class Forked(NamedTuple):
    """A new child. It waits until a byte is written to `gate`; once that is closed without one it ends by itself."""

    pid: int
    gate: int


class Zygote:
    """One zygote process. `ended(pid, code)` is called for its children."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, ended: Callable[[int, int], None]) -> None:
        self.path = path
        self.alive: set[int] = set()  # its children
        self.ready = asyncio.Event()  # it has said what it knows, or is dead
        self.dead = False
        self.retired = False  # nothing is forked from it any more
        self.environment: Mapping[str, str] = {}  # with which it is started
        self._loop = loop
        self._tell_ended = ended
        self._pid = 0  # of the process, if it is our child
        self._code: int | None = None  # how it ended
        self._pidfd = -1
        self._socket: socket.socket | None = None
        self._why = ""  # it could not be started
        self._reaped = asyncio.Event()
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._number = 0

    @property
    def pid(self) -> int:
        """Of the process, if it lives and is our child; else 0."""
        return self._pid

    @property
    def log(self) -> Path:
        """What the module prints while it is imported."""
        return self.path.with_suffix(".log")

    @property
    def gone(self) -> bool:
        """Whether the process has ended, as far as we can know."""
        return self.dead and self._pid == 0

    def start(self, image: Image) -> None:
        """Starts the process; it answers once it has imported its module. One that cannot be started is dead."""
        try:
            self._start(image)
        except OSError as error:
            self._why = f"{image.command[0]} cannot be started: {error.strerror}"
            self._lose()

    def _start(self, image: Image) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            with short(self.path) as address:
                listener.bind(address)
            listener.listen(8)
            self._watch(
                _popen(image, {**self.environment, "ZYGOTE_SOCKET": str(listener.fileno())}, listener, self.log)
            )
        self.connect()

    def connect(self) -> None:
        """Raises OSError if nobody serves the socket."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.setblocking(False)  # one that is stuck, and was connected to often, would have us wait for ever
        try:
            with short(self.path) as address:
                client.connect(address)
        except OSError:
            client.close()
            raise
        self._socket = client
        self._loop.add_reader(client.fileno(), self._read)

    def lacks(self, environment: Mapping[str, str]) -> dict[str, str | None]:
        """What its child has to set to have that environment, and with None what it has to forget."""
        other = {name: value for name, value in environment.items() if self.environment.get(name) != value}
        return other | dict.fromkeys(self.environment.keys() - environment.keys())

    async def fork(self, request: Mapping[str, Any], log: int) -> Forked:
        """A child that writes to `log`. Raises Lost, Stale, Unfit, and OSError if the system has no room for it.

        When cancelled, a child that is on its way ends at its gate.
        """
        await self.ready.wait()
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        try:
            return Forked(await self._ask(request, log, theirs), ours)
        except BaseException:
            os.close(ours)
            raise

    def known(self, pid: int) -> None:
        """The end of this child is on file: no need to tell the next daemon of it."""
        self._send({"known": pid})
        if self.retired and not self.alive:
            self._send({"quit": True})

    def retire(self) -> None:
        """Has it end, now or as soon as it has no children any more; without them it would by itself in a minute."""
        self.retired = True
        self._send({"quit": True})

    def kill(self, all_the_same: bool = False) -> None:
        """SIGKILL, if it is our child and does not hear; while it has a child that works only `all_the_same`."""
        stats = (proc.read_stat(pid) for pid in self.alive if not all_the_same)
        if self._pidfd >= 0 and not any(stat and stat.alive and stat.parent == self._pid for stat in stats):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Lets go of it; it goes on, and its children with it."""
        self._unwatch()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._socket:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    async def last_words(self) -> str:
        """Why it has died."""
        if self._why:
            return self._why
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await self._reaped.wait()
        return explain(self._code, last_lines(self.log))

    async def _ask(self, request: Mapping[str, Any], log: int, gate: int) -> int:
        self._number += 1
        number = self._number
        try:
            memory = _sealed(request)
        except BaseException:
            os.close(gate)
            raise
        try:
            while self._is_full({"fork": number}, (memory, log, gate)):
                await asyncio.sleep(0.002)  # it is busy forking
        finally:
            os.close(gate)
            os.close(memory)
        answer = self._asked[number] = self._loop.create_future()
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    def _send(self, message: Mapping[str, Any]) -> None:
        with suppress(Lost):
            self._is_full(message)  # then it hears the next time

    def _is_full(self, message: Mapping[str, Any], fds: tuple[int, ...] = ()) -> bool:
        """Sends it, or finds no room for it at the moment. Raises Lost."""
        if self._socket is None:
            raise Lost
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], fds)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # as many descriptors are on their way as one may have open
                return True
            raise Lost from None
        return False

    def _read(self) -> None:
        while self._socket:
            try:
                data = self._socket.recv(LONGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._lose()
            else:
                self._hear(json.loads(data))

    def _hear(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"hello": int(pid), "alive": list(alive)}:
                self.alive = set(alive)
                if not self._pid and (stat := proc.read_stat(pid)) and stat.parent == os.getpid():
                    self._watch(pid)  # started by what we were before we exec'd ourselves
                self.ready.set()
            case {"forked": int(number), "pid": int(pid)}:
                self.alive.add(pid)
                if answer := self._answer(number):
                    answer.set_result(pid)
            case {"failed": int(number), "why": str(why), **more}:
                kind = Unfit if "unfit" in more else Stale if "stale" in more else OSError
                if answer := self._answer(number):
                    answer.set_exception(kind(why))
            case {"ended": int(pid), "code": int(code)}:
                self.alive.discard(pid)
                self._tell_ended(pid, code)

    def _answer(self, number: int) -> asyncio.Future[int] | None:
        answer = self._asked.get(number)
        return answer if answer and not answer.done() else None

    def _watch(self, pid: int) -> None:
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = 0
        self._reaped.set()
        self._unwatch()

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _lose(self) -> None:
        self._disconnect()
        self.dead = True
        remove(self.path)
        self.ready.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Lost())


@contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of the path that fits into a socket's address, however deep its folder is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _popen(image: Image, environment: Mapping[str, str], listener: socket.socket, log: Path) -> int:
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        child = subprocess.Popen(
            image.command,
            cwd=image.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(listener.fileno(),),
            start_new_session=True,
        )
    child.returncode = 0  # it is reaped by its pidfd, not by Popen
    return child.pid


def _sealed(request: Mapping[str, Any]) -> int:
    """A descriptor from which it can be read once: an environment may be larger than what a socket takes."""
    data = json.dumps(request).encode()
    theirs, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with suppress(BlockingIOError), open(ours, "wb", buffering=0) as pipe:
        if len(data) <= PIPE and pipe.write(data) == len(data):
            return theirs
    os.close(theirs)
    fd = os.memfd_create("request", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
