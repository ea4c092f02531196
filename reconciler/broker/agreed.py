"""Over AMQP alone: the exchanges and bindings that the broker has agreed to, since nobody can look at them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from state.desired import Exchange
from state.observed import ObservedBinding, ObservedExchange


@dataclass
class Agreed:
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    bindings: set[ObservedBinding] = field(default_factory=set)

    def seen(self, queues: Collection[str], exchanges: Iterable[str]) -> dict[str, Any]:
        """What is known of the exchanges and bindings of a broker that has these queues and exchanges.

        What has lost one of its ends is gone, as far as those were looked for.
        """
        there = set(exchanges)
        self.exchanges = {name: known for name, known in self.exchanges.items() if name in there}
        self.bindings = {b for b in self.bindings if self._stands(b, queues, there)}
        return {"exchanges": {name: self._exchange(name) for name in there}, "bindings": frozenset(self.bindings)}

    def _stands(self, binding: ObservedBinding, queues: Collection[str], exchanges: Collection[str]) -> bool:
        ends = queues if binding.destination_type == "queue" else exchanges
        return binding.destination in ends and (binding.source.startswith("amq.") or binding.source in exchanges)

    def _exchange(self, name: str) -> ObservedExchange:
        known = self.exchanges.get(name)
        if known is None:
            return ObservedExchange(name, None)
        terms = known.model_dump(include={"durable", "auto_delete", "internal", "arguments"})
        return ObservedExchange(name, known.type, **terms)
