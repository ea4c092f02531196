"""The socket that workers talk to: NOTIFY_SOCKET in systemd's sd_notify protocol, so that any language can.

The kernel attaches the sender's pid to every datagram, so a worker can speak for nobody but itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from reconciler.supervisor.report import parse
from state.file import remove

log = logging.getLogger(__name__)

LONGEST_PATH = 100  # of the 107 bytes a socket's path may have
LONGEST_DATAGRAM = 16 * 1024
RECEIVE_BUFFER = 4 * 1024 * 1024
AT_ONCE = 1000  # datagrams for each wake-up, so that a chatty worker cannot hold the loop
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(16 * 4)

Listener = Callable[[int, Mapping[str, str]], None]


class NotifySocket:
    """Receives datagrams and hands each to `listener(pid of the sender, fields)`.

    `address` is a path for the owner of the folder; `open_address`, in the abstract namespace, is for those who may not
    look into the folder. Who speaks, the kernel says.
    """

    def __init__(self, folder: Path, listener: Listener) -> None:
        path = folder / "notify.sock"
        self.open_address = _abstract(path)
        self.address = _path(path) or self.open_address
        self._listener = listener
        self._sockets: list[socket.socket] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Binds the sockets, in place of one that an earlier daemon left. Raises OSError.

        What comes is kept until `listen`: while nobody knows whose it is, it would be lost.
        """
        self._loop = loop
        self._sockets.append(_bound(self.address))
        if self.open_address != self.address:
            try:
                self._sockets.append(_bound(self.open_address))
            except OSError as error:  # somebody has taken the name: no reason for the others not to be heard
                log.warning("workers with a `user` of their own cannot be heard: %s", error)

    def listen(self) -> None:
        """From now on the listener is told."""
        assert self._loop is not None, "open it first"
        for receiver in self._sockets:
            self._loop.add_reader(receiver.fileno(), self._read, receiver)

    def read(self) -> None:
        """Takes in what has arrived."""
        for receiver in self._sockets:
            self._read(receiver)

    def _read(self, receiver: socket.socket) -> None:
        for _ in range(AT_ONCE):
            if receiver not in self._sockets or not self._receive(receiver):
                return

    def _receive(self, receiver: socket.socket) -> bool:
        try:
            data, ancillary, flags, _ = receiver.recvmsg(LONGEST_DATAGRAM, _ANCILLARY)
        except (BlockingIOError, InterruptedError):
            return False
        pid = _sender(ancillary)
        if pid and not flags & socket.MSG_TRUNC:
            self._listener(pid, parse(data))
        return True

    def close(self) -> None:
        """Stops listening; nothing if it was not open."""
        if not self._sockets or self._loop is None:
            return
        for receiver in self._sockets:
            self._loop.remove_reader(receiver.fileno())
            receiver.close()
        self._sockets.clear()
        if not self.address.startswith("@"):
            remove(Path(self.address))


def _bound(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if address.startswith("@"):
            receiver.bind("\0" + address[1:])
        else:
            Path(address).unlink(missing_ok=True)
            receiver.bind(address)
            os.chmod(address, 0o666)
    except OSError:
        receiver.close()
        raise
    return receiver


def _path(path: Path) -> str | None:
    """None if it is too long for a socket."""
    absolute = str(path.resolve())
    return absolute if len(os.fsencode(absolute)) <= LONGEST_PATH else None


def _abstract(path: Path) -> str:
    return "@reconciler-" + hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]


def _sender(ancillary: Iterable[tuple[int, int, bytes]]) -> int | None:
    pid = None
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            _close_all(data)
    return pid


def _close_all(descriptors: bytes) -> None:
    # systemd-notify sends one along (BARRIER=1), and waits until it is closed here.
    for (fd,) in struct.iter_unpack("i", descriptors[: len(descriptors) // 4 * 4]):
        os.close(fd)
