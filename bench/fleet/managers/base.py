"""What the benchmark asks of a supervisor."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench.fleet import jobs, proc
from bench.fleet.jobs import Job
from bench.fleet.ready import NotifyRoll, Roll

T = TypeVar("T")
PATIENCE = 30.0  # seconds for a daemon to come up, or to go
FOREIGN = ("RECONCILER_", "AMQP_", "MANAGEMENT_", "NOTIFY_", "PM2_", "SUPERVISOR_")


@dataclass(frozen=True)
class Site:
    """One daemon's own folder, the broker, and the mark by which its processes are known."""

    folder: Path
    peer: Path | None  # where the peer is installed
    amqp_url: str
    management_url: str
    lines: int
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def done(self) -> Path:
        """There once the worker `lines` has written them all."""
        return self.folder / "lines-are-written"

    def environment(self) -> dict[str, str]:
        """Of the daemon; workers inherit it."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        return env | {proc.MARK: self.mark, "BENCH_DONE": str(self.done), "BENCH_LINES": str(self.lines)}


class Manager(ABC):
    """One daemon of a kind. `roll` hears which workers are ready once `start` has returned."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.roll: Roll = Roll()
        self._log = (site.folder / "daemon.out").open("ab")
        self._helpers: list[subprocess.Popen[bytes]] = []

    @abstractmethod
    def start(self, programs: Sequence[Job]) -> None:
        """The daemon is up, and none of the programs runs."""

    @abstractmethod
    def up(self, program: Job) -> None:
        """Asks for all of its processes, in the quickest way there is; returns when it has been asked."""

    @abstractmethod
    def down(self, program: Job) -> None:
        """Asks for none of them; may return before they are gone."""

    @abstractmethod
    def quit(self) -> None:
        """Asks the daemon to end."""

    def close(self) -> None:
        """Ends the daemon and everything it started, whatever state they are in."""
        try:
            self.quit()
        except Exception as error:  # what cannot be asked is ended below
            self._log.write(f"could not be asked to quit: {error!r}\n".encode())
        finally:
            for helper in self._helpers:
                helper.kill()
                helper.wait()
            self.roll.close()
            proc.sweep(self.site.mark)
            self._log.close()

    def overhead(self) -> set[int]:
        """The processes that are neither workers nor the benchmark's own: the daemon, and whatever it needs."""
        own = {helper.pid for helper in self._helpers if helper.pid not in self.daemons()}
        return proc.marked(self.site.mark, self.daemons()) - self.roll.pids - own

    def daemons(self) -> set[int]:
        """Pids that are known to belong, whatever their environment shows."""
        return set()

    def spawn(self, command: Sequence[str | Path], env: dict[str, str], pipes: bool = False) -> subprocess.Popen[bytes]:
        """A daemon, or with `pipes` somebody who speaks to it; ended by `close`."""
        pipe = subprocess.PIPE if pipes else None
        child = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.site.folder,
            env=env,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._helpers.append(child)
        return child


class Peer(Manager):
    """A peer's workers speak to a notify socket of the benchmark's, and find their settings in the environment."""

    def peer_environment(self, programs: Sequence[Job]) -> dict[str, str]:
        notify = self.site.folder / "notify"
        self.roll = NotifyRoll(notify)
        return self.site.environment() | {
            "AMQP_URL": self.site.amqp_url,
            "QUEUE_NAME": jobs.QUEUE,
            "WORKER_NAME": programs[0].name,
            "WORKERS_FOLDER": str(jobs.HERE / "handlers"),
            "PREFETCH": str(jobs.PREFETCH),
            "NOTIFY_SOCKET": str(notify),
            "PYTHONUNBUFFERED": "1",
        }


class Helper:
    """A process that is up and connected already, and does what each line on its input says."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def ask(self, line: str) -> str:
        """Its answer, one line. Raises RuntimeError when it says that it failed, or ends."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline().decode().strip()
        if not answer.startswith("ok"):
            raise RuntimeError(f"{line}: {answer or 'no answer'}")
        return answer


def until(check: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true value; an OSError counts as "not yet". Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := check():
                return value
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
