"""Taking ownership of what was there before it was in the file: what the ledger is to remember for it. Pure.

Only what the file lists and the broker has can be adopted: so that nobody ever owns, and some day deletes, what no file
has named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from reconciler.errors import NotListed, Refused
from state.desired import Binding, Desired
from state.ledger import Holdings, Owned, shape_of
from state.observed import Kind, ObservedBinding, ObservedBroker, ObservedQueue

Adoptable = Literal["queue", "exchange", "policy"]
REMOVAL = {
    "keep": "out of the file it stays (on_remove: keep)",
    "delete-if-empty": "out of the file it is deleted once it is empty and unused",
    "delete": "out of the file it is deleted with its messages (on_remove: delete)",
    "delete-if-unused": "out of the file it is deleted once nothing is bound to it",
}


@dataclass(frozen=True)
class Adoption:
    """What becomes ours by it, and what to tell of it."""

    new: Holdings
    message: str


def adoption(kind: Adoptable, name: str, desired: Desired, broker: ObservedBroker, held: Holdings) -> Adoption:
    """Raises NotListed for what is not in the file, Refused for what is not at the broker."""
    match kind:
        case "queue":
            return of_queue(name, desired, broker, held)
        case "exchange":
            return of_exchange(name, desired, broker, held)
        case "policy":
            return of_policy(name, desired, broker, held)


def of_queue(name: str, desired: Desired, broker: ObservedBroker, held: Holdings) -> Adoption:
    queue = desired.all_queues().get(name)
    if queue is None:
        raise NotListed(f"queue {name} is not in the file, so it is left alone (list it, as reconciler import does)")
    check_there("queue", name, name in broker.queues)
    bindings = listed_and_there(name, "queue", queue.bindings, broker)
    owned = replace(Owned.as_wanted(queue), shape=shape(broker.queues[name]))  # as it is there, not as it should be
    return adopted("queue", name, Holdings({name: owned}, bindings=bindings), held, queue.on_remove)


def of_exchange(name: str, desired: Desired, broker: ObservedBroker, held: Holdings) -> Adoption:
    exchange = desired.exchanges.get(name)
    if exchange is None:
        raise NotListed(f"exchange {name} is not in the file, so it is left alone (list it under exchanges)")
    check_there("exchange", name, name in seen(broker.exchanges))
    bindings = listed_and_there(name, "exchange", exchange.bindings, broker)
    new = Holdings(exchanges={name: Owned(exchange.on_remove)}, bindings=bindings)
    return adopted("exchange", name, new, held, exchange.on_remove)


def of_policy(name: str, desired: Desired, broker: ObservedBroker, held: Holdings) -> Adoption:
    if name not in desired.policies:
        raise NotListed(f"policy {name} is not in the file, so it is left alone (list it under policies)")
    check_there("policy", name, name in seen(broker.policies))
    return adopted("policy", name, Holdings(policies={name}), held, None)


def shape(queue: ObservedQueue) -> str | None:
    if queue.type is None or queue.durable is None or queue.arguments is None:
        return None
    return shape_of(queue.type, queue.durable, queue.arguments)


def seen(things: Iterable[str] | None) -> Iterable[str]:
    if things is None:
        raise Refused("without the management API exchanges and policies cannot be seen (set MANAGEMENT_URL)")
    return things


def check_there(kind: str, name: str, is_there: bool) -> None:
    if not is_there:
        raise Refused(f"{kind} {name} is not at the broker (what the file lists is made, and is then ours anyway)")


def listed_and_there(name: str, kind: Kind, listed: Iterable[Binding], broker: ObservedBroker) -> set[str]:
    """The bindings of the file that are there: they go with what they end at."""
    wanted = {ObservedBinding(b.exchange, name, kind, b.routing_key, b.arguments).key for b in listed}
    return wanted & {binding.key for binding in broker.bindings or ()}


def adopted(kind: str, name: str, new: Holdings, held: Holdings, on_remove: str | None) -> Adoption:
    if new in held:
        return Adoption(Holdings(), f"{kind} {name} is ours already")
    bindings = len(new.bindings - held.bindings)
    beside = f" with {bindings} binding{'' if bindings == 1 else 's'}" if bindings else ""
    then = REMOVAL[on_remove] if on_remove else "out of the file it is deleted"
    return Adoption(new, f"{kind} {name} is ours now{beside}: {then}")


def all_adoptable(desired: Desired, broker: ObservedBroker, held: Holdings) -> list[tuple[Adoptable, str]]:
    """All that the file lists, the broker has, and is not ours."""
    listed: list[tuple[Adoptable, Iterable[str], Iterable[str] | None, Iterable[str]]] = [
        ("exchange", desired.exchanges, broker.exchanges, held.exchanges),
        ("queue", desired.all_queues(), broker.queues, held.queues),
        ("policy", desired.policies, broker.policies, held.policies),
    ]
    return [
        (kind, name)
        for kind, names, there, ours in listed
        for name in names
        if name in set(there or ()) and name not in set(ours)
    ]
