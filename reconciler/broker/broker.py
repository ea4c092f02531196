"""The broker as the loop sees it: observe, declare, delete, purge, publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pika

from reconciler.backoff import backoff
from reconciler.broker.agreed import Agreed
from reconciler.broker.amqp import Link, parameters
from reconciler.broker.counts import Counts
from reconciler.broker.management import Management, ManagementUnavailable
from reconciler.broker.mover import Mover
from reconciler.broker.publisher import Publisher
from reconciler.broker.views import bindings_of, connection_of, exchanges_of, policies_of, queue_of, queues_of
from reconciler.broker.workbench import Workbench
from reconciler.errors import NoSuchExchange, NoSuchQueue, Refused, StillInUse, Temporary
from reconciler.plan import why_in_use
from state.desired import Exchange, PolicyRule, Queue
from state.observed import OURS, ObservedBinding, ObservedBroker, ObservedConnection, ObservedQueue, release_of

# Counts of quorum queues and streams follow a tick of five seconds: zeros are believed when they outlast it.
TICK_SECONDS = 6.0
FEW_QUEUES = 100  # so many are asked for one by one
# A management API behind a firewall costs seconds a question: it is not asked again at once.
MANAGEMENT_RETRY_SECONDS, MANAGEMENT_RETRY_CAP = 5.0, 60.0


class Broker:
    """RabbitMQ behind `amqp_url`, with its management API where that answers.

    Every method raises BrokerUnreachable if there is no connection within a few seconds.
    """

    def __init__(
        self,
        amqp_url: str,
        management_url: str | None,
        on_lost: Callable[[], None] = lambda: None,
        counts_many: bool = True,
    ) -> None:
        """`counts_many`: whether to count the messages of a large virtual host at all, beside the turns."""
        known = parameters(amqp_url, "")
        credentials: Any = known.credentials
        self.vhost = known.virtual_host
        self._amqp_url = amqp_url
        self._admin = Link(amqp_url, "topology", on_lost)
        self._publisher = Publisher(amqp_url)
        url = management_url or derived_management_url(amqp_url)
        self._management = Management(url, credentials.username, credentials.password, self.vhost)
        self._counts = Counts(self._management.queues)
        self._counts_many = counts_many
        self.management_error: str | None = None  # why the management API is not used, None if it is
        self._management_due = 0.0  # when it is asked again after it failed
        self._management_failures = 0
        self._verified: dict[str, Queue] = {}  # over AMQP alone: what the broker has agreed to, by name
        self._agreed = Agreed()
        self._quiet_since: dict[str, float] = {}
        self._cluster: tuple[Any, str | None] = (None, None)  # the connection, and what was found over it

    @property
    def connected(self) -> bool:
        return self._admin.is_open

    async def observe(self, names: Iterable[str], exchanges: Iterable[str] = ()) -> ObservedBroker:
        """All of the virtual host; over AMQP alone, the queues of `names`, these `exchanges`, and the bindings that
        were made by this object."""
        connection = await self._admin.connection()
        properties: Mapping[str, Any] = connection.server_properties or {}
        seen = ObservedBroker(
            identity=f"{properties.get('cluster_name', self._admin.parameters.host)} {self.vhost}",
            version=str(properties.get("version", "unknown")),
            management=False,
        )
        names = set(names)
        if time.monotonic() >= self._management_due:
            try:
                seen = await self._see_all(seen, len(names))
                self.management_error, self._management_failures = None, 0
                return seen
            except ManagementUnavailable as error:
                self.management_error = str(error)
                self._management_failures += 1
                wait = backoff(self._management_failures, base=MANAGEMENT_RETRY_SECONDS, cap=MANAGEMENT_RETRY_CAP)
                self._management_due = time.monotonic() + wait
        found = await asyncio.gather(*(self._see_one(name) for name in names))
        there = await asyncio.gather(*(self._has_exchange(name) for name in set(exchanges)))
        queues = {queue.name: queue for queue in found if queue is not None}
        return replace(seen, queues=queues, **self._agreed.seen(queues, filter(None, there)))

    async def _has_exchange(self, name: str) -> str | None:
        """The name, if there is such an exchange."""
        try:
            await self._admin.call("exchange_declare", exchange=name, passive=True)
        except NoSuchExchange:
            return None
        return name

    async def _see_all(self, seen: ObservedBroker, expected: int) -> ObservedBroker:
        found = await self._management.everything(expected)
        is_counted = found.counted or not self._counts_many
        queues = found.queues if is_counted else await self._counts.added_to(found.queues)
        return replace(
            seen,
            management=True,
            queues=queues_of(queues),
            exchanges=exchanges_of(found.exchanges),
            bindings=bindings_of(found.bindings),
            policies=None if found.policies is None else policies_of(found.policies),
            cluster=await self._cluster_id(),
        )

    async def _cluster_id(self) -> str | None:
        """Asked once for each connection: behind an address that stays the same there may be another cluster."""
        connection = await self._admin.connection()
        if self._cluster[0] is not connection:
            try:
                found = await self._management.ask("GET", "/api/global-parameters/internal_cluster_id")
            except Refused:  # it takes the tag policymaker
                found = None
            self._cluster = connection, str(found["value"]) if found and "value" in found else None
        return self._cluster[1]

    async def _see_one(self, name: str) -> ObservedQueue | None:
        try:
            answer = (await self._admin.call("queue_declare", queue=name, passive=True)).method
        except NoSuchQueue:
            self._verified.pop(name, None)
            return None
        except Refused:
            return ObservedQueue(name, consumers=None)  # another connection's own: there, and not to be looked into
        queue = self._verified.get(name)
        seen = ObservedQueue(name, ready=answer.message_count, consumers=answer.consumer_count)
        if queue is None:
            return seen
        return ObservedQueue(
            name,
            queue.type,
            queue.durable,
            arguments=queue.broker_arguments(),
            ready=seen.ready,
            consumers=seen.consumers,
        )

    async def ready(self, name: str) -> int | None:
        """Its ready messages, live; None if it is not there, or not to be looked into."""
        seen = await self._see_one(name)
        return seen.ready if seen is not None and seen.consumers is not None else None

    async def recounted(self, observed: ObservedBroker, names: Collection[str]) -> ObservedBroker:
        """`observed` with the messages of these queues as they are now; of very many, only the ready ones."""
        there = [name for name in names if name in observed.queues]
        look = self.count if len(there) <= FEW_QUEUES else self._see_one
        fresh: dict[str, ObservedQueue] = {}
        for live in await asyncio.gather(*map(look, there)):
            if live is not None and live.consumers is not None:  # else another connection's own, and not looked into
                known = observed.queues[live.name]
                flight = known.unacknowledged if live.unacknowledged is None else live.unacknowledged
                fresh[live.name] = replace(known, ready=live.ready, unacknowledged=flight)
        return replace(observed, queues={**observed.queues, **fresh})

    async def declare(self, name: str, queue: Queue) -> None:
        """Makes the queue, or has the broker compare it with the one of that name: then Refused says what differs."""
        arguments = queue.broker_arguments() | await self._type_argument(queue.type)
        await self._admin.call("queue_declare", queue=name, durable=queue.durable, arguments=arguments)
        self._verified[name] = queue
        self._quiet_since.pop(name, None)

    async def _type_argument(self, kind: str) -> dict[str, str]:
        """Nothing for a classic queue, where that is what a queue without it is. A virtual host may have another
        default since RabbitMQ 3.11, and 4 writes down what it took."""
        properties: Mapping[str, Any] = (await self._admin.connection()).server_properties or {}
        release = release_of(str(properties.get("version", "")))
        has_defaults = release is None or release >= (3, 11, 0)
        return {"x-queue-type": kind} if kind != "classic" or has_defaults else {}

    async def delete(self, name: str, *, force: bool) -> None:
        """Deletes the queue. Without `force` only if nothing is in it and nobody uses it: else StillInUse."""
        if force:
            await self._admin.call("queue_delete", queue=name)
        elif (kind := await self._assure_unused(name)) == "classic":
            # The broker checks once more, at the very moment of deleting, what it can: ready messages, consumers.
            await self._delete_if_unused(name)
        elif kind is not None:
            await self._admin.call("queue_delete", queue=name)
        self._verified.pop(name, None)
        self._quiet_since.pop(name, None)

    async def declare_exchange(self, name: str, exchange: Exchange) -> None:
        """Makes the exchange, or has the broker compare it with what is there: then Refused says what differs."""
        await self._admin.call(
            "exchange_declare",
            exchange=name,
            exchange_type=exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=dict(exchange.arguments),
        )
        self._agreed.exchanges[name] = exchange

    async def delete_exchange(self, name: str) -> None:
        """Deletes the exchange. StillInUse while anything is bound to it as its source."""
        try:
            await self._admin.call("exchange_delete", exchange=name, if_unused=True)
        except Refused as refused:
            if "in use" not in str(refused):
                raise
            raise StillInUse(f"queues or exchanges are still bound to exchange {name} (unbind them first)") from None
        self._agreed.exchanges.pop(name, None)

    async def bind(self, binding: ObservedBinding) -> None:
        """Makes the binding. NoSuchExchange, with the name of what is missing, if it has no exchange or destination."""
        try:
            await self._bind("bind", binding)
        except (NoSuchExchange, NoSuchQueue) as missing:  # which may be somebody else's, and come later
            raise NoSuchExchange(f"{binding} cannot be bound: {missing} (list it in queues.yaml)") from None
        self._agreed.bindings.add(binding)

    async def unbind(self, binding: ObservedBinding) -> None:
        try:
            await self._bind("unbind", binding)
        except (NoSuchExchange, NoSuchQueue):
            pass  # gone with one of its ends
        self._agreed.bindings.discard(binding)

    async def _bind(self, verb: str, binding: ObservedBinding) -> None:
        known = {"routing_key": binding.routing_key, "arguments": dict(binding.arguments)}
        source, destination = binding.source, binding.destination
        if binding.destination_type == "queue":
            await self._admin.call(f"queue_{verb}", queue=destination, exchange=source, **known)
        else:
            await self._admin.call(f"exchange_{verb}", destination=destination, source=source, **known)

    async def set_policy(self, name: str, rule: PolicyRule) -> None:
        """Makes the policy, or replaces the one of that name. Raises Temporary where there is no management API."""
        policy = {
            "pattern": rule.pattern,
            "apply-to": rule.apply_to,
            "priority": rule.priority,
            "definition": rule.definition,
        }
        await self._use_management(self._management.set_policy(name, policy))

    async def delete_policy(self, name: str) -> None:
        await self._use_management(self._management.delete_policy(name))

    async def _use_management(self, using: Awaitable[None]) -> None:
        try:
            await using
        except ManagementUnavailable as error:
            raise Temporary(f"policies need the management API: {error} (set MANAGEMENT_URL)") from None

    async def _delete_if_unused(self, name: str) -> None:
        try:
            await self._admin.call("queue_delete", queue=name, if_unused=True, if_empty=True)
        except Refused as refused:
            raise StillInUse(f"not deleted: {refused}") from None

    async def _assure_unused(self, name: str) -> str | None:
        """The type of a queue that can go; None if it is gone. `if-empty` alone does not see messages in flight."""
        live = await self.count(name)
        if live is None:
            return None
        if reason := why_in_use(live):
            self._quiet_since.pop(name, None)
            raise StillInUse(reason)
        if live.unacknowledged is None or live.consumers is None:
            raise StillInUse(
                f"without the management API nobody can see whether messages are in flight ({self.management_error}); "
                f"set MANAGEMENT_URL, or delete it with force"
            )
        if live.type != "classic":
            self._assure_quiet(name)
        return live.type

    async def count(self, name: str) -> ObservedQueue | None:
        """One queue with the latest counts there are: of ready messages and consumers over AMQP, the rest over HTTP."""
        live = await self._see_one(name)
        if live is None:
            return None
        try:
            counted = await self._management.queue(name)
        except ManagementUnavailable as error:
            self.management_error = str(error)
            return live
        return replace(queue_of(counted), ready=live.ready, consumers=live.consumers) if counted else live

    def _assure_quiet(self, name: str) -> None:
        since = self._quiet_since.setdefault(name, time.monotonic())
        if time.monotonic() - since < TICK_SECONDS:
            raise StillInUse(f"its counts are {TICK_SECONDS:.0f} s late at most; they must stay zero that long")

    async def purge(self, name: str) -> int:
        """Drops the ready messages and returns how many there were. Raises NoSuchQueue, Refused (streams)."""
        live = await self.count(name)
        if live is not None and live.type == "stream":  # RabbitMQ would close the connection over it
            raise Refused("RabbitMQ does not purge streams (delete it with force)")
        return int((await self._admin.call("queue_purge", queue=name)).method.message_count)

    async def publish(self, queue: str, body: bytes, properties: pika.BasicProperties) -> None:
        """See `Publisher.publish`."""
        await self._publisher.publish(queue, body, properties)

    async def foreign_connections(self) -> list[ObservedConnection]:
        """The connections to the virtual host that are neither ours nor our workers', as far as they can be seen."""
        try:
            found = map(connection_of, await self._management.connections())
        except ManagementUnavailable:
            return []
        return [one for one in found if not (one.name or "").startswith(OURS)]

    def workbench(self) -> Workbench:
        """For migrations: what only they do. It is closed on its own."""
        return Workbench(self.count, self._management, self.vhost, self._amqp_url)

    def mover(self) -> Mover:
        return Mover(self._amqp_url)

    async def close(self) -> None:
        await self._counts.close()
        await asyncio.gather(self._admin.close(), self._publisher.close(), self._management.close())


def derived_management_url(amqp_url: str) -> str:
    host = urlsplit(amqp_url).hostname or "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:15672"
