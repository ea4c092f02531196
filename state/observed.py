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
