"""What an edit of the file did, in the words of a commit message: `scale emails/send_email 2 → 5`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from state.desired import Desired, Pause, Queue
from state.values import Model
from state.worker import Worker

SUBJECT = 72  # characters: what `git log --oneline` and forges show of a message
MOST = 50  # changes that are listed one by one
KINDS = {"queues": "queue", "exchanges": "exchange", "policies": "policy"}  # what the file's mappings hold
SHOWN = (int, float, str, bool, type(None))  # values that are short enough for a line; the rest is only named


def summarize(before: Desired, after: Desired) -> str:
    """One line if it fits; else a line that counts, a blank one, and a line for each change."""
    changes = list(differences(before, after))
    if not changes:
        return "edit comments and layout"
    if len(line := "; ".join(changes)) <= SUBJECT or len(changes) == 1:
        return line
    listed = [f"- {change}" for change in changes[:MOST]]
    more = [f"- and {len(changes) - MOST} more"] if len(changes) > MOST else []
    return "\n".join([f"{changes[0]}, and {len(changes) - 1} more", "", *listed, *more])


def differences(before: Desired, after: Desired) -> Iterator[str]:
    """Each change as a line. What only the defaults changed shows at the queues that it reaches."""
    for key in type(after).model_fields:
        old, new = getattr(before, key), getattr(after, key)
        if key in KINDS:
            yield from of_mapping(KINDS[key], old, new)
        elif old != new:
            yield f"change {key}"


def of_mapping(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"create {kind} {named(name)}" for name in after if name not in before)
    yield from (f"delete {kind} {named(name)}" for name in before if name not in after)
    for name, new in after.items():
        old = before.get(name, new)
        if old == new:
            continue
        if isinstance(old, Queue) and isinstance(new, Queue):
            yield from of_queue(named(name), old, new)
        else:
            yield from changed(f"{kind} {named(name)}", old, new, ())


def of_queue(name: str, before: Queue, after: Queue) -> Iterator[str]:
    if before.paused != after.paused:
        yield pause(name, after.paused)
    yield from changed(f"queue {name}", before, after, ("paused", "workers"))
    for worker in {**before.workers, **after.workers}:
        old, new = before.workers.get(worker), after.workers.get(worker)
        if old != new:
            yield from of_worker(f"{name}/{worker}", old, new)


def of_worker(name: str, before: Worker | None, after: Worker | None) -> Iterator[str]:
    if after is None:
        yield f"remove worker {name}"
    elif before is None:
        yield f"scale {name} 0 → {after.count}" if after.autoscale is None else f"autoscale {name}"
    else:
        if before.count != after.count:
            yield f"scale {name} {before.count} → {after.count}"
        yield from changed(name, before, after, ("count",))


def changed(name: str, before: Model, after: Model, told: tuple[str, ...]) -> Iterator[str]:
    """One line for all keys that differ. Values of mappings are not shown: some of them are secrets."""
    keys = [key for key in type(after).model_fields if key not in told]
    parts = [difference(key, getattr(before, key), getattr(after, key)) for key in keys]
    if found := [part for part in parts if part]:
        yield f"change {name}: {', '.join(found)}"


def difference(key: str, before: Any, after: Any) -> str:
    if before == after:
        return ""
    if isinstance(before, SHOWN) and isinstance(after, SHOWN):
        return f"{key} {shown(before)} → {shown(after)}"
    return key


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else named(str(value)[:40])


def pause(name: str, paused: Pause | None) -> str:
    if paused is None:
        return f"resume {name}"
    return f"pause {name}" + (f": {paused.reason[:200]}" if paused.reason else "")


def named(name: str) -> str:
    """A name as it is, unless it would break the line."""
    return name if name.isprintable() else ascii(name)
