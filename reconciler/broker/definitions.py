"""A definitions export of RabbitMQ, as what was observed: of a whole broker, or of one virtual host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reconciler.broker.views import bindings_of, exchanges_of, policies_of, queue_of
from state.observed import ObservedBroker

PARTS = ("exchanges", "queues", "bindings", "policies")


class NoDefinitions(ValueError):
    """This is not what rabbitmqctl export_definitions or the management API writes."""


def read_definitions(data: bytes, vhost: str | None) -> tuple[ObservedBroker, list[str]]:
    """What the export holds of `vhost` (None: of the only one), and what no queues.yaml holds, in words.

    Raises NoDefinitions with what is wrong (what would be right).
    """
    found = _loaded(data)
    named = _vhosts(found)
    if vhost is None and len(named) > 1:
        raise NoDefinitions(f"it holds the virtual hosts {', '.join(named)} (say which: --vhost {named[0]})")
    if vhost is not None and named and vhost not in named:
        raise NoDefinitions(f"it holds no virtual host {vhost} (it has {', '.join(named)})")
    vhost = named[0] if vhost is None and named else vhost
    try:
        parts = {part: [item for item in found.get(part, ()) if item.get("vhost", vhost) == vhost] for part in PARTS}
        seen = ObservedBroker(
            identity=f"vhost {vhost}" if vhost else "a virtual host",
            version=str(found.get("rabbitmq_version") or found.get("rabbit_version") or "unknown"),
            management=True,
            queues={queue["name"]: queue_of(queue) for queue in parts["queues"]},
            exchanges=exchanges_of(parts["exchanges"]),
            bindings=bindings_of(binding for binding in parts["bindings"] if binding["source"]),
            policies=policies_of(parts["policies"]),
        )
        return seen, [_parameter(item) for item in found.get("parameters", ()) if item.get("vhost", vhost) == vhost]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NoDefinitions(f"an entry in it is not as RabbitMQ writes it: {error!r:.80}") from None


def _loaded(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NoDefinitions(f"it is not JSON: {error} (rabbitmqctl export_definitions FILE writes it)") from None
    if not isinstance(found, dict) or not any(part in found for part in PARTS):
        raise NoDefinitions("it has neither queues nor exchanges (rabbitmqctl export_definitions FILE writes it)")
    return found


def _vhosts(found: Mapping[str, Any]) -> list[str]:
    """Those that the export of a whole broker holds; none in that of a single virtual host."""
    try:
        named = {item["vhost"] for part in PARTS for item in found.get(part, ()) if "vhost" in item}
        return sorted(named | {item["name"] for item in found.get("vhosts", ())})
    except (KeyError, TypeError):
        raise NoDefinitions("an entry in it is not as RabbitMQ writes it (rabbitmqctl export_definitions)") from None


def _parameter(item: Mapping[str, Any]) -> str:
    return f"{item['component']} {item['name']}: it is a parameter of a plugin (set it with rabbitmqctl)"
