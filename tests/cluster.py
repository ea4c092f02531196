"""A cluster of three RabbitMQ nodes on this machine, with one port mapper and one cookie."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import httpx

from reconciler.broker import node as nodes
from reconciler.broker.node import Node
from tests.servers import Server
from tests.waiting import eventually

SIZE = 3
CONFIG = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
"""


class Cluster:
    """Nodes 0, 1 and 2. `kill` and `start_node` may be used at will; what is asked goes to one that runs."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._server = server
        self._folder = folder
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._epmd: subprocess.Popen[bytes] | None = None
        self._nodes = self._prepare()

    def _prepare(self) -> list[Node]:
        epmd, *ports = nodes.free_ports(1 + 3 * SIZE)
        cookie, password, tag = secrets.token_hex(16), secrets.token_hex(16), secrets.token_hex(3)
        made = []
        for number in range(SIZE):
            folder = self._folder / str(number)
            name, own = f"n{number}-{tag}@localhost", ports[3 * number : 3 * number + 3]
            folder.mkdir()
            made.append(nodes.prepare(folder, Node(folder, name, "reconciler", password, cookie, *own, epmd, True)))
        peers = [f"cluster_formation.classic_config.nodes.{i} = {node.name}" for i, node in enumerate(made, 1)]
        for node in made:
            (node.folder / "conf.d" / "cluster.conf").write_text(CONFIG + "\n".join(peers) + "\n")
        return made

    def start(self) -> None:
        command = self._server.epmd(self._folder)
        address = ["-address", "127.0.0.1", "-port", str(self._nodes[0].epmd_port)]
        self._epmd = subprocess.Popen([*command, *address], start_new_session=True)
        for number in range(SIZE):
            self._launch(number)
        eventually(self._is_whole, within=100)

    def _launch(self, number: int) -> None:
        node = self._nodes[number]
        environment = nodes.environment(node)
        # One scheduler each, or three nodes starve two cores.
        arguments = environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"].split(" ", 2)[2]
        with node.console.open("wb") as console:
            self._running[number] = subprocess.Popen(
                self._server.command(node.folder, "rabbitmq-server"),
                env=environment | {"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 {arguments}"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def start_node(self, number: int) -> None:
        """Starts a node that was killed; returns once the cluster is whole again."""
        self._launch(number)
        eventually(self._is_whole, within=60)

    def kill(self, number: int) -> None:
        process = self._running.pop(number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for number in list(self._running):
            self.kill(number)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    def _is_whole(self) -> bool:
        for number, process in self._running.items():
            assert process.poll() is None, self._nodes[number].console.read_text()[-2000:]
        try:
            with self.api() as api:
                known = api.get("/api/nodes").raise_for_status().json()
        except httpx.HTTPError:
            return False
        return len(known) == SIZE and all(node["running"] for node in known)

    # -- what a test asks of it ----------------------------------------------------------------------------------

    @property
    def management_url(self) -> str:
        node = self._nodes[min(self._running)]
        return f"http://{node.user}:{node.password}@127.0.0.1:{node.management_port}"

    def amqp_url(self, number: int, vhost: str = "/") -> str:
        """To one node, dead or alive."""
        node = self._nodes[number]
        return f"amqp://{node.user}:{node.password}@127.0.0.1:{node.amqp_port}/{quote(vhost, safe='')}"

    def number_of(self, name: str) -> int:
        """The number of the node of that name."""
        return next(number for number, node in enumerate(self._nodes) if node.name == name)

    def api(self) -> httpx.Client:
        return httpx.Client(base_url=self.management_url, timeout=20, trust_env=False)
