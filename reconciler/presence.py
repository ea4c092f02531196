"""Is a daemon here? The lock on the state folder, and `daemon.json`, where the one that runs says how to reach it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loguru import logger as log

from reconciler.errors import Permanent
from reconciler.settings import Settings
from state.file import remove, write_atomically

AGAIN_SECONDS = 2.0  # until another try to write daemon.json


class CannotStart(Permanent):
    """The daemon cannot start."""


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Makes the state folder and holds its lock. Raises CannotStart if another daemon has it."""
    fd = open_lock(settings.state)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStart(already_runs(settings)) from None
        yield
    finally:
        os.close(fd)


def open_lock(state: Path) -> int:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(state / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"the state folder {state} cannot be used: {error.strerror} (set RECONCILER_STATE)") from None


def already_runs(settings: Settings) -> str:
    try:
        known = json.loads((settings.state / "daemon.json").read_bytes())
        where = f"pid {known['pid']}, {known['url']}"
    except (OSError, ValueError, KeyError):
        where = "it is just starting or stopping"
    return f"a reconciler runs on {settings.state} already ({where}); stop it first, or set RECONCILER_STATE"


async def announce(settings: Settings, url: str, amqp_url: str, management_url: str | None) -> None:
    """Tells the command line where the daemon and its broker are. The file holds a password: it is for its owner.

    A full disk keeps nobody from reconciling: it is tried again until there is room.
    """
    known: dict[str, Any] = {
        "pid": os.getpid(),
        "url": url,
        "file": str(settings.file),
        "amqp_url": amqp_url,
        "management_url": management_url,
    }
    path, told = settings.state / "daemon.json", False
    while True:
        try:
            return write_atomically(path, json.dumps(known).encode())
        except OSError as error:
            if not told:
                log.error("{} cannot be written, so the command line does not find us: {}", path, error.strerror)
            told = True
        await asyncio.sleep(AGAIN_SECONDS)


def withdraw(settings: Settings) -> None:
    remove(settings.state / "daemon.json")  # if it stays, it says the same by naming a pid that is gone


def known_daemon(state: Path) -> dict[str, Any] | None:
    """What the daemon on this state folder announced, if it is alive."""
    try:
        known = json.loads((state / "daemon.json").read_bytes())
        os.kill(known["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(known)
