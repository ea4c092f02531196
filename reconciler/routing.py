"""Exchanges, bindings and policies: their differences → actions and what is held. Pure; a part of `reconciler.plan`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from reconciler.actions import (
    Action,
    Bind,
    ClaimExchange,
    DeclareExchange,
    DeleteExchange,
    DeletePolicy,
    Drop,
    Held,
    SetPolicy,
    Unbind,
)
from reconciler.diff import (
    BindingMissing,
    BindingUnwanted,
    Change,
    ExchangeDiffers,
    ExchangeMissing,
    ExchangeOwnershipDiffers,
    ExchangeUnverified,
    ExchangeUnwanted,
    Gone,
    PolicyDiffers,
    PolicyMissing,
    PolicyUnseen,
    PolicyUnwanted,
    QueueMissing,
    WantedPolicy,
)
from reconciler.removing import MAX_DELETED_SHARE, MAX_DELETES
from state.ledger import Holdings
from state.topology import OUR_POLICIES

Removal = BindingUnwanted | ExchangeUnwanted | PolicyUnwanted
SHOWN = 3  # bindings that a sentence names


def routing_steps(
    change: Change, made: Collection[tuple[str, str]], waiting: str | None, allowed: Collection[str] = ()
) -> Iterator[Action | Held]:
    """`made`: kinds and names of what the plan makes anew; `waiting`: why removals wait for a person, if they do,
    but for those whose names are in `allowed`."""
    match change:
        case ExchangeMissing(name, exchange):
            yield DeclareExchange(name, exchange, claim=True)
        case ExchangeUnverified(name, exchange):
            yield DeclareExchange(name, exchange, claim=False)
        case ExchangeDiffers():
            yield refused_exchange(change)
        case ExchangeOwnershipDiffers(name, owned):
            yield ClaimExchange(name, owned)
        case BindingMissing(binding, sure):
            yield Bind(binding, claim=sure or (binding.destination_type, binding.destination) in made)
        case PolicyMissing(name, wanted):
            yield SetPolicy(name, wanted.rule, True, wanted.queues)
        case PolicyDiffers(name, wanted):
            yield SetPolicy(name, wanted.rule, False, wanted.queues)
        case PolicyUnseen(name, wanted):
            yield unseen_policy(name, wanted)
        case Gone(held):
            yield Drop(held)
        case BindingUnwanted() | ExchangeUnwanted() | PolicyUnwanted():
            asked = held_for_a_person(change, waiting) if waiting else None
            yield asked if asked is not None and asked.name not in allowed else removal(change)


def held_for_a_person(change: Removal, waiting: str) -> Held | None:
    """None for the policy of a queue's own keys: it says no more than the queue's entry, which is still there."""
    match change:
        case BindingUnwanted(binding):
            return Held(binding.destination, f"unbind {binding}: {waiting}", None, True, kind=binding.destination_type)
        case ExchangeUnwanted(name):
            return Held(name, waiting, None, True, kind="exchange")
        case PolicyUnwanted(name):
            return None if name.startswith(OUR_POLICIES) else Held(name, waiting, None, True, kind="policy")


def removal(change: Removal) -> Action | Held:
    match change:
        case BindingUnwanted(binding):
            return Unbind(binding)
        case ExchangeUnwanted(name, left=left):
            return Held(name, why_bound(change), kind="exchange") if left else DeleteExchange(name)
        case PolicyUnwanted(name):
            return DeletePolicy(name)


def why_removals_wait(changes: Sequence[Change], ours: Holdings, queues_wait: bool) -> str | None:
    """What unbinds or deletes much of what is ours at once looks like a file cut short, and so waits for a person.

    A binding whose destination gets another one in the same plan is a change, and no removal.
    """
    rebound = {c.binding.destination for c in changes if isinstance(c, BindingMissing)}
    gone = [c for c in changes if isinstance(c, BindingUnwanted) and c.binding.destination not in rebound]
    exchanges = [c for c in changes if isinstance(c, ExchangeUnwanted)]
    policies = [c for c in changes if isinstance(c, PolicyUnwanted) and not c.name.startswith(OUR_POLICIES)]
    for kind, removed, owned in (
        ("bindings", gone, len(ours.bindings)),
        ("exchanges", exchanges, len(ours.exchanges)),
        ("policies", policies, sum(not name.startswith(OUR_POLICIES) for name in ours.policies)),
    ):
        if len(removed) > MAX_DELETES and len(removed) > MAX_DELETED_SHARE * owned:
            return (
                f"the file takes out {len(removed)} of {owned} managed {kind}; more than {MAX_DELETES} and "
                f"{MAX_DELETED_SHARE:.0%} at once wait for a person (reconciler sync --confirm REVISION)"
            )
    if queues_wait and (gone or exchanges or policies):
        return "the same file takes out many queues, and that waits for a person (reconciler sync --confirm REVISION)"
    return None


def made_anew(changes: Sequence[Change]) -> set[tuple[str, str]]:
    """What was not there, so that nothing can have been bound to it."""
    queues = {("queue", c.name) for c in changes if isinstance(c, QueueMissing)}
    return queues | {("exchange", c.name) for c in changes if isinstance(c, ExchangeMissing)}


def refused_exchange(change: ExchangeDiffers) -> Held:
    differences = "; ".join(map(str, change.differences))
    way_out = "change the file back, or give the new one another name, bind the queues to both, and move the publishers"
    return Held(change.name, f"{differences}. RabbitMQ cannot change an exchange in place ({way_out})", kind="exchange")


def unseen_policy(name: str, wanted: WantedPolicy) -> Held:
    reason = (
        "policies are seen and set over the management API alone, by a user with the tag policymaker "
        "(set MANAGEMENT_URL, or give the user that tag)"
    )
    if len(wanted.queues) == 1:
        (queue,) = wanted.queues
        keys = ", ".join(wanted.rule.definition)
        return Held(queue, f"{keys} cannot be set: {reason}")
    return Held(name, reason, kind="policy", concerns=wanted.queues)


def why_bound(change: ExchangeUnwanted) -> str:
    named = ", ".join(map(str, change.left[:SHOWN])) + (" …" if len(change.left) > SHOWN else "")
    count = len(change.left)
    return (
        f"{count} binding{'s' if count > 1 else ''} from it {'are' if count > 1 else 'is'} left ({named}): unbind "
        f"what is not ours, take the exchange out of the bindings in the file, or write on_remove: keep"
    )
