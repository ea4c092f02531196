"""Who has become ready, and when: heard on a notify socket for the peers, in the daemon's events for ours."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx


class Roll:
    """Pids and the monotonic time at which each was first heard to be ready. Threads may tell."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        self._news = threading.Condition()

    def tell(self, pid: int, at: float | None = None) -> None:
        with self._news:
            self._at.setdefault(pid, time.monotonic() if at is None else at)
            self._news.notify_all()

    @property
    def pids(self) -> set[int]:
        with self._news:
            return set(self._at)

    def wait_new(self, known: set[int], count: int, seconds: float) -> dict[int, float]:
        """The first `count` that are not `known`, by time. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        with self._news:
            while len(self._at.keys() - known) < count:
                left = deadline - time.monotonic()
                if left <= 0:
                    there = len(self._at.keys() - known)
                    raise TimeoutError(f"only {there} of {count} workers were ready after {seconds:.0f} s")
                if not self._news.wait(min(left, 1.0)):
                    self.look()
            new = sorted((at, pid) for pid, at in self._at.items() if pid not in known)
        return {pid: at for at, pid in new[:count]}

    def look(self) -> None:
        """Asked when somebody waits and there has been no news for a second: a roll that may miss some looks itself."""

    def close(self) -> None:
        """Stops listening."""


class NotifyRoll(Roll):
    """A NOTIFY_SOCKET: the kernel says who the sender is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(str(path))
        self._closed = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        self._socket.settimeout(0.5)
        while not self._closed:
            with suppress(TimeoutError):
                data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(12))
                if b"READY=1" in data.split(b"\n"):
                    self.tell(struct.unpack("3i", ancillary[0][2])[0])

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        self._socket.close()


class EventRoll(Roll):
    """What the daemon tells those who watch it: never before it knows itself."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._closed = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._closed:
            with suppress(httpx.HTTPError):
                self._follow()
            time.sleep(0.1)

    def _follow(self) -> None:
        with httpx.Client(base_url=self._http.base_url, timeout=20, trust_env=False) as http:  # noqa: SIM117
            with http.stream("GET", "/events") as events:
                for line in events.iter_lines():
                    if self._closed:
                        return
                    if line.startswith("data:"):
                        self._hear(json.loads(line[5:]))

    def _hear(self, event: dict[str, object]) -> None:
        data = event.get("data")
        if event.get("kind") == "worker" and isinstance(data, dict) and "] ready" in str(event.get("text")):
            self.tell(int(data["pid"]))

    def look(self) -> None:
        with suppress(httpx.HTTPError):
            for worker in self._http.get("/worker/list", params={"state": "ready"}).json()["workers"]:
                self._at.setdefault(int(worker["pid"]), time.monotonic())

    def close(self) -> None:
        self._closed = True
        self._http.close()
