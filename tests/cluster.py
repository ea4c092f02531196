"""A cluster of three RabbitMQ nodes on this machine, with one port mapper and one cookie."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx

from reconciler.broker import node as nodes
from reconciler.broker.node import Node
from tests.nodes import FLUSH
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
        eventually(self._is_whole, within=240)

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
        eventually(self._is_whole, within=120)

    def kill(self, number: int) -> None:
        """As a crash would. What was declared a moment ago is on its disk, though.

        Without that it may not know of its part of a quorum queue that was just made, ever after: the next one that is
        killed would leave that queue without a majority.
        """
        self._server.ctl(self._nodes[number], *FLUSH)
        self._end(number)

    def _end(self, number: int) -> None:
        process = self._running.pop(number)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for number in list(self._running):
            self._end(number)
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

    @property
    def amqp_ports(self) -> list[int]:
        return [node.amqp_port for node in self._nodes]

    @property
    def management_ports(self) -> list[int]:
        return [node.management_port for node in self._nodes]

    @property
    def credentials(self) -> str:
        return f"{self._nodes[0].user}:{self._nodes[0].password}"

    def leader_of(self, queue: str, vhost: str) -> int:
        """The number of the node that leads a quorum queue, once one does."""

        def look() -> str | None:
            try:
                with self.api() as api:
                    found = api.get(f"/api/queues/{quote(vhost, safe='')}/{quote(queue, safe='')}").raise_for_status()
            except httpx.HTTPError as error:
                raise AssertionError(f"the management API: {error!r}") from error
            return str(found.json().get("leader") or "") or None

        return self.number_of(eventually(look, within=60))

    def make_vhost(self, name: str) -> None:
        with self.api() as api:
            api.put(f"/api/vhosts/{quote(name, safe='')}").raise_for_status()
            full = {"configure": ".*", "write": ".*", "read": ".*"}
            path = f"/api/permissions/{quote(name, safe='')}/{self._nodes[0].user}"
            api.put(path, json=full).raise_for_status()

    def api(self) -> httpx.Client:
        return httpx.Client(base_url=self.management_url, timeout=60, trust_env=False)


class Balancer:
    """One port of this machine that leads to whichever of `ports` answers first, as in front of most clusters."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._server = socket.create_server(("127.0.0.1", nodes.free_ports(1)[0]))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Balancer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._lead, args=(client,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        for port in self._ports:
            with suppress(OSError):
                node = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=pump, args=(client, node), daemon=True).start()
                pump(node, client)
                return
        client.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Until one of them is closed; then both are."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
