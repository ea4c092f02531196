"""supervisord, over its XML-RPC interface. Defaults, but for numprocs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from xmlrpc.client import ServerProxy

from bench.fleet.jobs import Job

from .base import Peer, free_port, until

HEAD = """\
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}

[inet_http_server]
port=127.0.0.1:{port}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[program:{name}]
command={command}
numprocs={count}
process_name=%(program_name)s-%(process_num)d
autostart=false
autorestart=true
redirect_stderr=true
"""


class Supervisord(Peer):
    def start(self, programs: Sequence[Job]) -> None:
        assert self.site.peer
        port = free_port()
        text = HEAD.format(folder=self.site.folder, port=port)
        for job in programs:
            text += PROGRAM.format(name=job.name, command=shlex.join(job.command).replace("%", "%%"), count=job.count)
        configuration = self.site.folder / "supervisord.conf"
        configuration.write_text(text)
        program = self.site.peer / "bin" / "supervisord"
        self._daemon = self.spawn([program, "-c", configuration], self.peer_environment(programs))
        self._rpc = ServerProxy(f"http://127.0.0.1:{port}/RPC2")
        until(lambda: self._rpc.supervisor.getState(), "supervisord answers")

    def up(self, program: Job) -> None:
        self._rpc.supervisor.startProcessGroup(program.name, False)

    def down(self, program: Job) -> None:
        self._rpc.supervisor.stopProcessGroup(program.name, False)

    def quit(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(30)

    def daemons(self) -> set[int]:
        return {self._daemon.pid}
