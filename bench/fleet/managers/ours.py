"""The reconciler itself: the real `reconciler run` on a queues.yaml, scaled by its REST endpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from bench.fleet import jobs
from bench.fleet.jobs import Job
from bench.fleet.ready import EventRoll

from .base import PATIENCE, Manager, until


class Reconciler(Manager):
    """`daemon` is the process that runs now."""

    daemon: subprocess.Popen[bytes] | None = None

    def start(self, programs: Sequence[Job]) -> None:
        self.file.write_text(queues_yaml(programs))
        self.run()
        self.roll = EventRoll(self.url)
        until(self._synced, "the reconciler is synced")

    @property
    def file(self) -> Path:
        return self.site.folder / "queues.yaml"

    def run(self) -> None:
        """Starts a daemon; returns when it has announced itself."""
        settings = {
            "RECONCILER_FILE": str(self.file),
            "RECONCILER_WORKERS": str(jobs.HERE / "handlers"),
            "RECONCILER_STATE": str(self.site.folder / "var"),
            "RECONCILER_PORT": "0",
            "AMQP_URL": self.site.amqp_url,
            "MANAGEMENT_URL": self.site.management_url,
        }
        self.daemon = self.spawn([sys.executable, "-m", "reconciler", "run"], self.site.environment() | settings)
        until(self._announced, "the reconciler announces itself")

    def up(self, program: Job) -> None:
        self.scale(program, program.count)

    def down(self, program: Job) -> None:
        self.scale(program, 0)

    def scale(self, program: Job, count: int) -> None:
        body = {"worker_name": program.name, "count": count}
        answer = self.http().post(f"/worker/scale/{jobs.QUEUE}", params={"wait": 0}, json=body)
        answer.raise_for_status()

    def quit(self) -> None:
        if self.daemon is not None:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait(PATIENCE)

    def daemons(self) -> set[int]:
        return {self.daemon.pid} if self.daemon is not None else set()

    @property
    def url(self) -> str:
        return str(self._told()["url"])

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def ready(self) -> set[int]:
        """The pids that the daemon says are ready."""
        with self.http() as http:
            workers = http.get("/worker/list", params={"state": "ready"}).json()["workers"]
        return {int(worker["pid"]) for worker in workers}

    def count_ready(self, program: Job) -> int:
        """As the daemon says, without a look at each process."""
        with self.http() as http:
            queue = http.get("/status").json().get("queues", {}).get(jobs.QUEUE, {"workers": {}})
        return int(queue["workers"].get(program.name, {"ready": 0})["ready"])

    def _told(self) -> dict[str, object]:
        return dict(json.loads((self.site.folder / "var" / "daemon.json").read_bytes()))

    def _announced(self) -> bool:
        assert self.daemon is not None
        if self.daemon.poll() is not None:
            raise RuntimeError(f"the reconciler ended with {self.daemon.returncode}; see {self._log.name}")
        try:
            return self._told()["pid"] == self.daemon.pid
        except ValueError:
            return False

    def _synced(self) -> bool:
        with self.http() as http:
            return bool(http.get("/status").json().get("synced"))


def queues_yaml(programs: Sequence[Job]) -> str:
    """All programs on one queue, none of them running yet."""
    workers = "".join(f"      {one.name}: {{{keys_of(one)}}}\n" for one in programs)
    return f"version: 1\nqueues:\n  {jobs.QUEUE}:\n    workers:\n{workers}"


def keys_of(program: Job) -> str:
    keys = f"count: 0, prefetch: {jobs.PREFETCH}"
    return keys if program.python else f"{keys}, command: {json.dumps(program.command)}"
