"""Logs in the running system: bounded while they are written, and every line readable at its address."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

TALKER = """\
from .base import BaseWorker


class Talker(BaseWorker):
    said = 0

    def process_message(self, ch, method, properties, body):
        for _ in range(int(body)):
            print(f"line {self.said:09d} " + "x" * 50)
            self.said += 1
"""
FILE = "version: 1\nqueues:\n  work:\n    workers:\n      talker: {log_max: 200KiB, log_keep: 50}\n"


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as made:
        made.worker("talker", TALKER)
        made.write(FILE)
        made.start()
        made.settled()
        yield made


def all_lines(site: Site, pid: int) -> list[str]:
    """Read as a client does: page by page from the newest to the oldest."""
    lines: list[str] = []
    before: dict[str, int] = {}
    while True:
        page = site.get(f"/logs/workers/logs/{pid}", lines=5000, **before).json()
        lines = page["lines"] + lines
        if not page["offset"]:
            return lines
        before = {"before": page["offset"]}


def parts(site: Site) -> list[Path]:
    return sorted(path for path in (site.state / "logs").rglob("*") if path.is_file())


def size(path: Path) -> int:
    """Nothing of one that has been renamed or packed since it was listed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_log_is_rotated_and_packed_and_no_line_is_lost(site: Site) -> None:
    (pid,) = site.pids()
    for rounds in range(1, 5):
        site.send("work", ["6000"])
        said = f"line {6000 * rounds - 1:09d} "
        eventually(lambda said=said: any(said in line for line in all_lines(site, pid)))
        eventually(lambda rounds=rounds: len(parts(site)) > rounds)
    eventually(lambda: sum(path.name.endswith(".gz") for path in parts(site)) >= 4)
    assert site.pids() == {pid}
    eventually(lambda: sum(map(size, parts(site))) < 800_000)
    numbers = [int(line.split()[1]) for line in all_lines(site, pid) if line.startswith("line ")]
    assert numbers == list(range(24_000))


def test_it_says_when_it_began_and_how_it_ended(site: Site) -> None:
    (pid,) = site.pids()
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: site.pids() and pid not in site.pids())
    first, *_, last = all_lines(site, pid)
    assert f"[work/talker {pid}] started: slot 0, spec " in first
    assert first.endswith("first start")
    assert f"[work/talker {pid}] ended: slot 0, killed by SIGSEGV" in last
    (successor,) = site.pids()
    assert "restart 1 after killed by SIGSEGV" in all_lines(site, successor)[0]


def test_one_search_finds_what_a_slot_said_across_its_restarts(site: Site) -> None:
    site.send("work", ["1"])
    (pid,) = site.pids()
    eventually(lambda: any("line 000000000" in line for line in all_lines(site, pid)))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: site.pids() and pid not in site.pids())
    site.send("work", ["1"])

    def found() -> bool:
        answer = site.get("/logs/search", queue_name="work", slot=0, q="line 000000000").json()
        return len({line["pid"] for line in answer["lines"]}) == 2

    eventually(found)
