"""What a plan costs, in words, from the body of `/plan`: shared by the terminal and Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.words import plural

OF_WORKERS = ("start", "stop", "restart", "adjust")  # each is about one worker, and says so
COSTS = ("destructive", "recreate", "restart", "in place")  # worst first


def touched(step: Mapping[str, Any]) -> list[str]:
    """The messages, workers and bindings that an action, or what is held, touches."""
    if step.get("action") in OF_WORKERS:
        return []
    said = [messages(step)] if step.get("messages") else []
    return said + [plural(step[key], key[:-1]) for key in ("workers", "bindings") if step.get(key)]


def messages(step: Mapping[str, Any]) -> str:
    ready, flight = step["messages_ready"], step["messages_unacknowledged"]
    if flight is None:
        return f"{plural(ready, 'ready message')}, those in flight not known"
    return f"{plural(step['messages'], 'message')}: {ready:,} ready, {flight:,} in flight"


def called(step: Mapping[str, Any]) -> str:
    """What is held, by kind and name: a worker of a queue goes by the queue."""
    return f"{step.get('kind', 'queue')} {step['queue']}"


def summary(plan: Mapping[str, Any]) -> str:
    """What there is to do, worst first: 1 destructive, 2 in place, 1 held, 12 messages are lost."""
    counts, held = plan["summary"], (plan["held"] or {}).get("actions", ())
    parts = [f"{counts[cost]:,} {cost}" for cost in COSTS if counts[cost]]
    asked = sum(step["needs_confirmation"] for step in held)
    if waiting := len(held) - asked:
        parts.append(f"{waiting:,} held")
    if asked:
        parts.append(f"{plural(asked, 'removal')} {'waits' if asked == 1 else 'wait'} for a person")
    if lost := counts["messages_lost"]:
        parts.append(f"{plural(lost, 'message')} {'is' if lost == 1 else 'are'} lost")
    return ", ".join(parts) or "nothing to do"


def unmanaged(plan: Mapping[str, Any]) -> str | None:
    """What the plan leaves alone; None if there is nothing of that kind."""
    if plan["unmanaged"] is None:
        return "Without the management API, nobody can see which other queues this vhost has."
    count = plan["unmanaged"]["count"]
    if not count:
        return None
    return f"{plural(count, 'other queue')} on this vhost {'is' if count == 1 else 'are'} not ours."
