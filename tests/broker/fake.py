"""A broker without RabbitMQ: the same public face and the same refusals, with its queues in memory.

`take`, `give_back`, `consume` and the attributes stand for what other clients, and misfortune, do to a real one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pika

from reconciler.broker.agreed import Agreed
from reconciler.errors import Blocked, BrokerUnreachable, NoSuchExchange, NoSuchQueue, Refused, StillInUse, Temporary
from reconciler.plan import why_in_use
from state.desired import Exchange, PolicyRule, Queue
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedPolicy, ObservedQueue
from state.topology import EXCHANGE_TYPES


@dataclass
class _Queue:
    type: str
    durable: bool
    arguments: dict[str, Any]
    ready: list[bytes] = field(default_factory=list)
    in_flight: list[bytes] = field(default_factory=list)
    consumers: int = 0


class FakeBroker:
    """`tick` is how many seconds the counts of replicated queues may be late."""

    def __init__(self, vhost: str = "/", tick: float = 0.2) -> None:
        self.vhost = vhost
        self.reachable = True
        self.management = True
        self.alarm: str | None = None
        self.management_error: str | None = None
        self.calls: list[str] = []  # what changed something, or tried to
        self._tick = tick
        self.exchanges: dict[str, ObservedExchange] = {}  # beside RabbitMQ's own
        self.bindings: set[ObservedBinding] = set()
        self.policies: dict[str, ObservedPolicy] = {}
        self._queues: dict[str, _Queue] = {}
        self._verified: dict[str, Queue] = {}
        self._agreed = Agreed()
        self._quiet_since: dict[str, float] = {}

    # the public face

    @property
    def connected(self) -> bool:
        return self.reachable

    async def observe(self, names: Iterable[str], exchanges: Iterable[str] = ()) -> ObservedBroker:
        self._look()
        if self.management:
            queues = {name: self._seen(name, consumers=None) for name in self._queues}
        else:
            queues = {name: self._seen_over_amqp(name) for name in names if name in self._queues}
        seen = ObservedBroker(f"fake {self.vhost}", "0.0.0", self.management, queues)
        if not self.management:
            there = (name for name in exchanges if name in self.exchanges)
            return replace(seen, **self._agreed.seen(seen.queues, there))
        bindings, policies = frozenset(self.bindings), dict(self.policies)
        return replace(seen, exchanges=dict(self.exchanges), bindings=bindings, policies=policies)

    async def declare(self, name: str, queue: Queue) -> None:
        self._change(f"declare {name}")
        if name.startswith("amq."):
            raise Refused(f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'")
        wanted = _Queue(queue.type, queue.durable, queue.broker_arguments())
        known = self._queues.setdefault(name, wanted)
        for key in ("type", "durable", "arguments"):
            if getattr(known, key) != getattr(wanted, key):
                raise Refused(f"PRECONDITION_FAILED - inequivalent arg '{key}' for queue '{name}'")
        self._verified[name] = queue
        self._quiet_since.pop(name, None)

    async def delete(self, name: str, *, force: bool) -> None:
        self._change(f"delete {name}")
        if not force and name in self._queues:
            self._assure_unused(name)
        self.drop(name)
        self._verified.pop(name, None)
        self._quiet_since.pop(name, None)

    async def declare_exchange(self, name: str, exchange: Exchange) -> None:
        self._change(f"declare exchange {name}")
        if name.startswith("amq."):
            raise Refused(f"ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'")
        if exchange.type not in EXCHANGE_TYPES:
            raise Refused(f"COMMAND_INVALID - unknown exchange type '{exchange.type}'")
        wanted = ObservedExchange(
            name, exchange.type, exchange.durable, exchange.auto_delete, exchange.internal, dict(exchange.arguments)
        )
        if self.exchanges.setdefault(name, wanted) != wanted:
            raise Refused(f"PRECONDITION_FAILED - inequivalent arg for exchange '{name}'")
        self._agreed.exchanges[name] = exchange

    async def delete_exchange(self, name: str) -> None:
        self._change(f"delete exchange {name}")
        if any(binding.source == name for binding in self.bindings):
            raise StillInUse(f"PRECONDITION_FAILED - exchange '{name}' in use")
        self.drop_exchange(name)

    async def bind(self, binding: ObservedBinding) -> None:
        self._change(f"bind {binding}")
        if not (binding.source.startswith("amq.") or binding.source in self.exchanges):
            raise NoSuchExchange(f"NOT_FOUND - no exchange '{binding.source}'")
        known = self._queues if binding.destination_type == "queue" else self.exchanges
        if binding.destination not in known:
            raise NoSuchExchange(f"NOT_FOUND - no {binding.destination_type} '{binding.destination}'")
        self.bindings.add(binding)
        self._agreed.bindings.add(binding)

    async def unbind(self, binding: ObservedBinding) -> None:
        self._change(f"unbind {binding}")
        self.bindings.discard(binding)
        self._agreed.bindings.discard(binding)

    async def set_policy(self, name: str, rule: PolicyRule) -> None:
        self._change(f"set policy {name}")
        self._need_management()
        self.policies[name] = ObservedPolicy(name, rule.pattern, rule.apply_to, rule.priority, dict(rule.definition))

    async def delete_policy(self, name: str) -> None:
        self._change(f"delete policy {name}")
        self._need_management()
        self.policies.pop(name, None)

    def _need_management(self) -> None:
        if not self.management:
            raise Temporary("policies need the management API, which is switched off (set MANAGEMENT_URL)")

    async def count(self, name: str) -> ObservedQueue | None:
        self._look()
        if name not in self._queues:
            return None
        return self._seen(name) if self.management else self._seen_over_amqp(name)

    async def purge(self, name: str) -> int:
        self._change(f"purge {name}")
        if name not in self._queues:
            raise NoSuchQueue(f"NOT_FOUND - no queue '{name}'")
        if self._queues[name].type == "stream":
            raise Refused("RabbitMQ does not purge streams")
        removed, self._queues[name].ready = len(self._queues[name].ready), []
        return removed

    async def publish(self, queue: str, body: bytes, properties: pika.BasicProperties) -> None:
        self._change(f"publish {queue}")
        if self.alarm:
            raise Blocked(f"the broker takes no messages now ({self.alarm})")
        if queue not in self._queues:
            raise NoSuchQueue
        known = self._queues[queue]
        limit = known.arguments.get("x-max-length")
        if limit is not None and len(known.ready) >= limit:
            if known.arguments.get("x-overflow") == "reject-publish":
                raise Refused("the queue did not take the message (it is full: x-overflow is reject-publish)")
            known.ready.pop(0)
        known.ready.append(body)

    async def close(self) -> None:
        pass

    # what others do

    def make(self, name: str, queue: Queue) -> None:
        """Somebody else declares a queue."""
        self._queues[name] = _Queue(queue.type, queue.durable, queue.broker_arguments())

    def drop(self, name: str) -> None:
        """Somebody else deletes a queue; its bindings go with it."""
        self._queues.pop(name, None)
        gone = {b for b in self.bindings if (b.destination_type, b.destination) == ("queue", name)}
        self.bindings -= gone

    def drop_exchange(self, name: str) -> None:
        """Somebody else deletes an exchange, with everything that is bound to it or that it is bound to."""
        self.exchanges.pop(name, None)
        self.bindings = {
            b for b in self.bindings if b.source != name and (b.destination_type, b.destination) != ("exchange", name)
        }

    def put(self, name: str, *bodies: bytes) -> None:
        self._queues[name].ready += bodies

    def take(self, name: str, count: int) -> None:
        """A client takes messages and does not settle them yet."""
        queue = self._queues[name]
        queue.in_flight += queue.ready[:count]
        del queue.ready[:count]

    def ack(self, name: str) -> None:
        self._queues[name].in_flight.clear()

    def consume(self, name: str) -> None:
        self._queues[name].consumers += 1

    def bodies(self, name: str) -> list[bytes]:
        return [*self._queues[name].in_flight, *self._queues[name].ready]

    @property
    def names(self) -> set[str]:
        return set(self._queues)

    def _look(self) -> None:
        if not self.reachable:
            raise BrokerUnreachable
        self.management_error = None if self.management else "the management API is switched off"

    def _change(self, call: str) -> None:
        self.calls.append(call)
        self._look()

    def _seen(self, name: str, consumers: int | None = -1) -> ObservedQueue:
        queue = self._queues[name]
        return ObservedQueue(
            name,
            queue.type,
            queue.durable,
            arguments=dict(queue.arguments),
            ready=len(queue.ready),
            unacknowledged=len(queue.in_flight),
            consumers=queue.consumers if consumers == -1 else consumers,
        )

    def _seen_over_amqp(self, name: str) -> ObservedQueue:
        queue, known = self._queues[name], self._verified.get(name)
        return ObservedQueue(
            name,
            known.type if known else None,
            known.durable if known else None,
            arguments=known.broker_arguments() if known else None,
            ready=len(queue.ready),
            consumers=queue.consumers,
        )

    def _assure_unused(self, name: str) -> None:
        live = self._seen(name)
        if reason := why_in_use(live):
            self._quiet_since.pop(name, None)
            raise StillInUse(reason)
        if not self.management:
            raise StillInUse("without the management API nobody can see whether messages are in flight")
        now = time.monotonic()  # one moment: the first look finds it late, however long a look takes
        since = self._quiet_since.setdefault(name, now)
        if live.type != "classic" and now - since < self._tick:
            raise StillInUse("its counts are late; they must stay zero for a while")
