"""The RabbitMQs that are on this machine: the one that the system ships, and version 4 beside it for the tests."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.broker.node import Node, environment, find_server

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "queue-reconciler"
CTL_ARGS = "-kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True)
class Server:
    """One installation. `enter` is what runs a command inside of it, if it is not the machine's own."""

    folder: Path  # of its programs
    enter: Path | None = None

    def command(self, home: Path, program: str, *arguments: str) -> list[str]:
        """How to run one of its programs beside the files in `home`."""
        inside = [str(self.enter), str(home)] if self.enter else []
        return [*inside, str(self.folder / program), *arguments]

    def epmd(self, home: Path) -> list[str]:
        """How to run Erlang's port mapper."""
        return [str(self.enter), str(home), "epmd"] if self.enter else ["epmd"]

    def ctl(self, node: Node, *arguments: str) -> str:
        """Runs rabbitmqctl on a node, and returns what it printed."""
        done = subprocess.run(
            self.command(node.folder, "rabbitmqctl", "-q", "-n", node.name, *arguments),
            env=environment(node) | {"RABBITMQ_CTL_ERL_ARGS": CTL_ARGS},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout


def shipped() -> Server:
    """The one that `make up` uses."""
    found = find_server()
    assert found is not None, "run scripts/install-broker.sh"
    return Server(found.parent)


def version4() -> Server | None:
    enter = CACHE / "rabbitmq-4" / "enter"
    return Server(Path("/usr/lib/rabbitmq/bin"), enter) if os.access(enter, os.X_OK) else None


def version4_or_skip() -> Server:
    server = version4()
    if server is None:
        pytest.skip("RabbitMQ 4 is not on this machine: sh scripts/install-broker4.sh (it says what it needs)")
    return server
