"""Which dead-letter queue is meant by a name, and whether it may be looked into. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from state.desired import Desired
from state.observed import ObservedBroker, ObservedQueue
from state.retries import dead_letter_of, delay_queues

DEFAULT_LIMIT = 20  # deliveries of a message of a quorum queue, since RabbitMQ 4.0
LOOKS_ARE_FREE = (4, 3)  # since then what is handed back is not counted


@dataclass(frozen=True)
class Place:
    """A dead-letter queue; of `source` alone, if the name was that of a queue whose messages go there."""

    queue: str
    source: str | None = None


def place_of(name: str, desired: Desired, observed: Mapping[str, ObservedQueue]) -> Place | None:
    """None if no queue of that name has anything to do with dead letters."""
    targets = {dead_letter_of(n, queue) for n, queue in desired.queues.items()}
    if name in targets:
        return Place(name)
    if name in desired.queues and (dead := dead_letter_of(name, desired.queues[name])) is not None:
        return Place(dead, name)
    targets |= {target_of(queue.arguments) for queue in observed.values()}
    if name in targets:
        return Place(name)
    known = (desired.queues[name].arguments if name in desired.queues else None) or (
        observed[name].arguments if name in observed else None
    )
    if (dead := target_of(known)) is not None:
        return Place(dead, name)
    return Place(name) if name in observed and name not in desired.queues else None


def target_of(arguments: Mapping[str, Any] | None) -> str | None:
    """The queue that a queue with these arguments dead-letters to through the default exchange."""
    arguments = arguments or {}
    key = arguments.get("x-dead-letter-routing-key")
    return key if arguments.get("x-dead-letter-exchange") == "" and isinstance(key, str) else None


def waiting_for(name: str, desired: Desired) -> list[str]:
    """The delay queues in which messages of that queue wait for their next try."""
    queue = desired.queues.get(name)
    return list(dict.fromkeys(delay_queues(name, queue.retry))) if queue is not None and queue.retry else []


def why_not_look(name: str, broker: ObservedBroker, wanted_type: str | None) -> str | None:
    """Why taking messages of that queue in hand and giving them back could lose them in the end; None if it cannot."""
    seen = broker.queues.get(name)
    kind = (seen.type if seen else None) or wanted_type
    if kind in ("classic", "stream") or version_of(broker.version) >= LOOKS_ARE_FREE:
        return None
    if kind is None:
        return (
            f"without the management API nobody can see whether queue {name} counts a look as a delivery "
            f"(set MANAGEMENT_URL, or list the queue in queues.yaml)"
        )
    limit = delivery_limit(name, broker)
    if limit is None:
        return None
    off = "delivery_limit: -1" if version_of(broker.version) >= (4,) else "no delivery_limit"
    return (
        f"queue {name} is a quorum queue, and RabbitMQ {broker.version} counts each look at it as a delivery and "
        f"drops a message after {limit} (give the queue {off}, or use type: classic)"
    )


def delivery_limit(name: str, broker: ObservedBroker) -> int | None:
    """The lowest that could apply to a quorum queue; None for no limit."""
    seen = broker.queues.get(name)
    given = [(seen.arguments or {}).get("x-delivery-limit")] if seen else []
    policies = (broker.policies or {}).values()
    given += [policy.definition.get("delivery-limit") for policy in policies if matches(policy.pattern, name)]
    numbers = [number for number in given if isinstance(number, int)]
    limits = [number for number in numbers if number >= 0]
    if limits:
        return min(limits)
    return DEFAULT_LIMIT if not numbers and version_of(broker.version) >= (4,) else None


def matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:  # RabbitMQ's dialect knows more: then it may well match
        return True


def version_of(text: str) -> tuple[int, ...]:
    numbers = re.match(r"(\d+)\.(\d+)", text)
    return tuple(map(int, numbers.groups())) if numbers else (0, 0)
