"""The web server: its socket, open before anything else is started, and uvicorn as the daemon needs it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from reconciler.presence import CannotStart
from reconciler.settings import Settings

LATECOMERS = 0.2  # seconds in which those who have just connected may send their request before they are hung up on
ROUNDS = 10  # of the loop after that: what came while the machine stalled is read first


def listen(settings: Settings) -> socket.socket:
    """A listening socket, before anything else is started: who connects early is answered late. Raises CannotStart."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)  # bound alone, a second daemon could bind the same address
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotStart(f"cannot listen on {where}: {reason} (set RECONCILER_HOST and RECONCILER_PORT)") from None
    return listener


class Server(uvicorn.Server):
    """uvicorn without its signal handlers, for the daemon has its own, and without its ten ticks a second.

    All that they are for here is the Date header, which the app sets itself.
    """

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(app, lifespan="off", log_config=None, date_header=False, timeout_graceful_shutdown=1)
        )
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Asks it to stop serving."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Nobody is accepted any more, and whoever was is answered.

        A server that is closed at once hangs up on those whom asyncio has accepted and not handed over yet.
        """
        loop = asyncio.get_running_loop()
        for listener in (one for server in self.servers for one in server.sockets):
            loop.remove_reader(listener.fileno())
        await asyncio.sleep(LATECOMERS)
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
