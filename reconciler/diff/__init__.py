"""Wanted × there → differences. Pure: the second station of the line, after the file and the world were read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from reconciler.diff.bindings import BindingChange, BindingMissing, BindingUnwanted, diff_bindings
from reconciler.diff.exchanges import (
    ExchangeChange,
    ExchangeDiffers,
    ExchangeMissing,
    ExchangeOwnershipDiffers,
    ExchangeUnverified,
    ExchangeUnwanted,
    diff_exchanges,
)
from reconciler.diff.policies import (
    PolicyChange,
    PolicyDiffers,
    PolicyMissing,
    PolicyUnseen,
    PolicyUnwanted,
    WantedPolicy,
    diff_policies,
    wanted_policies,
)
from reconciler.diff.pools import NO_WISHES, PoolDiffers, RestartWish, Wishes, diff_pools, has_terms
from reconciler.diff.queues import (
    Difference,
    OwnershipDiffers,
    Properties,
    QueueChange,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
    compare,
    diff_queues,
    same,
)
from state.desired import Desired
from state.ledger import Holdings
from state.observed import ObservedBinding, ObservedBroker, binding_of
from state.processes import ObservedWorker, Pool, WorkerSpec
from state.topology import OUR_POLICIES

__all__ = ["BindingMissing", "BindingUnwanted", "Change", "Difference", "ExchangeDiffers", "ExchangeMissing"]
__all__ += ["ExchangeOwnershipDiffers", "ExchangeUnverified", "ExchangeUnwanted", "Gone", "OwnershipDiffers"]
__all__ += ["PolicyDiffers", "PolicyMissing", "PolicyUnseen", "PolicyUnwanted", "PoolDiffers", "Properties"]
__all__ += ["QueueDiffers", "QueueMissing", "QueueUnverified", "QueueUnwanted", "RestartWish", "Wanted"]
__all__ += ["WantedPolicy", "Wishes", "compare", "diff", "diff_pools", "diff_topology", "foreign_bindings", "has_terms"]
__all__ += ["same", "wanted_topology"]


@dataclass(frozen=True)
class Gone:
    """Exchanges, bindings and policies that are ours, not in the file, and not at the broker, or there to stay."""

    held: Holdings


Change = QueueChange | ExchangeChange | BindingChange | PolicyChange | Gone | PoolDiffers


@dataclass(frozen=True)
class Wanted:
    """What the file asks for of the broker, beside queues and exchanges, which it lists as they are."""

    bindings: frozenset[ObservedBinding] = frozenset()
    policies: Mapping[str, WantedPolicy] = field(default_factory=dict)


def wanted_topology(desired: Desired, seen: ObservedBroker, ours: Holdings) -> Wanted:
    going = ours.policies - desired.policies.keys()
    return Wanted(desired.all_bindings(), wanted_policies(desired, seen.queues, seen.policies, going))


def diff(
    desired: Desired,
    seen: ObservedBroker | None,
    ours: Holdings,
    specs: Mapping[Pool, WorkerSpec],
    workers: Iterable[ObservedWorker],
    wishes: Wishes = NO_WISHES,
    wanted: Wanted | None = None,
) -> list[Change]:
    """All differences, the broker's first. `seen` is None while it cannot be seen: then only pools are compared.

    `wanted`: what `wanted_topology` says of the same, for those who know it already.
    """
    changes = list(diff_topology(desired, seen, ours, wanted)) if seen is not None else []
    return changes + list(diff_pools(desired, specs, workers, wishes))


def diff_topology(
    desired: Desired, seen: ObservedBroker, ours: Holdings, wanted: Wanted | None = None
) -> Iterator[Change]:
    wanted = wanted or wanted_topology(desired, seen, ours)
    going = leaving(desired, ours)
    staying = {OUR_POLICIES + name for kind, name in going if kind == "queue" and name in seen.queues}
    yield from diff_policies(wanted.policies, seen.policies, ours.policies - staying)
    unbound: list[ObservedBinding] = []
    if seen.bindings is not None:
        changes = list(diff_bindings(wanted.bindings, seen.bindings, ours.bindings, going, seen.management))
        unbound += (change.binding for change in changes if isinstance(change, BindingUnwanted))
        yield from changes
    if seen.exchanges is not None:
        left = (seen.bindings or frozenset()).difference(unbound)
        yield from diff_exchanges(desired.exchanges, seen.exchanges, ours.exchanges, left)
    yield from diff_queues(desired.all_queues(), seen.queues, ours.queues)
    if gone := gone_or_kept(desired, wanted, seen, ours):
        yield Gone(gone)


def foreign_bindings(wanted: Set[ObservedBinding], seen: ObservedBroker, ours: Holdings) -> frozenset[ObservedBinding]:
    """Those at the broker that are neither in the file nor ours."""
    return frozenset(b for b in (seen.bindings or frozenset()) - wanted if b.key not in ours.bindings)


def leaving(desired: Desired, ours: Holdings) -> set[tuple[str, str]]:
    """The queues and exchanges that are ours and not in the file any more."""
    queues = {("queue", name) for name in ours.queues.keys() - desired.all_queues().keys()}
    return queues | {("exchange", name) for name in ours.exchanges.keys() - desired.exchanges.keys()}


def gone_or_kept(desired: Desired, wanted: Wanted, seen: ObservedBroker, ours: Holdings) -> Holdings:
    """What need not be remembered as ours: it is not in the file, and gone from the broker or said to be kept."""
    gone = Holdings()
    kept = {("queue", name) for name, owned in ours.queues.items() if owned.on_remove == "keep"}
    kept |= {("exchange", name) for name, owned in ours.exchanges.items() if owned.on_remove == "keep"}
    kept &= leaving(desired, ours)
    if seen.exchanges is not None:
        unwanted = ours.exchanges.keys() - desired.exchanges.keys()
        gone.exchanges = {n: ours.exchanges[n] for n in unwanted if n not in seen.exchanges or ("exchange", n) in kept}
    if seen.bindings is not None and seen.management:
        unlisted = ours.bindings - {binding.key for binding in wanted.bindings}
        there = {binding.key for binding in seen.bindings} if unlisted else set()
        for key in unlisted:
            binding = binding_of(key)
            if key not in there or (binding.destination_type, binding.destination) in kept:
                gone.bindings.add(key)
    if seen.policies is not None:
        gone.policies = ours.policies - wanted.policies.keys() - seen.policies.keys()
        gone.policies |= ours.policies & {OUR_POLICIES + name for kind, name in kept if kind == "queue"}
    return gone
