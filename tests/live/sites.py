"""What the tests of the whole system share: a site on a virtual host of its own, and workers that leave traces."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pika

from tests.nodes import TestNode, TestVhost
from tests.system import System
from tests.waiting import eventually

# Each message as a line of the file named by pid in $OUT, before it is acked.
RECORD = """\
import os
from pathlib import Path

from .base import BaseWorker


class Record(BaseWorker):
    def __init__(self, channel, queue_name):
        super().__init__(channel, queue_name)
        self.out = open(Path(os.environ["OUT"]) / str(os.getpid()), "a", buffering=1)

    def process_message(self, ch, method, properties, body):
        self.out.write(body.decode() + "\\n")
        return True
"""

# Says that it has begun a message, and ends it once the file $OUT/go is there.
HOLD = """\
import os
import time
from pathlib import Path

from .base import BaseWorker

OUT = Path(os.environ["OUT"])


class Hold(BaseWorker):
    def process_message(self, ch, method, properties, body):
        name = f"{body.decode()}-{os.getpid()}"
        (OUT / f"begun-{name}").touch()
        while not (OUT / "go").exists():
            time.sleep(0.01)
        (OUT / f"done-{name}").touch()
        return True
"""


class Site(System):
    """The whole system on a virtual host of its own, and a folder where its workers leave traces."""

    def __init__(self, folder: Path, vhost: TestVhost) -> None:
        super().__init__(folder, vhost.amqp_url, vhost.management_url)
        self.vhost = vhost
        self.out = folder / "out"
        self.out.mkdir()
        self.env["OUT"] = str(self.out)
        self.worker("record", RECORD)
        self.worker("hold", HOLD)

    def empty(self) -> None:
        """Takes all out of the file and waits until it is gone; one test after another does, so that too may wait."""

        def is_empty() -> bool:
            if held := self.status()["held"]:
                self.post("/sync", {"confirm": held["revision"]})
            return not self.list_workers() and not self.queues()

        self.write("version: 1\nqueues: {}\n")
        eventually(is_empty, within=60)

    def queues(self) -> set[str]:
        return set(self.vhost.queues())

    def pids(self, **query: str) -> set[int]:
        """The processes that are ready."""
        return {worker["pid"] for worker in self.list_workers(**query) if worker["state"] == "ready"}

    def recorded(self) -> list[str]:
        """What the workers `record` have recorded, in no order."""
        return lines_in(self.out)

    def begun(self) -> set[str]:
        """`MESSAGE-PID` of each message that a worker `hold` has taken."""
        return {path.name.removeprefix("begun-") for path in self.out.glob("begun-*")}

    def done(self) -> set[str]:
        return {path.name.removeprefix("done-") for path in self.out.glob("done-*")}

    def send(self, queue: str, messages: Iterable[str]) -> None:
        send(self.vhost.amqp_url, queue, messages)

    def said(self) -> str:
        """The daemon's log so far."""
        return self.log.read_text(errors="replace")  # its last line may be cut within a letter


def lines_in(out: Path) -> list[str]:
    """What workers `record` have written to this folder. A line that is being written is none yet."""
    written = (path.read_text().rpartition("\n")[0] for path in out.iterdir() if path.name.isdigit())
    return [line for text in written for line in text.splitlines()]


@contextlib.contextmanager
def site_on(broker: TestNode, folder: Path) -> Iterator[Site]:
    """A site that is not running yet; afterwards nothing of it is left."""
    vhost = broker.make_vhost(f"live/{folder.name}")
    site = Site(folder / "site", vhost)
    try:
        yield site
    finally:
        site.stop()
        end(processes_of(site))
        broker.drop_vhost(vhost.name)


def send(amqp_url: str, queue: str, messages: Iterable[str]) -> None:
    """Persistent messages, all of them at the broker when it returns."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    channel = connection.channel()
    channel.tx_select()
    for message in messages:
        channel.basic_publish("", queue, message.encode(), pika.BasicProperties(delivery_mode=2))
    channel.tx_commit()
    connection.close()


def processes_of(site: System) -> set[int]:
    """Every process that a worker of this site is, or has started: they inherit its state folder's mark."""
    mark = f"RECONCILER_FILE={site.file}".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in entry.read_bytes().split(b"\0"):
                found.add(int(entry.parent.name))
    return found


def zygotes_of(site: System) -> set[int]:
    """Those of its processes that workers are forked from."""
    return {pid for pid in processes_of(site) if command_line(pid).startswith("reconciler: zygote ")}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def end(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Is there a process of that pid that is no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def zombies_under(pid: int) -> list[int]:
    """The children of `pid` that have ended and that nobody has waited for."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if fields[0] == "Z" and int(fields[1]) == pid:
                found.append(int(entry.parent.name))
    return found
