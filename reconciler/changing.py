"""A queue whose immutable properties differ from the file: refused, recreated or migrated, by its `on_change`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.actions import Held, Migrate, Recreate
from reconciler.diff import QueueDiffers

Refusal = str


def changing(change: QueueDiffers, ours: bool, gave_up: Mapping[str, str]) -> Migrate | Recreate | Held:
    """What becomes of it. `gave_up`: why migrations went back a short while ago, by queue."""
    name, queue, seen = change.name, change.queue, change.seen
    differences = "; ".join(map(str, change.differences))
    if queue.on_change == "refuse":
        return Held(name, f"{differences}. RabbitMQ cannot change that in place ({WAYS_OUT})")
    if not ours:
        why = f"it was there before it was in the file, so it is not ours to replace (reconciler adopt {name})"
        return Held(name, f"{differences}; on_change: {queue.on_change} does nothing: {why}")
    if reason := why_not(change) or gave_up.get(name):
        return Held(name, f"{differences}; not done: {reason}; it is tried again by itself", seen.messages)
    if queue.on_change == "migrate":
        return Migrate(name, queue, seen)
    if seen.messages:
        reason = f"{seen.messages} messages are in it ({seen.ready} ready, {seen.unacknowledged or 0} in flight)"
        way_out = "it is done by itself once the queue is empty; on_change: migrate takes them along"
        return Held(name, f"{differences}; not recreated: {reason} ({way_out})", seen.messages)
    return Recreate(name, queue, seen)


WAYS_OUT = (
    "change the file back; or say on_change: migrate there, which moves the messages to the new queue, or on_change: "
    "recreate-if-empty, which waits until there are none; or delete the queue yourself once it is drained: it is then "
    "made anew"
)


def why_not(change: QueueDiffers) -> Refusal | None:
    """Why moving the messages could lose some; None if nothing speaks against it."""
    queue, seen = change.queue, change.seen
    have: Mapping[str, Any] = seen.arguments or {}
    wanted = queue.broker_arguments() | {f"x-{key}": value for key, value in queue.policy_definition().items()}
    if seen.unacknowledged is None:
        return "without the management API neither its bindings nor messages in flight are seen (set MANAGEMENT_URL)"
    if seen.auto_delete or seen.exclusive:
        return "the queue at the broker deletes itself when its consumer or connection goes (delete it yourself)"
    if "x-expires" in have or "x-expires" in wanted:
        return "a queue that expires could do so meanwhile, with its messages (take expires out until it is done)"
    limit = wanted.get("x-max-length")
    if isinstance(limit, int) and limit < seen.messages:
        return (
            f"{seen.messages} messages are in it, and the new queue would take {limit} (raise max_length, or drain it)"
        )
    return None
