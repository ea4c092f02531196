"""What a private rabbitmq-server node has on disk: ports, secrets, configuration, environment.

The first half of the embedded broker. Nothing here starts or stops a process; `embedded.py` does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import secrets
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import Permanent

PLACES = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/lib/rabbitmq/bin", "/usr/local/sbin")
INSTALL = "apt-get install rabbitmq-server"
PLUGINS = ("rabbitmq_management",)
SCHEDULERS = 4  # a broker for one machine's workers leaves the other cores to them

CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{amqp_port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
default_user = {user}
default_pass = {password}
disk_free_limit.absolute = 50MB
consumer_timeout = 86400000
log.file.level = info
log.file.rotation.size = 10485760
log.file.rotation.count = 3
"""


@dataclass(frozen=True)
class Node:
    """One private node, as remembered in `node.json`. Its name is bound to its data: it never changes."""

    folder: Path
    name: str
    user: str
    password: str
    cookie: str
    amqp_port: int
    management_port: int
    dist_port: int
    epmd_port: int
    seeded: bool = False  # it has been ready once, so `data` is worth keeping

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the broker itself writes."""
        return self.folder / "log" / "rabbit.log"

    @property
    def console(self) -> Path:
        """What a node prints that dies before its log is open."""
        return self.folder / "log" / "console.log"

    @property
    def mark(self) -> str:
        """In the environment of each process of this node. A copy of the folder is another inode, a moved one not."""
        status = self.folder.stat()
        return f"{self.name}:{status.st_dev}:{status.st_ino}"

    @property
    def ports(self) -> tuple[int, int, int, int]:
        return self.amqp_port, self.management_port, self.dist_port, self.epmd_port


def find_server() -> Path | None:
    """The real `rabbitmq-server` script, or None. Debian's wrapper in /usr/sbin, which does `su`, is not it."""
    candidates = [Path(place) / "rabbitmq-server" for place in PLACES]
    if on_path := shutil.which("rabbitmq-server"):
        candidates.append(Path(on_path))
    for script in candidates:
        if os.access(script, os.X_OK) and (script.resolve().parent / "rabbitmq-env").exists():
            return script.resolve()
    return None


def read_node(folder: Path) -> Node | None:
    """The node that this folder remembers, or None on a first start.

    Raises:
        Permanent: `node.json` cannot be read. Without its name and password the data is out of reach.
    """
    path = folder / "node.json"
    try:
        return Node(folder=folder, **json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Permanent(
            f"{path} is not readable ({error}): mend it, or delete {folder} to begin with an empty broker"
        ) from error


def prepare(folder: Path, node: Node | None, same_ports: bool = False) -> Node:
    """Writes all that a start needs, and answers the node: the one remembered, on new ports if its own are taken.

    Raises:
        Permanent: the folder cannot be written; or with `same_ports`, one of its ports is taken.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if same_ports and node is not None and (taken := [port for port in node.ports if not _is_free(port)]):
            raise Permanent(f"the embedded broker cannot listen on port {taken[0]} again: another process has it now")
        node = _new_node(folder) if node is None else _on_free_ports(node)
        if not node.seeded:
            # A first boot that was cut short may have a vhost but no user, for ever. Nobody has used it yet.
            shutil.rmtree(node.data, ignore_errors=True)
        _write_files(node)
    except OSError as error:
        raise Permanent(f"the embedded broker cannot write to {folder}: {error}") from error
    return node


def remember(node: Node) -> None:
    """Writes `node.json`, at once or not at all."""
    fields = dataclasses.asdict(node)
    del fields["folder"]
    _write_private(node.folder / "node.json", json.dumps(fields, indent=1) + "\n")


def environment(node: Node) -> dict[str, str]:
    """The environment to start `rabbitmq-server` in: ours, less all that could make it another node."""
    theirs = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "WATCHDOG_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    folder = node.folder
    return inherited | {
        "RECONCILER_BROKER": node.mark,
        "HOME": str(folder),  # holds .erlang.cookie
        "LC_ALL": "C.UTF-8",
        "RUNNING_UNDER_SYSTEMD": "true",  # `exec`s the VM: one process, no shell waiting beside it
        "ERL_EPMD_PORT": str(node.epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP_SECONDS": "0",
        "RABBITMQ_NODENAME": node.name,
        "RABBITMQ_DIST_PORT": str(node.dist_port),
        "RABBITMQ_MNESIA_BASE": str(node.data),
        "RABBITMQ_LOG_BASE": str(node.log.parent),
        "RABBITMQ_LOGS": str(node.log),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_CONFIG_FILES": str(folder / "conf.d" / "*.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        # Bound schedulers of several nodes would share the first cores and leave the others idle.
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _erl_args(node),
    }


def link_plugins(node: Node, server: Path) -> dict[str, str]:
    """A folder with links to just the plugins that are enabled and what they need, as a piece of environment.

    At boot RabbitMQ loads every module of every plugin that it finds, enabled or not: a third of its start.
    Empty where the plugins are packed, or lie elsewhere.
    """
    source = server.parent.parent / "plugins"
    wanted = _with_dependencies(source, PLUGINS)
    if not wanted:
        return {}
    view = node.folder / "plugins"
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir()
    for plugin in wanted:
        (view / plugin.name).symlink_to(plugin)
    return {"RABBITMQ_PLUGINS_DIR": str(view)}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at 127.0.0.1.

    They lie below the kernel's ephemeral range: inside it, a client that keeps reconnecting to a broker that is
    down can be given the broker's port as its own, connects to itself, and the broker cannot come back.
    """
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = list(range(10000, lowest_ephemeral)) or list(range(1024, 65536))
    random.shuffle(candidates)
    ports: list[int] = []
    while len(ports) < count:
        port = candidates.pop()
        if _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _new_node(folder: Path) -> Node:
    name = f"reconciler-{secrets.token_hex(4)}@localhost"
    secret = secrets.token_hex(16), secrets.token_hex(16)
    amqp, management, dist, epmd = free_ports(4)
    return Node(folder, name, "reconciler", *secret, amqp, management, dist, epmd)


def _on_free_ports(node: Node) -> Node:
    if all(_is_free(port) for port in node.ports):
        return node
    amqp, management, dist, epmd = free_ports(4)
    return dataclasses.replace(node, amqp_port=amqp, management_port=management, dist_port=dist, epmd_port=epmd)


def _write_files(node: Node) -> None:
    for folder in (node.data, node.log.parent, node.folder / "conf.d"):
        folder.mkdir(exist_ok=True)
    remember(node)
    _write_private(node.folder / ".erlang.cookie", node.cookie)
    _write_private(node.folder / "rabbitmq.conf", CONFIG.format(**dataclasses.asdict(node)))
    _write_private(node.folder / "enabled_plugins", f"[{','.join(PLUGINS)}].\n")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _erl_args(node: Node) -> str:
    schedulers = min(SCHEDULERS, len(os.sched_getaffinity(0)))
    return " ".join(
        (
            f"+S {schedulers}:{schedulers} +B i",
            # Named from the first instruction on, or RabbitMQ starts a second VM just to start epmd.
            f"-sname {node.name}",
            "-kernel inet_dist_use_interface {127,0,0,1}",
            f"-kernel inet_dist_listen_min {node.dist_port} inet_dist_listen_max {node.dist_port}",
            # Before 3.13 the management agent deadlocks at each stop until this many ms have passed (default 5000).
            # Queues and message stores have timeouts of their own, of minutes.
            "-rabbit worker_shutdown_timeout 1000",
            # Declarations run in a pool of as many processes as there are schedulers, each waiting for the disk.
            "-rabbit worker_pool_size 16",
        )
    )


def _with_dependencies(plugins: Path, names: Iterable[str]) -> list[Path]:
    found: dict[str, Path] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        match = next(plugins.glob(f"{name}-[0-9]*/ebin/{name}.app"), None)
        if name in found or match is None:  # not there: one of Erlang's own
            continue
        found[name] = match.parent.parent
        listed = re.search(r"\{\s*applications\s*,\s*\[([^]]*)\]", match.read_text())
        pending += re.findall(r"\w+", listed[1]) if listed else []
    return list(found.values())
