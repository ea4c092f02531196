"""From the save of a file with one line more until the broker has the queue of that line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pika
from pika.exceptions import ChannelClosedByBroker

from tests.nodes import TestVhost
from tests.system import System

PATIENCE = 60.0


def save_in_place(system: System, text: str) -> None:
    system.write(text)


def save_by_rename(system: System, text: str) -> None:
    beside = system.file.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, system.file)


SAVES: dict[str, Callable[[System, str], None]] = {"in place": save_in_place, "by rename": save_by_rename}


@contextmanager
def asking(vhost: TestVhost) -> Iterator[Callable[[str], bool]]:
    """Asks the broker whether a queue is there."""
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()

        def is_there(name: str) -> bool:
            nonlocal channel
            try:
                channel.queue_declare(name, passive=True)
            except ChannelClosedByBroker:
                channel = connection.channel()
                return False
            return True

        yield is_there


def latencies(
    system: System, vhost: TestVhost, text: str, save: Callable[[System, str], None], count: int
) -> list[float]:
    """Seconds of each of `count` edits; the daemon runs and is at rest before each."""
    found = []
    with asking(vhost) as is_there:
        for number in range(count):
            name = f"edit-{save.__name__}-{number}"
            text += f"  {name}: {{}}\n"
            began = time.monotonic()
            save(system, text)
            while not is_there(name):
                if time.monotonic() - began > PATIENCE:
                    raise TimeoutError(f"{name} was not there after {PATIENCE:.0f} s")
                time.sleep(0.002)
            found.append(time.monotonic() - began)
            system.settled(within=PATIENCE)
    return found
