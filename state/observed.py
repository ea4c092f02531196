"""What the broker holds, as seen in one turn. Frozen; made by `reconciler.broker`, read by the pure modules."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Kind = Literal["queue", "exchange"]
Release = tuple[int, int, int]


def release_of(version: str) -> Release | None:
    """`4.1.0-rc.2` as (4, 1, 0); None for what is no version of RabbitMQ."""
    parts = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return (int(parts[1]), int(parts[2]), int(parts[3] or 0)) if parts else None


OURS = "reconciler "  # what the names of our own connections and our workers' begin with


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
class ObservedExchange:
    """One exchange at the broker. `type` is None where AMQP alone does not show its properties."""

    name: str
    type: str | None
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ObservedBinding:
    """From an exchange to a queue or to another exchange. All of it is what makes it the binding that it is."""

    source: str
    destination: str
    destination_type: Kind = "queue"
    routing_key: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The same text for the same binding, whatever the order of its arguments; `binding_of` reads it back."""
        parts = [self.source, self.destination_type, self.destination, self.routing_key, dict(self.arguments)]
        return json.dumps(parts, sort_keys=True, ensure_ascii=False)

    def __hash__(self) -> int:
        return hash((self.source, self.destination_type, self.destination, self.routing_key))

    def __str__(self) -> str:
        key = f" with {self.routing_key}" if self.routing_key else ""
        arguments = f" {json.dumps(dict(self.arguments), ensure_ascii=False)}" if self.arguments else ""
        return f"{self.source} → {self.destination_type} {self.destination}{key}{arguments}"


def binding_of(key: str) -> ObservedBinding:
    """The binding of that `key`. Raises ValueError if it is none."""
    source, kind, destination, routing_key, arguments = json.loads(key)
    return ObservedBinding(source, destination, kind, routing_key, arguments)


@dataclass(frozen=True)
class ObservedPolicy:
    """One policy of the virtual host; of those that match a name, only the one of the highest priority applies."""

    name: str
    pattern: str
    apply_to: str = "all"
    priority: int = 0
    definition: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ObservedBroker:
    """All of the virtual host; where the management API is missing, only the queues and exchanges that were asked for.

    `exchanges` and `bindings` leave out what RabbitMQ makes itself: the default exchange and its bindings, and amq.*.
    Over AMQP alone `bindings` are those that this process had the broker make, `policies` are None: nobody sees them.
    None for one of the others: nothing is known of it, and nothing is done about it.
    """

    identity: str  # cluster name and virtual host: what the ledger's ownership is bound to
    version: str
    management: bool
    queues: Mapping[str, ObservedQueue] = field(default_factory=dict)
    exchanges: Mapping[str, ObservedExchange] | None = None
    bindings: frozenset[ObservedBinding] | None = None
    policies: Mapping[str, ObservedPolicy] | None = None

    @cached_property
    def release(self) -> Release | None:
        return release_of(self.version)

    cluster: str | None = None  # what RabbitMQ drew by lot when the cluster was made; None: cannot be seen


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
