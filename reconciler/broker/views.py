"""What the HTTP API answers, as what the pure modules read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from state.observed import ObservedBinding, ObservedConnection, ObservedExchange, ObservedPolicy, ObservedQueue

Found = Mapping[str, Any]
EVENTS_QUEUE = "reconciler.events."  # how the names of the exclusive queues begin on which we listen to the broker


def queues_of(found: Iterable[Found]) -> dict[str, ObservedQueue]:
    """All but those that are ours for a moment, to listen on."""
    return {q["name"]: queue_of(q) for q in found if not (q["name"].startswith(EVENTS_QUEUE) and q.get("exclusive"))}


def queue_of(found: Found) -> ObservedQueue:
    ready, held = int(found.get("messages_ready") or 0), int(found.get("messages_unacknowledged") or 0)
    # A quorum queue that dead-letters at least once has messages that are neither: they wait for their target.
    held = max(held, int(found.get("messages") or 0) - ready)
    is_counted = "messages_ready" in found or found.get("state") != "live"  # so are listed those that were not asked
    return ObservedQueue(
        name=found["name"],
        type=found.get("type") or found.get("arguments", {}).get("x-queue-type", "classic"),
        durable=bool(found.get("durable", True)),
        auto_delete=bool(found.get("auto_delete", False)),
        exclusive=bool(found.get("exclusive", False)),
        arguments=found.get("arguments", {}),
        ready=ready,
        unacknowledged=held if is_counted else None,
        consumers=found.get("consumers"),
        state=str(found.get("state", "running")).replace("live", "running"),  # of a list without counts
    )


def exchanges_of(found: Iterable[Found]) -> dict[str, ObservedExchange]:
    """All but those that RabbitMQ makes itself."""
    return {
        x["name"]: ObservedExchange(
            x["name"],
            x["type"],
            durable=bool(x.get("durable", True)),
            auto_delete=bool(x.get("auto_delete", False)),
            internal=bool(x.get("internal", False)),
            arguments=x.get("arguments", {}),
        )
        for x in found
        if x["name"] and not x["name"].startswith("amq.")
    }


def bindings_of(found: Iterable[Found]) -> frozenset[ObservedBinding]:
    return frozenset(
        ObservedBinding(
            source=b["source"],
            destination=b["destination"],
            destination_type=b["destination_type"],
            routing_key=b["routing_key"],
            arguments=b.get("arguments", {}),
        )
        for b in found
    )


def policies_of(found: Iterable[Found]) -> dict[str, ObservedPolicy]:
    return {
        p["name"]: ObservedPolicy(
            p["name"],
            p["pattern"],
            apply_to=p.get("apply-to", "all"),
            priority=int(p.get("priority", 0)),
            definition=p.get("definition", {}),
        )
        for p in found
    }


def connection_of(found: Found) -> ObservedConnection:
    client = found.get("client_properties") or {}
    return ObservedConnection(
        name=found.get("user_provided_name") or client.get("connection_name"),
        user=str(found.get("user", "unknown")),
        peer=str(found.get("peer_host", "unknown")),
        since=int(found.get("connected_at") or 0) / 1000,
    )
