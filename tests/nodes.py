"""Real brokers for the tests: the embedded node, driven without a loop of one's own, and virtual hosts on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from reconciler.broker.embedded import EmbeddedBroker
from reconciler.broker.node import read_node
from reconciler.supervisor import proc
from tests.servers import Server, shipped
from tests.waiting import eventually

FLUSH = ("eval", "mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()].")


def ctl(folder: Path, *arguments: str, server: Server | None = None) -> str:
    """Runs rabbitmqctl on the node in `folder`; `FLUSH` has it write down what queues there are."""
    node = read_node(folder)
    assert node
    return (server or shipped()).ctl(node, *arguments)


class TestNode:
    """A private rabbitmq-server: the one that the system ships, or `server`."""

    __test__ = False

    def __init__(self, folder: Path, server: Server | None = None) -> None:
        self._server = server
        self._broker = EmbeddedBroker(folder, server.command(folder, "rabbitmq-server") if server else ())

    @property
    def amqp_url(self) -> str:
        return self._broker.amqp_url

    @property
    def management_url(self) -> str:
        return self._broker.management_url

    @property
    def pid(self) -> int | None:
        return self._broker.pid

    @property
    def folder(self) -> Path:
        return self._broker.folder

    def start(self) -> None:
        asyncio.run(self._broker.start())

    def stop(self) -> None:
        asyncio.run(self._broker.stop())

    def kill(self) -> None:
        """As a crash would: nothing more is written. What was declared a moment ago is on disk, though (`flush`)."""
        pid = self.pid
        if pid is not None:
            self.flush()
        asyncio.run(self._broker.kill())
        # It waits for some seconds; whoever starts it again must not find the old one on its way out.
        eventually(lambda: not (pid and (stat := proc.read_stat(pid)) and stat.alive))

    def flush(self) -> None:
        """Has the node write down what queues there are, which it does late by itself: some seconds for quorum queues.

        Without that a quorum queue that was just made has no leader afterwards, and its messages cannot be had.
        """
        self.ctl(*FLUSH)

    def ctl(self, *arguments: str) -> str:
        """Runs rabbitmqctl on it."""
        return ctl(self.folder, *arguments, server=self._server)

    def make_vhost(self, name: str) -> TestVhost:
        user = self.amqp_url.removeprefix("amqp://").partition(":")[0]
        with self.api() as api:
            api.put(f"/api/vhosts/{quote(name, safe='')}").raise_for_status()
            full = {"configure": ".*", "write": ".*", "read": ".*"}
            api.put(f"/api/permissions/{quote(name, safe='')}/{user}", json=full).raise_for_status()
        base = self.amqp_url.rpartition("/")[0]
        return TestVhost(name, f"{base}/{quote(name, safe='')}", self.management_url, self)

    def drop_vhost(self, name: str) -> None:
        with self.api() as api:
            api.delete(f"/api/vhosts/{quote(name, safe='')}")

    def api(self) -> httpx.Client:
        return httpx.Client(base_url=self.management_url, timeout=60, trust_env=False)


@dataclass(frozen=True)
class TestVhost:
    """A virtual host of a test's own, with everything in it."""

    __test__ = False

    name: str
    amqp_url: str
    management_url: str
    node: TestNode

    def queues(self) -> dict[str, dict[str, object]]:
        """Every queue by name, with live counts of classic queues."""
        query = {"disable_stats": "true", "enable_queue_totals": "true"}
        return {queue["name"]: queue for queue in self._ask("queues", query)}

    def get(self, kind: str) -> list[dict[str, Any]]:
        """Its exchanges, bindings or policies, as the HTTP API shows them."""
        return self._ask(kind)

    def _ask(self, kind: str, query: dict[str, str] | None = None) -> list[dict[str, Any]]:
        """AssertionError, which `eventually` takes for "not yet", while the node is on its way up or down."""
        try:
            with self.node.api() as api:
                answer = api.get(f"/api/{kind}/{quote(self.name, safe='')}", params=query).raise_for_status()
        except httpx.HTTPError as error:
            raise AssertionError(f"the management API: {error!r}") from error
        return list(answer.json())

    def delete(self, kind: str, name: str) -> None:
        with self.node.api() as api:
            api.delete(f"/api/{kind}/{quote(self.name, safe='')}/{quote(name, safe='')}").raise_for_status()
