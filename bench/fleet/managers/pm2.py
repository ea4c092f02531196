"""PM2, over its own API in node. Fork mode, defaults; its look at git and its probes are off."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.fleet.jobs import Job

from .base import Helper, Peer

CLIENT = """\
const pm2 = require(process.argv[1]);
const say = (error) => console.log(error ? "failed " + String(error.message || error).split("\\n")[0] : "ok");
const lines = require("readline").createInterface({ input: process.stdin });
pm2.connect((error) => {
  say(error);
  lines.on("line", (line) => {
    const [command, argument] = [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)];
    if (command === "start") pm2.start(JSON.parse(argument), say);
    if (command === "stop") pm2.stop(argument, say);
    if (command === "kill") pm2.killDaemon(say);
  });
});
"""


class Pm2(Peer):
    def start(self, programs: Sequence[Job]) -> None:
        assert self.site.peer
        self._home = self.site.folder / "pm2"
        self._env = self.peer_environment(programs) | {"PM2_HOME": str(self._home)}
        child = self.spawn(["node", "-e", CLIENT, self.site.peer / "node_modules" / "pm2"], self._env, pipes=True)
        assert child.stdout
        if (answer := child.stdout.readline().decode().strip()) != "ok":
            raise RuntimeError(f"PM2: {answer or 'no answer'}")
        self._client = Helper(child)

    def up(self, program: Job) -> None:
        script, *arguments = program.command
        log = str(self.site.folder / f"{program.name}.log")
        app = {
            "name": program.name,
            "script": script,
            "args": arguments,
            "interpreter": "none",
            "exec_mode": "fork",
            "instances": program.count,
            "merge_logs": True,
            "out_file": log,
            "error_file": log,
            "cwd": str(self.site.folder),
            "vizion": False,
            "pmx": False,
        }
        self._client.ask(f"start {json.dumps(app)}")

    def down(self, program: Job) -> None:
        self._client.ask(f"stop {program.name}")

    def quit(self) -> None:
        self._client.ask("kill now")

    def daemons(self) -> set[int]:
        try:
            return {int((self._home / "pm2.pid").read_text())}
        except (OSError, ValueError):
            return set()
