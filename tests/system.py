"""The whole system under test: the installed `reconciler run` as a process, and what a user has around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from reconciler.broker.node import read_node
from reconciler.broker.vm import find_vm
from tests.waiting import eventually

ECHO = """\
from .base import BaseWorker


class Echo(BaseWorker):
    def process_message(self, ch, method, properties, body):
        self.logger.info("got {}", body.decode(errors="replace"))
        return True
"""


# What these write they wait for, of their own accord no longer than ten seconds: a busy machine may take them.
WRITES = ("/queue/create", "/queue/delete/", "/queue/clear/", "/queue/pause/", "/queue/resume/", "/queue/forget/")
WRITES += ("/worker/scale/", "/worker/restart/", "/rollback/")


class System:
    """One site: a folder with queues.yaml and workers/, and a daemon that can be started, killed and stopped."""

    def __init__(self, folder: Path, amqp_url: str | None, management_url: str | None) -> None:
        self.folder = folder
        self.file = folder / "queues.yaml"
        self.workers = folder / "workers"
        self.state = folder / "var"
        self.log = folder / "daemon.log"
        self.env: dict[str, str] = {}
        self.amqp_url = amqp_url
        self.management_url = management_url
        self.process: subprocess.Popen[bytes] | None = None
        self.workers.mkdir(parents=True)
        self.worker("echo", ECHO)
        self.write("version: 1\nqueues: {}\n")

    # -- the user's side -----------------------------------------------------------------------------------------

    def write(self, text: str | bytes) -> None:
        """Saves queues.yaml in place, as most editors do."""
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)

    def worker(self, name: str, source: str) -> None:
        (self.workers / f"{name}.py").write_text(source)

    @property
    def text(self) -> str:
        return self.file.read_text()

    def environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILER_", "AMQP_", "MANAGEMENT_"))}
        env |= {"RECONCILER_FILE": str(self.file), "RECONCILER_PORT": "0"}
        if self.amqp_url:
            env["AMQP_URL"] = self.amqp_url
        if self.management_url:
            env["MANAGEMENT_URL"] = self.management_url
        return env | self.env

    def cli(self, *arguments: str, stdin: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs `reconciler …` as a user would, in a pipe."""
        command = [sys.executable, "-m", "reconciler", *arguments]
        return subprocess.run(
            command,
            env=self.environment(),
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    # -- the daemon ----------------------------------------------------------------------------------------------

    def start(self, ready: bool = True) -> None:
        """Starts `reconciler run`; returns when it has announced its address and, if asked, is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "run"],
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._announced, within=120)
        if ready:
            eventually(lambda: self.get("/readyz").status_code == 200, within=60)

    def _announced(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        try:
            return json.loads((self.state / "daemon.json").read_bytes())["pid"] == self.process.pid
        except (OSError, ValueError):
            return False

    @property
    def url(self) -> str:
        return str(json.loads((self.state / "daemon.json").read_bytes())["url"])

    def broker_pid(self) -> int:
        """The embedded broker's, which runs."""
        node = read_node(self.state / "broker")
        vm = find_vm(node) if node else None
        assert vm
        return vm.pid

    def kill(self) -> None:
        """kill -9 to the daemon alone; its workers live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 60) -> int | None:
        """SIGTERM, and the daemon's exit status. Nothing if it does not run."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the daemon did not stop: {self.log.read_text()[-3000:]}") from None
        status, self.process = self.process.returncode, None
        return status

    # -- its endpoints -------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        """One request. A write that says nothing of how long it waits does so for a minute."""
        query = request.pop("params", None) or {}
        if path.startswith(WRITES) and "wait=" not in path:
            query = {"wait": 60, **query}
        if query:
            path += ("&" if "?" in path else "?") + str(httpx.QueryParams(query))
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as http:
            return http.request(method, path, **request)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.request("GET", path, params=query or None)

    def post(self, path: str, body: Any = None, **query: Any) -> httpx.Response:
        return self.request("POST", path, json=body, params=query or None)

    def delete(self, queue: str, **query: Any) -> httpx.Response:
        return self.request("DELETE", f"/queue/delete/{quote(queue, safe='')}", params=query or None)

    def publish(self, queue: str, message: Any) -> httpx.Response:
        return self.post(f"/queue/publish/{quote(queue, safe='')}", {"message": message})

    def status(self) -> dict[str, Any]:
        return dict(self.get("/status").json())

    def settled(self, within: float = 30) -> dict[str, Any]:
        """Waits until the file as it stands is in force, synced and healthy."""

        def check() -> dict[str, Any]:
            status = self.status()
            assert status["file_error"] is None, status["file_error"]
            assert status["revision"] == revision(self.file), "an older revision is in force"
            assert status["synced"], status
            assert status["healthy"], status
            return status

        return eventually(check, within)

    def list_workers(self, **query: Any) -> list[dict[str, Any]]:
        return list(self.get("/worker/list", **query).json()["workers"])


def revision(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()
