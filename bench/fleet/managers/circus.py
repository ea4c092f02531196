"""circus, over its own client. Defaults, but for numprocesses and logs in files as the others have them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from bench.fleet.jobs import Job

from .base import Helper, Peer, free_port, until

HEAD = """\
[circus]
endpoint = tcp://127.0.0.1:{control}
pubsub_endpoint = tcp://127.0.0.1:{news}
statsd = False
"""
WATCHER = """
[watcher:{name}]
cmd = {program}
args = {arguments}
numprocesses = {count}
autostart = False
copy_env = True
stdout_stream.class = FileStream
stdout_stream.filename = {folder}/{name}.log
stderr_stream.class = FileStream
stderr_stream.filename = {folder}/{name}.log
"""
CLIENT = """\
import sys
from circus.client import CircusClient
client = CircusClient(endpoint=sys.argv[1], timeout=300)
print("ok", flush=True)
for line in sys.stdin:
    command, _, name = line.strip().partition(" ")
    properties = {"name": name, "waiting": False} if name else {}
    try:
        answer = client.call({"command": command, "properties": properties})
        print("ok", answer.get("reason", ""), flush=True)
    except Exception as error:
        print("failed", error, flush=True)
"""


class Circus(Peer):
    def start(self, programs: Sequence[Job]) -> None:
        assert self.site.peer
        bin_ = self.site.peer / "bin"
        control = free_port()
        text = HEAD.format(control=control, news=free_port())
        text += "".join(self._watcher(job) for job in programs)
        configuration = self.site.folder / "circus.ini"
        configuration.write_text(text)
        self._daemon = self.spawn([bin_ / "circusd", configuration], self.peer_environment(programs))
        client = [str(bin_ / "python"), "-c", CLIENT, f"tcp://127.0.0.1:{control}"]
        child = self.spawn(client, self.site.environment(), pipes=True)
        assert child.stdout
        child.stdout.readline()
        self._client = Helper(child)
        self._client.ask("list")

    def _watcher(self, job: Job) -> str:
        program, *arguments = job.command
        return WATCHER.format(
            name=job.name,
            program=program,
            arguments=shlex.join(arguments),
            count=job.count,
            folder=self.site.folder,
        )

    def up(self, program: Job) -> None:
        self._tell(f"start {program.name}")

    def down(self, program: Job) -> None:
        self._tell(f"stop {program.name}")

    def _tell(self, line: str) -> None:
        """It refuses a command while it carries out another, such as the one that brings dead workers back."""
        until(lambda: "already running" not in self._client.ask(line), f"circus: {line}")

    def quit(self) -> None:
        self._tell("quit")
        self._daemon.wait(30)

    def daemons(self) -> set[int]:
        return {self._daemon.pid}
