"""Keeps the embedded broker running: a node that dies while the daemon runs is started again, where it was."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from loguru import logger as log

from reconciler.backoff import backoff
from reconciler.broker.embedded import EmbeddedBroker
from reconciler.errors import Permanent

HEALTHY_SECONDS = 60.0  # a node that lived as long is started again at once
CAP_SECONDS = 30.0


class Told(Protocol):
    def __call__(self, text: str, *, well: bool = False) -> None:
        """Takes what is to be known of the node; `well`: it is there again."""


async def keep(node: EmbeddedBroker, told: Told) -> None:
    """Runs until it is cancelled; then the node is as it is, and goes on."""
    failures, began = 0, time.monotonic()
    while True:
        how = await node.ended()
        if time.monotonic() - began > HEALTHY_SECONDS:
            failures = 0
        told(f"the embedded broker has ended{f' ({how})' if how else ''}: it is started again")
        while True:
            await asyncio.sleep(backoff(failures, cap=CAP_SECONDS))
            failures += 1
            try:
                await node.start(log.debug, same_ports=True)
                break
            except (Permanent, OSError) as error:  # a full disk, say, or no process left to be had
                await node.stop()
                told(f"{error}\nit is tried again in {backoff(failures, cap=CAP_SECONDS):.0f} s")
        began = time.monotonic()
        told(f"the embedded broker is back, pid {node.pid}", well=True)
