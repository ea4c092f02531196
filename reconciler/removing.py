"""A queue of ours that left the file: released, deleted, or held with what lifts that. Pure.

Nothing here believes one single look: the live counts are taken again when a queue is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.actions import Delete, Held, Release
from reconciler.diff import Change, PolicyUnwanted, QueueDiffers, QueueUnwanted
from state.ledger import Owned, shape_of
from state.observed import ObservedQueue
from state.topology import OUR_POLICIES
from state.traits import DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY

# A plan that deletes more queues than this and more than this share of ours waits for a person.
MAX_DELETES = 3
MAX_DELETED_SHARE = 0.30
# What was deleted so many seconds before a revision came into force counts along: a file that is cut short in two
# steps is one that is cut short.
WINDOW_SECONDS = 60.0


@dataclass(frozen=True)
class Removals:
    """What the removal of queues depends on beside the queues."""

    owned: int = 0  # how many queues are ours, without those that are there for the sake of others
    confirmed: bool = False  # a person confirmed the deletions of this revision
    requests: Mapping[str, bool] = field(default_factory=dict)  # deletions asked for by name; True: with force
    allowed: frozenset[str] = frozenset()  # the queues whose deletion a person confirmed, looking at one plan
    recent: int = 0  # deleted within the window before this revision came into force, without being asked for by name


def withheld(unwanted: Collection[QueueUnwanted], context: Removals) -> dict[str, Held]:
    """The removals that wait for a person, by queue."""
    held = {c.name: guard for c in unwanted if (guard := guarded(c, context))}
    deletes = [c for c in unwanted if is_deleted(c, context) and c.name not in held]
    if not context.confirmed and is_too_many(len(deletes), context):
        reason = why_too_many(len(deletes), context)
        held |= {c.name: Held(c.name, reason, c.seen.messages if c.seen else 0, True) for c in deletes}
    return held


def is_deleted(change: QueueUnwanted, context: Removals) -> bool:
    """Nobody has agreed to it. What a queue implies waits for that queue anyway: see `tied`."""
    if change.owned.of is not None or change.name in context.requests.keys() | context.allowed:
        return False
    return change.owned.on_remove != "keep" and change.seen is not None


def leaving_behind(owned: Mapping[str, Owned], wanted: Collection[str]) -> list[str]:
    """What was made for the sake of another queue and is to go. `tied` needs its counts, and those of quorum queues
    have to be asked for once more, because they lag."""
    return [name for name, ours in owned.items() if ours.of is not None and name not in wanted]


def tied(unwanted: Collection[QueueUnwanted], changes: Iterable[Change] = ()) -> dict[str, Held]:
    """The removals that wait for another: a queue for the messages that come back to it after a delay, and what was
    made for its sake for the queue itself, so that nothing is rejected into nowhere."""
    changes = list(changes)
    differing = [c for c in changes if isinstance(c, QueueDiffers)]
    targets = {d.have: c.name for c in differing for d in c.differences if d.key == DEAD_LETTER_KEY}
    policies = [c.name for c in changes if isinstance(c, PolicyUnwanted) and c.name.startswith(OUR_POLICIES)]
    there = {c.name: c.seen for c in unwanted if c.seen is not None}
    implied = [c for c in unwanted if c.owned.of in there and c.name in there]
    found = {c.name: Held(c.name, f"it goes once queue {c.owned.of} is gone", there[c.name].messages) for c in implied}
    for name, user in users_of(unwanted).items():  # what is to go may reject, or let expire, to the last
        found.setdefault(name, Held(name, f"it goes once queue {user} is gone", there[name].messages))
    for change in unwanted:
        if change.name in targets and change.name not in found:
            reason = (
                f"queue {targets[change.name]} still puts there what is rejected (its arguments say so: see on_change)"
            )
            found[change.name] = Held(change.name, reason, change.seen.messages if change.seen else 0)
    for change in unwanted if policies else ():  # policies go last, and these may be what says to reject there
        if change.owned.of is not None and change.name not in found:
            reason = f"it goes once policy {policies[0]} is gone"
            found[change.name] = Held(change.name, reason, change.seen.messages if change.seen else 0)
    for change in implied:
        name, of, waiting = change.name, str(change.owned.of), there[change.name].messages
        delayed = name.startswith(f"{of}.retry.")
        if waiting and (delayed or change.owned.counts):
            when = "it after their delay" if delayed else "it"
            reason = f"{waiting} messages in {name} come back to {when}; it is tried again by itself"
            found[of] = Held(of, reason, waiting)
    return found


def users_of(unwanted: Collection[QueueUnwanted]) -> dict[str, str]:
    """The queues on their way out to which another one on its way out rejects by its arguments, each with one such.

    None of a queue's own delay queues, and none that it rejects to in turn: they would wait for each other.
    """
    leads = {c.name: to for c in unwanted if c.seen is not None and (to := rejects_to(c.seen)) is not None}
    there = {c.name: c.owned.of for c in unwanted if c.seen is not None}
    return {
        to: user for user, to in leads.items() if to in there and there[user] != to and user not in beyond(to, leads)
    }


def beyond(name: str, leads: Mapping[str, str]) -> set[str]:
    """Where what is rejected in a queue can come to, from one to the next."""
    found = set[str]()
    while (after := leads.get(name)) is not None and after not in found:
        found.add(after)
        name = after
    return found


def rejects_to(seen: ObservedQueue) -> str | None:
    have = seen.arguments or {}
    target = have.get(DEAD_LETTER_KEY) if have.get(DEAD_LETTER_EXCHANGE) == "" else None
    return target if isinstance(target, str) else None


def is_too_many(deletes: int, context: Removals) -> bool:
    together = deletes + context.recent
    return deletes > 0 and together > MAX_DELETES and together > MAX_DELETED_SHARE * (context.owned + context.recent)


def why_too_many(deletes: int, context: Removals) -> str:
    before = f", {context.recent} more were just removed" if context.recent else ""
    return (
        f"the file takes out {deletes} of {context.owned} managed queues{before}; more than {MAX_DELETES} and "
        f"{MAX_DELETED_SHARE:.0%} at once wait for a person (reconciler sync --confirm REVISION)"
    )


def guarded(change: QueueUnwanted, context: Removals) -> Held | None:
    """What keeps this one queue from going, whatever its counts and whatever the others do."""
    name, owned, seen = change.name, change.owned, change.seen
    if seen is None:
        return None
    if owned.protect:
        way_out = "put the entry back without protect: true, and take it out once that is in force"
        return Held(name, f"it was protected when it left the file ({way_out})", seen.messages)
    if owned.on_remove == "keep" or name in context.requests:
        return None
    if name in context.allowed:
        return None
    if owned.doubtful and not context.confirmed:
        return Held(name, f"{owned.doubtful}. {WHOSE.format(name=name)}", seen.messages)
    if owned.shape is not None and (now := seen_shape(seen)) not in (None, owned.shape):
        why = f"it is not the queue that we made: that was {owned.shape}, this is {now}; somebody made it anew"
        return Held(name, f"{why}. {WHOSE.format(name=name)}", seen.messages)
    return None


WHOSE = (
    "Nobody knows whether it is still ours (reconciler forget {name} leaves it there; reconciler delete {name} deletes "
    "it once it is empty; put it back into the file and reconciler adopt {name}, and it is ours)"
)


def seen_shape(seen: ObservedQueue) -> str | None:
    if seen.type is None or seen.durable is None or seen.arguments is None:
        return None
    return shape_of(seen.type, seen.durable, seen.arguments)


def removal(change: QueueUnwanted, context: Removals, has_workers: bool) -> Delete | Release | Held:
    """What becomes of a queue that nothing withholds."""
    seen, name = change.seen, change.name
    force = context.requests.get(name, False) or change.owned.on_remove == "delete"
    if seen is None or (change.owned.on_remove == "keep" and name not in context.requests):
        return Release(name)
    if has_workers:
        return Held(name, "its workers are stopping", seen.messages)
    if not force and (reason := why_in_use(seen)):
        return Held(name, reason, seen.messages)
    return Delete(name, seen.type or "classic", force, seen.messages)


def why_in_use(queue: ObservedQueue) -> str | None:
    """Why deleting `queue` could lose something; None if nothing speaks against it."""
    if queue.messages:
        return (
            f"{queue.messages} messages are in it ({queue.ready} ready, {queue.unacknowledged or 0} in flight): put it "
            f"back into the file and drain it, or say on_remove: delete there, or DELETE /queue/delete/…?force=true; "
            f"reconciler forget leaves it there. It is deleted by itself once it is empty"
        )
    if queue.consumers:
        return f"{queue.consumers} consumers that are not ours use it (stop them; it is tried again by itself)"
    return None
