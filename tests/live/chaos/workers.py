"""The workers of the chaos test: each enters itself in one list when it is born, so that none can be overlooked."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.live.sites import is_alive

BORN = "born"  # the list in $OUT, a line of JSON for each process

_ENTER = """\
import json, os
from pathlib import Path


def enter(queue, worker, version):
    start = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    line = json.dumps([os.getpid(), int(start), queue, worker, os.environ.get("SLOT"), version])
    with open(Path(os.environ["OUT"]) / "born", "ab", buffering=0) as born:
        born.write(line.encode() + b"\\n")
"""

_RECORD = (
    _ENTER
    + """
import time
import zlib

from .base import BaseWorker

VERSION = {version}


class Record(BaseWorker):
    def __init__(self, channel, queue_name):
        super().__init__(channel, queue_name)
        enter(queue_name, "record", VERSION)
        self.out = open(Path(os.environ["OUT"]) / str(os.getpid()), "a", buffering=1)

    def process_message(self, ch, method, properties, body):
        if zlib.crc32(body) % 20 == 0:
            self.logger.info("{{}} takes longer", body.decode())
            time.sleep(0.1)
        time.sleep(0.01)  # so that one that is killed is often in the middle of a message
        self.out.write(body.decode() + "\\n")
        return True
"""
)

# A program in a language that we know nothing of, with a child of its own that it does not look after.
_TICK = (
    _ENTER
    + """
import signal
import socket
import subprocess
import time

subprocess.Popen(["sleep", "100000"])
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
enter("side", "tick", 0)
address = os.environ["NOTIFY_SOCKET"]
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(
    b"READY=1", "\\0" + address[1:] if address.startswith("@") else address
)
print("ticking", flush=True)
while True:
    time.sleep(60)
"""
)


def record(version: int) -> str:
    """The source of workers/record.py: each message as a line of the file $OUT/PID, before it is acked."""
    return _RECORD.format(version=version)


def tick(folder: Path) -> list[str]:
    """The command of the worker `tick`, its program written to `folder`."""
    program = folder / "tick.py"
    program.write_text(_TICK)
    return [sys.executable, "-I", "-S", str(program)]


@dataclass(frozen=True)
class Born:
    """One process that has run as a worker, by pid and start time."""

    pid: int
    start: int
    queue: str
    worker: str
    slot: str
    version: int

    @property
    def pool(self) -> str:
        return f"{self.queue}/{self.worker}"

    @property
    def at(self) -> float:
        """When it was started, in seconds since the epoch."""
        up = time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.time() - up + self.start / os.sysconf("SC_CLK_TCK")

    @property
    def alive(self) -> bool:
        """No zombie, and no other process that has got its number."""
        return is_alive(self.pid) and start_time(self.pid) == self.start


def start_time(pid: int) -> int | None:
    """In clock ticks since boot; None if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def read_born(out: Path) -> list[Born]:
    """All that have entered themselves, in the order of their birth. A line that is being written is none yet."""
    try:
        lines = (out / BORN).read_text().rpartition("\n")[0].splitlines()
    except FileNotFoundError:
        return []
    return [Born(*json.loads(line)) for line in lines]
