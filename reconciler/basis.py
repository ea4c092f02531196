"""What a plan was made from, and its digest: whoever confirms a plan confirms it for just this world. Pure.

The basis holds what the plan depends on, and no more: the file's bytes, what is ours, the properties of all that the
file lists or that is ours, and the number of messages of each queue whose messages are at stake. So a message more in
another queue moves nothing, and one more in a queue that would be deleted does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reconciler.actions import Delete, Migrate
from reconciler.plan import Plan
from state.desired import Desired
from state.ledger import Holdings, Owned
from state.observed import ObservedBroker, ObservedQueue
from state.topology import OUR_POLICIES

# Hexadecimal digits of the digest: so that from a digest alone one can tell which of the three has moved.
FILE, LEDGER, BROKER = 20, 20, 24
LENGTH = FILE + LEDGER + BROKER
NAMED = 5  # things that moved and are named; the rest is a number


@dataclass(frozen=True)
class Basis:
    """Each thing that was looked at, in words, by what it is."""

    file: Mapping[str, str] = field(default_factory=dict)
    ledger: Mapping[str, str] = field(default_factory=dict)
    broker: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return hashed(self.file)[:FILE] + hashed(self.ledger)[:LEDGER] + hashed(self.broker)[:BROKER]

    def as_json(self) -> dict[str, Any]:
        return {"file": dict(self.file), "ledger": dict(self.ledger), "broker": dict(self.broker)}


def hashed(part: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()


def is_digest(text: str) -> bool:
    return len(text) == LENGTH and all(c in "0123456789abcdef" for c in text)


def basis_of(
    revision: str,
    desired: Desired,
    plan: Plan,
    broker: ObservedBroker | None,
    ours: Holdings,
    requests: Mapping[str, bool],
) -> Basis:
    seen = {} if broker is None else dict(of_the_broker(desired, plan, broker, ours))
    return Basis({"revision": revision}, dict(of_the_ledger(ours, requests)), seen)


def of_the_ledger(ours: Holdings, requests: Mapping[str, bool]) -> Iterator[tuple[str, str]]:
    yield from ((f"queue {name}", remembered(owned)) for name, owned in ours.queues.items())
    yield from ((f"exchange {name}", remembered(owned)) for name, owned in ours.exchanges.items())
    yield from ((f"binding {key}", "ours") for key in ours.bindings)
    yield from ((f"policy {name}", "ours") for name in ours.policies)
    for name, force in requests.items():
        yield f"request to delete {name}", "with force" if force else "once empty"


def remembered(owned: Owned) -> str:
    more = [word for word, holds in (("protected", owned.protect), ("doubtful", owned.doubtful)) if holds]
    return ", ".join([owned.on_remove, *more])


def of_the_broker(desired: Desired, plan: Plan, broker: ObservedBroker, ours: Holdings) -> Iterator[tuple[str, str]]:
    yield "broker", broker.identity
    staked = at_stake(plan)
    queues = desired.all_queues().keys() | ours.queues.keys()
    for name in queues:
        if (queue := broker.queues.get(name)) is not None:
            yield f"queue {name}", properties(queue) + (f", {queue.messages:,} messages" if name in staked else "")
    exchanges = desired.exchanges.keys() | ours.exchanges.keys()
    for name in exchanges & (broker.exchanges or {}).keys():
        yield f"exchange {name}", json.dumps(asdict((broker.exchanges or {})[name]), sort_keys=True)
    for binding in broker.bindings or ():
        if binding.destination in (queues if binding.destination_type == "queue" else exchanges):
            yield f"binding {binding}", "there"
    for name, policy in (broker.policies or {}).items():
        if name in desired.policies or name in ours.policies or name.startswith(OUR_POLICIES):
            yield f"policy {name}", json.dumps(asdict(policy), sort_keys=True)


def at_stake(plan: Plan) -> set[str]:
    """The queues whose messages a plan could cost, now or once it is confirmed."""
    doomed = {action.name for action in plan.actions if isinstance(action, Delete | Migrate)}
    return doomed | {held.queue for held in plan.held if held.messages is not None}


def properties(seen: ObservedQueue) -> str:
    if seen.type is None:
        return "there"
    words = [seen.type, "durable" if seen.durable else "transient"]
    words += [word for word, holds in (("auto-delete", seen.auto_delete), ("exclusive", seen.exclusive)) if holds]
    if seen.arguments:
        words.append(json.dumps(dict(seen.arguments), sort_keys=True, ensure_ascii=False))
    return ", ".join(words)


# -- what moved ----------------------------------------------------------------------------------------------------


def moved(digest: str, now: Basis, before: Basis | None = None) -> list[str]:
    """What is not any more as it was when the plan with `digest` was made. Of `before`, if known, each thing."""
    if digest == now.digest:
        return []
    if before is not None and before.digest == digest:
        return list(shortened(differences(before, now)))
    was, have = parts(digest), parts(now.digest)
    said = (
        f"the file (revision {now.file.get('revision', '')[:12]} now)",
        "what is ours (the ledger)",
        "the broker (what is there, or the messages of a queue that would be deleted)",
    )
    return [text for text, old, new in zip(said, was, have, strict=True) if old != new]


def parts(digest: str) -> tuple[str, str, str]:
    return digest[:FILE], digest[FILE : FILE + LEDGER], digest[FILE + LEDGER :]


def differences(before: Basis, now: Basis) -> Iterator[str]:
    for where, old, new in (
        ("the file: ", before.file, now.file),
        ("the ledger: ", before.ledger, now.ledger),
        ("", before.broker, now.broker),
    ):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"{where}{key} was {shown(old.get(key))} and is {shown(new.get(key))}"


def shown(value: str | None) -> str:
    return "not there" if value is None else value if len(value) <= 100 else value[:99] + "…"


def shortened(texts: Iterable[str]) -> Iterator[str]:
    listed = list(texts)
    yield from listed[:NAMED]
    if len(listed) > NAMED:
        yield f"and {len(listed) - NAMED} more"
