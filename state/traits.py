"""The friendly keys of a queue: what each is called at the broker, and which types know it. Pure data.

What a policy can carry is carried by one, so that an edit applies in place; the rest are arguments, fixed at the
declaration. Checked against rabbit_policies and the capabilities of the queue types in RabbitMQ's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

CLASSIC, QUORUM, STREAM = "classic", "quorum", "stream"
# What a policy's `apply_to` calls each type, from RabbitMQ 3.12 on.
APPLY_TO = {CLASSIC: "classic_queues", QUORUM: "quorum_queues", STREAM: "streams"}


def same(value: Any) -> Any:
    return value


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def age(seconds: float) -> str:
    """A time as a stream's `max-age` is written."""
    return f"{round(seconds)}s"


@dataclass(frozen=True)
class Trait:
    """`policy` is None for what only the declaration can set."""

    key: str  # in the file
    argument: str
    policy: str | None
    types: tuple[str, ...]
    written: Callable[[Any], Any] = same  # the file's value as the broker takes it


def of_both(key: str, name: str, types: tuple[str, ...], written: Callable[[Any], Any] = same) -> Trait:
    return Trait(key, f"x-{name}", name, types, written)


TRAITS: tuple[Trait, ...] = (
    of_both("message_ttl", "message-ttl", (CLASSIC, QUORUM), milliseconds),
    of_both("expires", "expires", (CLASSIC, QUORUM), milliseconds),
    of_both("max_length", "max-length", (CLASSIC, QUORUM)),
    of_both("max_length_bytes", "max-length-bytes", (CLASSIC, QUORUM, STREAM)),
    of_both("overflow", "overflow", (CLASSIC, QUORUM)),
    of_both("delivery_limit", "delivery-limit", (QUORUM,)),
    of_both("dead_letter_strategy", "dead-letter-strategy", (QUORUM,)),
    of_both("max_age", "max-age", (STREAM,), age),
    of_both("max_segment_size", "stream-max-segment-size-bytes", (STREAM,)),
    Trait("single_active_consumer", "x-single-active-consumer", None, (CLASSIC, QUORUM)),
    Trait("max_priority", "x-max-priority", None, (CLASSIC,)),
    Trait("initial_group_size", "x-quorum-initial-group-size", None, (QUORUM,)),
)

DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"

# A policy with a key that a type does not know does not apply to queues of that type at all.
MIRRORING = {"ha-mode", "ha-params", "ha-sync-mode", "ha-promote-on-shutdown", "ha-promote-on-failure"}
OF_STREAMS = {"max-age", "stream-max-segment-size-bytes", "initial-cluster-size"}
OF_QUORUM = {"delivery-limit", "dead-letter-strategy"}
OF_CLASSIC = {"max-priority", "queue-mode", "queue-master-locator"} | MIRRORING
OF_QUEUES_PROPER = {"expires", "message-ttl", "dead-letter-exchange", "dead-letter-routing-key", "max-length"}
OF_QUEUES_PROPER |= {"max-in-memory-length", "max-in-memory-bytes", "overflow", "single-active-consumer"}
UNKNOWN_TO = {
    CLASSIC: OF_STREAMS | OF_QUORUM,
    QUORUM: OF_STREAMS | OF_CLASSIC,
    STREAM: OF_QUEUES_PROPER | OF_QUORUM | OF_CLASSIC,
}


def not_for_type(definition: Iterable[str], kind: str) -> str | None:
    """The first key of a policy's definition that keeps it from applying to queues of this type; None if none does."""
    return next((key for key in definition if key in UNKNOWN_TO[kind]), None)


BY_ARGUMENT = {trait.argument: trait for trait in TRAITS}
