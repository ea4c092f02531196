"""A worker process as the supervisor starts it: the real command line, a user's folder, a log file, a notify socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest

ENTRY = Path(__file__).parents[2] / "workers" / "__main__.py"


def until(condition: Callable[[], Any], seconds: float = 30, what: object = None) -> Any:
    """The first true value of `condition`, or a failure after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {what() if callable(what) else what or condition}")
        time.sleep(0.02)
    return value


class Process:
    """One running worker."""

    def __init__(self, folder: Path, name: str, env: dict[str, str], log: Path, pass_fds: tuple[int, ...] = ()) -> None:
        self.log_path = log
        self.heard: list[dict[str, str]] = []  # every datagram
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(env["NOTIFY_SOCKET"])
        threading.Thread(target=self._listen, daemon=True).start()
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-P", str(ENTRY), "run", name],
                env=env,
                cwd=folder.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        self.pid = self.popen.pid

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                text = self._socket.recv(65536).decode()
                self.heard.append(
                    dict(line.split("=", 1) for line in text.splitlines()) | {"at": str(time.monotonic())}
                )

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def told(self, **fields: str) -> dict[str, str]:
        """Wait for a datagram that says this."""
        return until(
            lambda: next((one for one in self.heard if fields.items() <= one.items()), None),
            what=lambda: f"{fields} in {self.heard}\n{self.log}",
        )

    def ready(self) -> Process:
        self.told(READY="1")
        return self

    def says(self, pattern: str, count: int = 1, seconds: float = 30) -> list[str]:
        """Wait until the log holds `pattern` so many times, in lines that are whole."""
        return until(
            lambda: len(found := re.findall(pattern, self.log.rpartition("\n")[0])) >= count and found,
            seconds,
            what=lambda: f"{count} × {pattern!r} in\n{self.log}",
        )

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """The exit status after a signal."""
        self.popen.send_signal(number)
        return self.ended(seconds)

    def ended(self, seconds: float = 30) -> int:
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it runs on\n{self.log}")

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self._socket.close()


class Bench:
    """A user's folder, a vhost, and the workers started on them."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        self.folder = root / "handlers"
        self.folder.mkdir()
        self._processes: list[Process] = []
        self._connection: pika.BlockingConnection | None = None

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source), "utf-8")
        return path

    def start(
        self, name: str = "work", source: str | None = None, pass_fds: tuple[int, ...] = (), **env: str
    ) -> Process:
        """Start the worker `name`; `env` goes on top of what the supervisor gives."""
        if source is not None:
            self.write(f"{name}.py", source)
        number = len(self._processes)
        given = {
            "AMQP_URL": self.url,
            "QUEUE_NAME": "q",
            "WORKER_NAME": name,
            "PREFETCH": "10",
            "NOTIFY_SOCKET": str(self.root / f"notify{number}"),
            "WORKERS_FOLDER": str(self.folder),
            "SLOT": "0",
        }
        process = Process(self.folder, name, os.environ | given | env, self.root / f"{number}.log", pass_fds)
        self._processes.append(process)
        return process

    @property
    def channel(self) -> Any:
        """A channel of the test's own; a new one if the last was closed, by an error or with the broker."""
        if self._connection is not None:
            with suppress(pika.exceptions.AMQPError):
                self._connection.process_data_events(0)
        if self._connection is None or not self._connection.is_open:
            self._connection = pika.BlockingConnection(pika.URLParameters(self.url))
            self._channel = self._connection.channel()
        if not self._channel.is_open:
            self._channel = self._connection.channel()
        return self._channel

    def queue(self, name: str = "q", **arguments: Any) -> None:
        named = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
        self.channel.queue_declare(name, durable=True, arguments=named)

    def publish(self, *bodies: str, queue: str = "q") -> None:
        for body in bodies:
            self.channel.basic_publish("", queue, body.encode(), pika.BasicProperties(delivery_mode=2))

    def count(self, queue: str = "q") -> int:
        return self.channel.queue_declare(queue, passive=True).method.message_count

    def consumers(self, queue: str = "q") -> int:
        return self.channel.queue_declare(queue, passive=True).method.consumer_count

    def take(self, queue: str = "q") -> list[str]:
        """Everything that is ready, taken out."""
        bodies = []
        while (got := self.channel.basic_get(queue, auto_ack=True))[0]:
            bodies.append(got[2].decode())
        return bodies

    def close(self) -> None:
        for process in self._processes:
            process.close()
        if self._connection is not None and self._connection.is_open:
            self._connection.close()


class Proxy:
    """A TCP proxy before the broker, so that a test can take the broker away from the worker alone."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = parts.hostname, parts.port
        self._listener: socket.socket | None = None
        self._pairs: list[socket.socket] = []
        self.port = 0
        self.up()
        user = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{self.port}"))

    def up(self) -> None:
        self._listener = until(self._listen)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def _listen(self) -> socket.socket | None:
        """None while somebody else has the port: it is of those that the kernel gives to anybody."""
        try:
            return socket.create_server(("127.0.0.1", self.port))
        except OSError:
            return None

    def down(self) -> None:
        assert self._listener is not None
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(self._target)
                self._pairs += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()


VERBS = """
    import os, signal, sys, time
    from pathlib import Path
    from .base import BaseWorker

    class Work(BaseWorker):
        '''Runs the message as Python, and returns its `result`.'''

        def process_message(self, ch, method, properties, body):
            self.logger.info("begins {} {}", body.decode(), method.redelivered)
            names = {**globals(), "self": self, "ch": ch, "method": method, "tag": method.delivery_tag, "result": None}
            exec(body, names)
            self.logger.info("ends {}", body.decode())
            return names["result"]
"""
