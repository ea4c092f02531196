"""What the file asks of this machine that it does not have: users and processors. Asked before it is in force.

The file may be right and yet be for another machine; so this is asked by the daemon, not by whoever reads the file.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator
from functools import cache

from state.desired import Desired, Worker


def faults_here(desired: Desired) -> dict[tuple[str, ...], str]:
    """What this machine cannot do of it, by path in the file."""
    why_not = cache(why_no_such_user)  # one look-up a user, however many workers name it
    found: dict[tuple[str, ...], str] = {}
    for pool, worker in desired.pools():
        for key, message in faults_of(worker, why_not):
            found["queues", pool.queue, "workers", pool.worker, key] = message
    return found


def faults_of(worker: Worker, why_not: Callable[[str], str | None]) -> Iterator[tuple[str, str]]:
    if worker.user is not None and (message := why_not(worker.user)):
        yield "user", message
    if worker.cpu_affinity is not None:
        here = os.sched_getaffinity(0)
        if missing := sorted(set(worker.cpu_affinity) - here):
            known = ", ".join(map(str, sorted(here)))
            yield "cpu_affinity", f"this machine has no processor {missing[0]} for us (there are {known})"


def why_no_such_user(name: str) -> str | None:
    """Why no process can be run as this user; None if one can."""
    try:
        uid = int(name) if name.isascii() and name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return f"there is no user {name} on this machine (make it, or give a number)"
    if not 0 <= uid < 2**32 - 1:
        return f"{name} is no user id (0 to {2**32 - 2})"
    if os.geteuid() not in (0, uid):
        return f"only root may run workers as {name} (run the daemon as root, or take user out)"
    return None
