"""The embedded broker: a private rabbitmq-server node of our own, for when `AMQP_URL` names none.

Started before the loop, stopped after it, and started again if it dies in between. All of it listens on 127.0.0.1
only. It lives in a session of its own, so Ctrl-C does not reach it, and outlives a daemon that is killed: the next one
takes it over.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
import re
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from reconciler.broker import node as nodes
from reconciler.broker.node import Node
from reconciler.broker.vm import Process, find_vm, gone, processes_of
from reconciler.errors import Permanent

START_SECONDS = 60.0
POLL_SECONDS = 0.025
RECOVERY_SECONDS = 600.0  # with data of before: it reads through its messages before it answers
STOP_SECONDS = 15.0
# The VM starts its epmd and asks it at once; on a busy machine that may be too early, and the VM ends.
EPMD_LATE = "register/listen error: econnrefused"
EPMD_TRIES = 3
SWEEPS = 5  # looks at what the node left, at most
CRASH_REPORTS = ("supervisor:", "crasher:")  # Erlang's own pages on an end whose cause has been told before

Progress = Callable[[str], None]


def installed() -> bool:
    """Whether this machine has a rabbitmq-server that the embedded broker can run."""
    return nodes.find_server() is not None


class EmbeddedBroker:
    """One private node with all its data in `folder`. `start`, `stop`, and `kill` for tests; each may be repeated.

    `command` runs another rabbitmq-server than the machine's.
    """

    def __init__(self, folder: Path, command: Sequence[str] = ()) -> None:
        self.folder = folder.absolute()
        self._command = list(command)
        self._node: Node | None = None
        self._vm: Process | None = None
        self._log_offset = 0
        self._ready = False

    @property
    def amqp_url(self) -> str:
        """With user, password and the vhost `/`. Known after `start`."""
        node = self._started()
        return f"amqp://{node.user}:{node.password}@127.0.0.1:{node.amqp_port}/%2F"

    @property
    def management_url(self) -> str:
        """The HTTP API's address with user and password, no slash at its end. Known after `start`."""
        node = self._started()
        return f"http://{node.user}:{node.password}@127.0.0.1:{node.management_port}"

    @property
    def running(self) -> bool:
        return self._vm is not None and self._vm.alive

    @property
    def pid(self) -> int | None:
        """The Erlang VM's pid while it runs."""
        return self._vm.pid if self._vm is not None and self._vm.alive else None

    async def start(self, progress: Progress = lambda line: None, *, same_ports: bool = False) -> None:
        """Starts the node, or takes over one that a killed daemon left. Returns when AMQP and management answer.

        `progress` gets a short line at each stage. `same_ports`: its clients know them, so it takes no others.
        When cancelled, the node goes on: call `stop`.

        Raises:
            Permanent: no rabbitmq-server here, a port that is another's now, or the node died or took over 60 s (10
                minutes where it has data); names the log and its last words.
        """
        if self.running:
            return
        self._ready = False
        report = _timed(progress)
        for _ in range(EPMD_TRIES):
            try:
                await self._start_once(report, same_ports)
                return
            except Permanent as error:
                await self.stop()
                if EPMD_LATE not in str(error):
                    raise
                report("broker: its port mapper was not up in time; once more")
        await self._start_once(report, same_ports)

    async def _start_once(self, report: Progress, same_ports: bool) -> None:
        remembered = nodes.read_node(self.folder)
        self._node = remembered
        self._vm = find_vm(remembered) if remembered else None
        if self._vm is not None:
            report(f"broker: found its node running, pid {self._vm.pid}")
        else:
            await self._launch(remembered, report, same_ports)
        await self._until_ready(report)

    async def ended(self) -> str:
        """Waits until the node does not run any more. Answers how it ended, as far as that is known."""
        if self._vm is None:
            return ""
        await self._vm.ended()
        return self._vm.how

    async def stop(self) -> None:
        """Stops the node as `rabbitmqctl stop` would, then its epmd. Within 20 s nothing of it is left."""
        if self._vm is not None:
            deadline = time.monotonic() + STOP_SECONDS
            self._vm.send(signal.SIGTERM)  # RabbitMQ's own handler stops it cleanly
            while not await gone(self._vm, 0.5) and time.monotonic() < deadline:
                if not self._ready:
                    self._vm.send(signal.SIGTERM)  # in the first half second of its life the VM drops it
        await self.kill()
        await self._sweep()

    async def kill(self) -> None:
        """SIGKILL to the node, as a crash would be. `start` brings it back on the same ports, with the same data."""
        if self._vm is not None:
            self._vm.send(signal.SIGKILL)
            await gone(self._vm, 3.0)
            self._vm = None

    def _started(self) -> Node:
        if self._node is None:
            raise Permanent("the embedded broker has not been started")
        return self._node

    async def _launch(self, remembered: Node | None, report: Progress, same_ports: bool) -> None:
        server = nodes.find_server()
        if server is None and not self._command:
            raise Permanent(
                f"rabbitmq-server is not on this machine: {nodes.INSTALL}, or use another broker with AMQP_URL=amqp://…"
            )
        await self._sweep()  # an epmd of before holds its port
        node = self._node = nodes.prepare(self.folder, remembered, same_ports)
        self._log_offset = node.log.stat().st_size if node.log.exists() else 0
        environment = nodes.environment(node)
        if server is not None and not self._command:
            environment |= nodes.link_plugins(node, server)
        with node.console.open("wb") as console:
            child = subprocess.Popen(
                self._command or [str(server)],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._vm = Process(child.pid, child)
        report(f"broker: starting node {node.name}, pid {child.pid}")

    async def _until_ready(self, report: Progress) -> None:
        node = self._started()
        seconds = RECOVERY_SECONDS if node.seeded else START_SECONDS
        try:
            async with asyncio.timeout(seconds):
                await self._until(lambda: _speaks_amqp(node))
                report(f"broker: AMQP answers on 127.0.0.1:{node.amqp_port}")
                await self._until(lambda: _serves_management(node))
                report(f"broker: management answers on 127.0.0.1:{node.management_port}")
        except TimeoutError:
            raise Permanent(self._last_words(f"was not ready after {seconds:.0f} s")) from None
        self._ready = True
        if not node.seeded:
            self._node = dataclasses.replace(node, seeded=True)
            nodes.remember(self._node)

    async def _until(self, answers: Callable[[], Awaitable[bool]]) -> None:
        while not await answers():
            if not self.running:
                raise Permanent(self._last_words("died while it started"))
            await asyncio.sleep(POLL_SECONDS)

    def _last_words(self, what: str) -> str:
        node = self._started()
        log, lines = node.log, _complaints(_tail(node.log, self._log_offset))
        if not lines:
            log, lines = node.console, _complaints(_tail(node.console, 0))
        return f"the embedded broker {what}. {log} ends with:\n" + "\n".join(f"  {line}" for line in lines)

    async def _sweep(self) -> None:
        """Ends what the VM leaves: its epmd, which RabbitMQ restarts at will, and its helpers."""
        if self._node is None or not self.folder.exists():
            return
        for _ in range(SWEEPS):  # one of them may have been about to fork
            if not (found := processes_of(self._node)):
                return
            for process in found:
                process.send(signal.SIGKILL)
                await gone(process, 2.0)


async def _speaks_amqp(node: Node) -> bool:
    """Whether it answers the protocol header with connection.start: a method frame of class 10, method 10."""
    answer = await _ask(node.amqp_port, b"AMQP\x00\x00\x09\x01", 11)
    return answer[:1] == b"\x01" and answer[7:] == b"\x00\x0a\x00\x0a"


async def _serves_management(node: Node) -> bool:
    secret = base64.b64encode(f"{node.user}:{node.password}".encode()).decode()
    request = f"GET /api/whoami HTTP/1.0\r\nHost: localhost\r\nAuthorization: Basic {secret}\r\n\r\n"
    answer = await _ask(node.management_port, request.encode(), 12)
    return answer.endswith(b" 200")


async def _ask(port: int, question: bytes, length: int) -> bytes:
    """The first `length` bytes of the answer, fewer if the other side is not there yet."""
    try:
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(question)
                return await reader.readexactly(length)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""


def _timed(progress: Progress) -> Progress:
    began = time.monotonic()
    return lambda line: progress(f"{line} ({time.monotonic() - began:.1f} s)")


def _tail(path: Path, offset: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(offset, path.stat().st_size - 65536))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _complaints(lines: list[str], count: int = 6) -> list[str]:
    """The last lines that say what went wrong; the last lines at all, if none does."""
    said = [line.strip() for line in lines if any(char.isalpha() for char in line)]
    errors = [text for line in said if (text := _error_in(line))]
    causes = list(itertools.takewhile(lambda text: not text.startswith(CRASH_REPORTS), errors))
    return list(dict.fromkeys(causes or errors or said))[-count:]


def _error_in(line: str) -> str:
    """What an error line of RabbitMQ's log says, without time, level and Erlang process; else nothing."""
    match = re.match(r"\S+ \S+ \[(?:error|critical)\] <[\d.]+>(.*)", line)
    text = match[1].strip() if match else line if "rror:" in line else ""
    return text if any(char.isalpha() for char in text) else ""
