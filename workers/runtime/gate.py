"""The start gate: no worker takes a message before the supervisor has it on record, so a crash leaves none unknown."""

from __future__ import annotations

import os
import select
from collections.abc import MutableMapping

from loguru import logger

VARIABLE = "START_GATE"  # the number of a descriptor


def take_gate(env: MutableMapping[str, str]) -> int | None:
    """The descriptor that `env` names, and no longer does: what the worker starts knows nothing of it."""
    text = env.pop(VARIABLE, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{VARIABLE} is {text!r} (the number of an open descriptor)")
    return int(text)


def await_gate(fd: int | None) -> bool:
    """Wait for a byte from `fd`, and close it. False if none will come: then the worker must not start.

    With None there is no gate.
    """
    if fd is None:
        return True
    try:
        opened = _read(fd) != b""
        os.close(fd)
    except OSError as error:
        logger.error("it does not start: {} {} cannot be read: {}", VARIABLE, fd, error.strerror)
        return False
    if not opened:
        logger.warning("it does not start: the supervisor ended before it had this worker on record")
    return opened


def _read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, 1)
        except BlockingIOError:  # whoever made it may have made it so
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll()
