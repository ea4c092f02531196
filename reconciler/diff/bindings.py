"""Bindings: wanted × there → differences. Pure.

A binding has nothing but its identity: it is there or it is not. One that is neither in the file nor ours is somebody
else's; taking it away could lose what is routed by it, so it is only shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass

from state.observed import ObservedBinding


@dataclass(frozen=True)
class BindingMissing:
    """`sure` is False where it may be there, only that AMQP alone does not show it."""

    binding: ObservedBinding
    sure: bool = True


@dataclass(frozen=True)
class BindingUnwanted:
    """Ours, at the broker, and no longer in the file, though its destination is."""

    binding: ObservedBinding


BindingChange = BindingMissing | BindingUnwanted


def diff_bindings(
    desired: Set[ObservedBinding],
    observed: Set[ObservedBinding],
    owned: Collection[str],
    leaving: Set[tuple[str, str]],
    all_seen: bool = True,
) -> Iterator[BindingChange]:
    """`leaving` are the kinds and names of what is ours and left the file: its bindings stay as long as it does, so
    that what is routed to it still arrives, and go with it. `all_seen`: is what was not observed not there?"""
    for binding in sorted(desired - observed, key=str):
        yield BindingMissing(binding, all_seen)
    for binding in sorted(observed - desired, key=str):
        if binding.key in owned and (binding.destination_type, binding.destination) not in leaving:
            yield BindingUnwanted(binding)
