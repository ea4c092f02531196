"""What the broker holds, as seen in one turn. Frozen; made by `reconciler.broker`, read by the pure modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ObservedQueue:
    """One queue at the broker. None stands for what could not be seen over AMQP alone."""

    name: str
    type: str | None = None
    durable: bool | None = None
    auto_delete: bool = False
    exclusive: bool = False
    arguments: Mapping[str, Any] | None = None
    ready: int = 0
    unacknowledged: int | None = None
    consumers: int | None = None
    state: str = "running"

    @property
    def messages(self) -> int:
        return self.ready + (self.unacknowledged or 0)


@dataclass(frozen=True)
class ObservedBroker:
    """All queues of the virtual host, or only those asked for where the management API is missing."""

    identity: str  # cluster name and virtual host: what the ledger's ownership is bound to
    version: str
    management: bool
    queues: Mapping[str, ObservedQueue] = field(default_factory=dict)


@dataclass(frozen=True)
class ObservedConnection:
    """Somebody's connection to the virtual host. `name` is what its client calls it, if it calls it anything.

    `since` is in seconds since the epoch.
    """

    name: str | None
    user: str
    peer: str
    since: float = 0.0

    def __str__(self) -> str:
        return f'connection "{self.name}"' if self.name else f"a connection without a name from {self.peer}"
