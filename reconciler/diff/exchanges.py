"""Exchanges: wanted × there → differences. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.diff.queues import Difference, same
from state.desired import Exchange
from state.ledger import Owned
from state.observed import ObservedBinding, ObservedExchange

PROPERTIES = ("type", "durable", "auto_delete", "internal")


@dataclass(frozen=True)
class ExchangeMissing:
    name: str
    exchange: Exchange


@dataclass(frozen=True)
class ExchangeUnverified:
    """It is there, but AMQP alone does not show with which properties."""

    name: str
    exchange: Exchange


@dataclass(frozen=True)
class ExchangeDiffers:
    name: str
    exchange: Exchange
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class ExchangeUnwanted:
    """Ours, and no longer in the file. `left` are the bindings from it that stay."""

    name: str
    owned: Owned
    left: tuple[ObservedBinding, ...] = ()


@dataclass(frozen=True)
class ExchangeOwnershipDiffers:
    """What the ledger remembers of an exchange of ours is older than the file."""

    name: str
    owned: Owned


ExchangeChange = ExchangeMissing | ExchangeUnverified | ExchangeDiffers | ExchangeUnwanted | ExchangeOwnershipDiffers


def diff_exchanges(
    desired: Mapping[str, Exchange],
    observed: Mapping[str, ObservedExchange],
    owned: Mapping[str, Owned],
    left: Iterable[ObservedBinding],
) -> Iterator[ExchangeChange]:
    """`left` are the bindings at the broker that are not about to go."""
    for name, exchange in desired.items():
        yield from diff_exchange(name, exchange, observed.get(name))
        if name in owned and owned[name].on_remove != exchange.on_remove:
            yield ExchangeOwnershipDiffers(name, Owned(exchange.on_remove))
    unwanted = {n for n in owned.keys() - desired.keys() if n in observed and owned[n].on_remove != "keep"}
    of: dict[str, list[ObservedBinding]] = {}
    for binding in left if unwanted else ():
        of.setdefault(binding.source, []).append(binding)
    for name in sorted(unwanted):
        yield ExchangeUnwanted(name, owned[name], tuple(sorted(of.get(name, ()), key=str)))


def diff_exchange(name: str, exchange: Exchange, seen: ObservedExchange | None) -> Iterator[ExchangeChange]:
    if seen is None:
        yield ExchangeMissing(name, exchange)
    elif seen.type is None:
        yield ExchangeUnverified(name, exchange)
    elif differences := tuple(compare_exchanges(exchange, seen)):
        yield ExchangeDiffers(name, exchange, differences)


def compare_exchanges(wanted: Exchange, have: ObservedExchange) -> Iterator[Difference]:
    for key in PROPERTIES:
        if getattr(wanted, key) != getattr(have, key):
            yield Difference(key, getattr(wanted, key), getattr(have, key))
    for key in sorted(wanted.arguments.keys() | have.arguments.keys()):
        if not same(wanted.arguments.get(key), have.arguments.get(key)):
            yield Difference(key, wanted.arguments.get(key), have.arguments.get(key))
