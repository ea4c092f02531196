"""What people do without us: a script that declares one queue after another, an import of definitions, the tools."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import quote

import httpx
import pika

from tests.nodes import TestVhost


def names_of(count: int) -> list[str]:
    return [f"q-{number:05d}" for number in range(count)]


def declare_one_by_one(vhost: TestVhost, names: Iterable[str], passive: bool = False) -> None:
    """`queue_declare` after `queue_declare` on a BlockingChannel: the deploy script of most projects."""
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()
        for name in names:
            channel.queue_declare(name, durable=True, passive=passive)


def import_definitions(vhost: TestVhost, names: Iterable[str]) -> None:
    """All in one request. It tells of no conflict: a queue that differs stays as it is, in silence."""
    queues = [{"name": name, "durable": True, "auto_delete": False, "arguments": {}} for name in names]
    with vhost.node.api() as api:
        path = f"/api/definitions/{quote(vhost.name, safe='')}"
        api.post(path, json={"queues": queues}, timeout=900).raise_for_status()


def list_all(vhost: TestVhost) -> None:
    """`GET /api/queues` as rabbitmqadmin and most exporters ask for it. RabbitMQ gives up on it after a minute."""
    with vhost.node.api() as api, suppress(httpx.RemoteProtocolError):
        api.get(f"/api/queues/{quote(vhost.name, safe='')}", timeout=900).raise_for_status().json()


def list_with_ctl(vhost: TestVhost) -> None:
    vhost.node.ctl("list_queues", "-p", vhost.name, "name", "durable", "auto_delete", "arguments", "messages")


def timed(done: Callable[[], None]) -> float:
    began = time.monotonic()
    done()
    return time.monotonic() - began
