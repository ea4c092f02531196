"""What the kernel says about processes, read with care for those that end meanwhile.

Lowest layer of the supervisor: it knows /proc, and nothing of workers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Stat:
    """One line of /proc/PID/stat; `start_time` in clock ticks since boot tells two owners of one pid apart."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_time: int
    exit_status: int = 0  # of a zombie that we may look into, as wait(2) gives it

    @property
    def alive(self) -> bool:
        return self.state not in "ZX"


def read_stat(pid: int) -> Stat | None:
    """The process as it is now, None if there is no such process."""
    try:
        raw = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = raw[raw.rindex(b")") + 2 :].split()  # the name before it may hold spaces and parentheses
    return Stat(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_time=int(fields[19]),
        exit_status=int(fields[49]) if len(fields) > 49 else 0,
    )


def code_of_zombie(pid: int) -> int | None:
    """How a process ended that nobody has reaped yet; None if that may not be seen, or it is no zombie."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    stat = read_stat(pid)
    if stat is None or stat.state != "Z" or owner != os.geteuid():  # of others the kernel shows 0
        return None
    return os.waitstatus_to_exitcode(stat.exit_status)


def pids() -> Iterator[int]:
    """Every process there is at about this time."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def groups() -> set[int]:
    """Process groups with a living member, or with one that we have yet to reap."""
    us = os.getpid()
    stats = (read_stat(pid) for pid in pids())
    return {stat.group for stat in stats if stat and (stat.alive or stat.parent == us)}


def environ_of(pid: int, key: str) -> str | None:
    """One variable of the environment a process was started with; None without it, or if it may not be read."""
    try:
        raw = _read(f"/proc/{pid}/environ")
    except OSError:
        return None
    prefix = f"{key}=".encode()
    for entry in raw.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


def _read(path: str) -> bytes:
    """All of it; a third of what pathlib takes, for those who look at a thousand processes."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


@cache
def boot_id() -> str:
    """Changes with every boot of the machine, so that pids of an earlier one are never taken for ours."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
