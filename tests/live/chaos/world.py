"""All that the chaos acts on: the site, its broker, its disk and its file, and a diary of what was done when."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.live.chaos.disk import SmallDisk
from tests.live.chaos.publisher import Publisher
from tests.live.chaos.workers import Born, read_born, record, tick
from tests.live.sites import Site
from tests.nodes import TestNode

QUEUES = ("work", "ledger")  # that messages are published to: a classic queue and a quorum queue
COUNTS = {"work/record": 3, "ledger/record": 2, "side/tick": 2}
MOST = 6  # workers of a pool


class World:
    """`away` holds what is taken away at the moment: broker, daemon, disk."""

    def __init__(self, site: Site, node: TestNode, seed: int, say: Callable[[str], None]) -> None:
        self.site = site
        self.node = node
        self.rng = random.Random(seed)
        self.diary: list[str] = []
        self.away: set[str] = set()
        self.version = 0
        self.full: list[tuple[float, float]] = []  # when the disk was full, in seconds since the epoch
        self.disk = SmallDisk(site.state)
        self.publisher = Publisher(site.vhost.amqp_url, QUEUES)
        self._say = say
        self._began = time.monotonic()
        self._pool = ThreadPoolExecutor(8)
        self._pending: list[Future[None]] = []
        self._editing = threading.Lock()
        self._hurry = threading.Event()  # set: nothing that is away stays away any longer
        site.worker("record", record(0))
        self._tick = tick(site.folder)
        self.write(COUNTS, frozenset())

    def note(self, text: str) -> None:
        """Enters it in the diary, with the time."""
        line = f"{time.monotonic() - self._began:7.2f} s  {text}"
        self.diary.append(line)
        self._say(line)

    def later(self, seconds: float, text: str, act: Callable[[], None]) -> None:
        """Does it then, or as soon as there is calm, while other things go on."""

        def do() -> None:
            self._hurry.wait(seconds)
            try:
                act()
            except Exception as error:
                self.note(f"FAILED: {text}: {error!r}")
                raise
            self.note(text)

        self._pending.append(self._pool.submit(do))

    def undo(self) -> None:
        """Brings back all that is away. Raises what went wrong with it."""
        self._hurry.set()
        for future in self._pending:
            future.result(120)
        self._pending.clear()

    def close(self) -> None:
        """Whatever state it is in. The site itself is closed by whoever made it."""
        with contextlib.suppress(Exception):
            self.undo()
        self.publisher.stop()
        self._pool.shutdown()
        self.site.stop()

    # -- the file ------------------------------------------------------------------------------------------------

    def edit(self, counts: dict[str, int] | None = None, pause: str = "", resume: str = "") -> None:
        """Saves the file with other counts, one queue more paused, one fewer."""
        with self._editing:
            self.write(self.counts() | (counts or {}), self.paused() - {resume} | {pause} - {""})

    def write(self, counts: dict[str, int], paused: frozenset[str]) -> None:
        """Saves the file with these counts by `queue/worker`, and these queues paused."""
        text = "version: 1\nqueues:\n"
        for queue, more in (("work", ""), ("ledger", "    type: quorum\n"), ("side", "")):
            text += f"  {queue}:\n{more}" + ("    paused: true\n" if queue in paused else "") + "    workers:\n"
            command = f", command: {json.dumps(self._tick)}" if queue == "side" else ", prefetch: 20"
            worker = "tick" if queue == "side" else "record"
            text += f"      {worker}: {{count: {counts[f'{queue}/{worker}']}, grace: 10{command}}}\n"
        draft = self.site.file.with_name(".draft")
        draft.write_text(text)
        draft.rename(self.site.file)

    def _read(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self.site.text)["queues"])

    def counts(self) -> dict[str, int]:
        """By `queue/worker`, as the file has them."""
        return {f"{q}/{w}": keys["count"] for q, queue in self._read().items() for w, keys in queue["workers"].items()}

    def paused(self) -> frozenset[str]:
        return frozenset(name for name, queue in self._read().items() if queue.get("paused"))

    def wanted(self) -> dict[str, int]:
        """How many processes the file asks for, by pool."""
        paused = self.paused()
        return {pool: 0 if pool.partition("/")[0] in paused else count for pool, count in self.counts().items()}

    # -- what is there -------------------------------------------------------------------------------------------

    def born(self) -> list[Born]:
        """Every worker process there has been."""
        return read_born(self.site.out)

    def alive(self) -> list[Born]:
        return [one for one in self.born() if one.alive]

    def had_room(self, at: float) -> bool:
        """Whether a worker that was started then could write its first lines: the disk was not full."""
        return not any(since - 2 < at < until for since, until in self.full)

    def daemon(self) -> int | None:
        """The daemon's pid while it runs."""
        process = self.site.process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, path: str, **query: str) -> Any:
        """The daemon's answer; None if there is none."""
        try:
            with httpx.Client(base_url=self.site.url, timeout=5, trust_env=False) as http:
                return http.get(path, params=query).raise_for_status().json()
        except (httpx.HTTPError, OSError, ValueError):
            return None

    def start_daemon(self) -> None:
        """As a service manager would: again and again until it stays."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.site.start(ready=False)
                break
            except (RuntimeError, AssertionError) as error:
                if time.monotonic() > deadline:
                    raise
                self.note(f"the daemon does not start: {str(error).strip().splitlines()[-1]}")
                time.sleep(1)
        self.away.discard("daemon")

    def zygotes(self) -> list[int]:
        """The processes of this site that workers are forked from."""
        born = {one.pid for one in self.born()}
        mark = f"RECONCILER_FILE={self.site.file}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().rstrip(b"\0").split(b"\0")
                ours = mark in entry.with_name("environ").read_bytes().split(b"\0")
                if ours and is_zygote(words) and int(entry.parent.name) not in born:
                    found.append(int(entry.parent.name))
        return found


def is_zygote(words: list[bytes]) -> bool:
    """By its command line, or by the title that it gives itself."""
    by_path = any(word.endswith((b"workers/runtime/zygote.py", b"workers/__main__.py")) for word in words)
    return words[0].startswith(b"reconciler: zygote") or (by_path and b"zygote" in b" ".join(words[1:]))
