"""pika's I/O loop, made before a fork: what wakes it is a pair of sockets, and each child needs a pair of its own."""

from __future__ import annotations

import os
from _socket import socketpair  # socket's own makes enums of what the kernel says, at the price of fifty pages

from pika.adapters.select_connection import IOLoop


class Loop(IOLoop):
    """As its base. It must not run before the fork."""

    def __init__(self) -> None:
        before = _descriptors()
        super().__init__()
        self._opened = sorted(_descriptors() - before)

    @property
    def can_be_renewed(self) -> bool:
        """Whether it has opened what pika opens, and no more."""
        return len(self._opened) == 2

    def renew(self) -> None:
        """In a child: under the same numbers, other sockets than those that it has in common with all the others."""
        for number, new in zip(self._opened, socketpair(), strict=True):
            new.setblocking(False)
            os.dup2(new.fileno(), number, inheritable=False)
            new.close()


def _descriptors() -> set[int]:
    return {number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number)}


def _is_open(number: int) -> bool:
    """The one that the folder was listed with is not any more."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
