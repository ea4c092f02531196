"""The socket that workers talk to: NOTIFY_SOCKET in systemd's sd_notify protocol, so that any language can.

The kernel attaches the sender's pid to every datagram, so a worker can speak for nobody but itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from reconciler.supervisor.report import parse

LONGEST_PATH = 100  # of the 107 bytes a socket's path may have
LONGEST_DATAGRAM = 16 * 1024
RECEIVE_BUFFER = 4 * 1024 * 1024
AT_ONCE = 1000  # datagrams for each wake-up, so that a chatty worker cannot hold the loop
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_ANCILLARY = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(16 * 4)

Listener = Callable[[int, Mapping[str, str]], None]


class NotifySocket:
    """Receives datagrams and hands each to `listener(pid of the sender, fields)`."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.address = _address(folder / "notify.sock")
        self._listener = listener
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Binds the socket, in place of one that an earlier daemon left. Raises OSError."""
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            self._bind(receiver)
        except OSError:
            receiver.close()
            raise
        self._socket, self._loop = receiver, loop
        loop.add_reader(receiver.fileno(), self.read)

    def _bind(self, receiver: socket.socket) -> None:
        if self.address.startswith("@"):
            receiver.bind("\0" + self.address[1:])
            return
        Path(self.address).unlink(missing_ok=True)
        receiver.bind(self.address)
        os.chmod(self.address, 0o666)  # a worker may have dropped root; who it is, the kernel says

    def read(self) -> None:
        """Takes in what has arrived."""
        for _ in range(AT_ONCE):
            if self._socket is None or not self._receive(self._socket):
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
        if self._socket is None or self._loop is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None
        if not self.address.startswith("@"):
            Path(self.address).unlink(missing_ok=True)


def _address(path: Path) -> str:
    absolute = str(path.resolve())
    if len(os.fsencode(absolute)) <= LONGEST_PATH:
        return absolute
    return "@reconciler-" + hashlib.sha256(os.fsencode(absolute)).hexdigest()[:32]


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
