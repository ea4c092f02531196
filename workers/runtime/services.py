"""pika's I/O services, but for addresses that need no look-up: pika would start a thread to look each of them up."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from pika.adapters.utils.nbio_interface import AbstractIOReference, AbstractTimerReference
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter


class Services(SelectorIOServicesAdapter):
    """As its base; `host` may be a name, too."""

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[..., None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        if not is_literal(host):
            return super().getaddrinfo(host, port, on_done, family, socktype, proto, flags)
        found = socket.getaddrinfo(host, port, family, socktype, proto, flags)
        return _Answer(self.call_later(0, lambda: on_done(found)))


class _Answer(AbstractIOReference):
    """On its way until the loop's next round."""

    def __init__(self, timer: AbstractTimerReference) -> None:
        self._timer = timer

    def cancel(self) -> bool:
        self._timer.cancel()
        return True


def is_literal(host: str) -> bool:
    """Whether it is an address, not a name that somebody has to be asked for."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False
