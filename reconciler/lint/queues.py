"""What a broker makes of a queue's type and arguments.

Where it says that something is refused, RabbitMQ 3.10.8 and 4.0.5 were asked (the tests ask them again); what is said
of 4.3 is from its release notes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from reconciler.lint.finding import Finding, Path, otherwise, refused
from state.desired import Desired, Queue
from state.observed import Release

V3_11, V4, V4_3 = (3, 11, 0), (4, 0, 0), (4, 3, 0)

LOCATOR = "x-queue-leader-locator"
ALL_TYPES = frozenset({"x-queue-type", LOCATOR, "x-max-length-bytes"})
BOTH = frozenset(
    {
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-overflow",
        "x-single-active-consumer",
    }
)
# What each type knows. An argument that another type knows is refused; one that none knows is taken, and ignored.
KNOWN = {
    "classic": ALL_TYPES | BOTH | {"x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator"},
    "quorum": ALL_TYPES
    | BOTH
    | {
        "x-dead-letter-strategy",
        "x-delivery-limit",
        "x-max-in-memory-bytes",
        "x-max-in-memory-length",
        "x-quorum-initial-group-size",
    },
    "stream": ALL_TYPES | {"x-max-age", "x-stream-max-segment-size-bytes", "x-initial-cluster-size"},
}
SOMEBODYS = frozenset().union(*KNOWN.values())
# Without one of these there is nothing to say of a queue.
TELLING = {"type", "durable", "arguments", "max_priority", "message_ttl", "dead_letter_strategy", "overflow"}


def about_queues(desired: Desired, release: Release | None) -> Iterator[Finding]:
    for name, queue in desired.queues.items():
        if queue.model_fields_set & TELLING:
            path = ("queues", name)
            yield from about_arguments(path, queue)
            yield from about_what_is_ignored(path, queue)
            if release is not None and release >= V4:
                yield from since_4(path, queue, release)
            elif release is not None and release < V3_11 and queue.type == "classic" and LOCATOR in queue.arguments:
                text = "RabbitMQ 3.10 refuses it for a classic queue (use x-queue-master-locator)"
                yield refused(argument_at(path, LOCATOR), text)


def about_arguments(path: Path, queue: Queue) -> Iterator[Finding]:
    known = KNOWN[queue.type]
    for argument in queue.arguments:
        if argument in known:
            continue
        where = argument_at(path, argument)
        if argument in SOMEBODYS:
            right = " or ".join(kind for kind, theirs in KNOWN.items() if argument in theirs)
            way_out = f"take it out, or use type: {right}"
            yield refused(where, f"RabbitMQ refuses it for a {queue.type} queue ({way_out})")
        elif near := difflib.get_close_matches(argument, known, n=1, cutoff=0.85):
            yield otherwise(where, f"RabbitMQ does not know it and ignores it (did you mean {near[0]}?)")
    if "x-dead-letter-routing-key" in queue.arguments and "x-dead-letter-exchange" not in queue.arguments:
        where = argument_at(path, "x-dead-letter-routing-key")
        yield refused(where, 'RabbitMQ refuses it without x-dead-letter-exchange (add x-dead-letter-exchange: "")')


def about_what_is_ignored(path: Path, queue: Queue) -> Iterator[Finding]:
    arguments = queue.arguments
    if queue.type == "quorum" and arguments.get("x-overflow") == "reject-publish-dlx":
        where = argument_at(path, "x-overflow")
        yield otherwise(
            where, "a quorum queue drops the oldest messages instead (use reject-publish, or type: classic)"
        )
    strategy = queue.dead_letter_strategy or arguments.get("x-dead-letter-strategy")
    overflow = queue.overflow or arguments.get("x-overflow")
    if strategy == "at-least-once" and overflow != "reject-publish":
        key = "dead_letter_strategy" if queue.dead_letter_strategy else "arguments"
        yield otherwise((*path, key, "[key]"), "it is at-most-once unless overflow is reject-publish (add that)")
    has_ttl = queue.message_ttl is not None or "x-message-ttl" in arguments
    if has_ttl and (queue.max_priority or "x-max-priority" in arguments):
        key = "message_ttl" if queue.message_ttl is not None else "arguments"
        text = "messages expire only at the head of the queue: those of a low priority outlive it behind the others"
        yield otherwise((*path, key, "[key]"), f"{text} (use a queue for each priority)")


def since_4(path: Path, queue: Queue, release: Release) -> Iterator[Finding]:
    if not queue.durable:
        text = "transient queues that are not exclusive are deprecated since 4.0, and refused since 4.3"
        made = refused if release >= V4_3 else otherwise
        yield made((*path, "durable"), f"{text} (use durable: true with expires)")
    if "x-queue-mode" in queue.arguments and queue.type == "classic":
        text = "4.3 refuses it" if release >= V4_3 else "it has had no effect since 3.12, and is refused since 4.3"
        made = refused if release >= V4_3 else otherwise
        yield made(argument_at(path, "x-queue-mode"), f"{text} (take it out: all classic queues are lazy now)")
    if queue.arguments.get("x-queue-version") == 1 and queue.type == "classic":
        text = "4.3 refuses it" if release >= V4_3 else "4.0 has no version 1 any more and stores it as version 2"
        made = refused if release >= V4_3 else otherwise
        yield made(argument_at(path, "x-queue-version"), f"{text} (take it out)")
    if release >= V4_3 and "x-queue-master-locator" in queue.arguments and queue.type == "classic":
        where = argument_at(path, "x-queue-master-locator")
        yield refused(where, "4.3 refuses it (use x-queue-leader-locator)")
    if queue.type == "quorum" and not limits_deliveries(queue):
        text = "since 4.0 a message that was delivered 20 times and came back is dropped"
        yield otherwise((*path, "type"), f"{text} (set dead_letter or retry, or delivery_limit: -1 for no limit)")


def limits_deliveries(queue: Queue) -> bool:
    """Has somebody thought of what becomes of a message that is delivered again and again?"""
    said = {"x-delivery-limit", "x-dead-letter-exchange"} & queue.arguments.keys()
    return bool(said or queue.dead_letter or queue.retry or queue.delivery_limit is not None)


def argument_at(path: Path, argument: str) -> Path:
    return (*path, "arguments", argument, "[key]")
