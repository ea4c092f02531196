"""What a migration does at the broker beside moving messages: things made beside a queue, and the queue replaced."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from reconciler.broker.amqp import Link, translated
from reconciler.broker.management import Management, ManagementUnavailable
from reconciler.broker.mover import settle
from reconciler.errors import NoSuchExchange, NoSuchQueue, Refused, Temporary
from state.observed import ObservedQueue

TRACE = "amq.rabbitmq.trace"  # the exchange of the firehose
DEFAULT_EXCHANGE = "publish."  # … and its routing key for what is published to the default exchange
NO_LIMIT = 2**50  # bytes; a policy must say something
FIRST = 2**31 - 1  # a priority above everybody's


class Workbench:
    """Hands at the broker, over a connection of its own. Methods raise as those of `Broker` do."""

    def __init__(
        self, count: Callable[[str], Awaitable[ObservedQueue | None]], management: Management, vhost: str, amqp_url: str
    ) -> None:
        self._count = count
        self._management = management
        self._vhost = quote(vhost, safe="")
        self._link = Link(amqp_url, "migration")

    async def count(self, name: str) -> ObservedQueue | None:
        """The queue with live counts, None if it is not there."""
        found = await self._count(name)
        if found is not None and found.unacknowledged is None:
            raise Temporary("messages in flight cannot be seen: the management API does not answer")
        return found

    async def ready(self, name: str) -> int:
        """Its ready messages. Raises NoSuchQueue."""
        answer = await self._link.call("queue_declare", queue=name, passive=True)
        return int(answer.method.message_count)

    async def consumers(self, name: str) -> int:
        answer = await self._link.call("queue_declare", queue=name, passive=True)
        return int(answer.method.consumer_count)

    async def declare(self, name: str, kind: str, durable: bool, arguments: Mapping[str, Any]) -> None:
        await self._link.call("queue_declare", queue=name, durable=durable, arguments=typed(kind, arguments))

    async def delete(self, name: str) -> None:
        """Also if there is none, and the user may not: then it was not made, either."""
        try:
            await self._link.call("queue_delete", queue=name)
        except Refused:
            if await self.details(name):
                raise

    async def purge(self, name: str) -> None:
        await self._link.call("queue_purge", queue=name)

    async def replace(
        self, name: str, kind: str, durable: bool, arguments: Mapping[str, Any], if_unused: bool, if_empty: bool
    ) -> None:
        """Deletes the queue and makes the new one with as little between as can be: both are sent at once.

        If the broker refuses to delete, it does not see the rest. Raises Refused then.
        """
        async with self._link.channel() as channel:
            made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            channel.raw.add_on_close_callback(lambda _, reason: settle(made, reason))
            channel.raw.queue_delete(name, if_unused=if_unused, if_empty=if_empty, callback=None)
            channel.raw.queue_declare(
                name,
                durable=durable,
                arguments=typed(kind, arguments),
                callback=lambda answer: settle(made, answer),
            )
            answer = await made
            channel.drop()
        if isinstance(answer, BaseException):
            raise translated(answer)

    async def make_way(self, exchange: str) -> None:
        """A fanout: it asks for no routing key, so that messages keep theirs, and copies to no CC of theirs."""
        await self._link.call("exchange_declare", exchange=exchange, exchange_type="fanout", durable=True)

    async def remove_way(self, exchange: str) -> None:
        """Also if there is none."""
        try:
            await self._link.call("exchange_delete", exchange=exchange)
        except Refused:
            if await self.has_exchange(exchange):
                raise

    async def bind(self, queue: str, exchange: str, key: str = "", arguments: Mapping[str, Any] | None = None) -> None:
        await self._link.call("queue_bind", queue=queue, exchange=exchange, routing_key=key, arguments=arguments or {})

    async def unbind(
        self, queue: str, exchange: str, key: str = "", arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Also if there is no such binding, or no such queue or exchange any more."""
        try:
            await self._link.call(
                "queue_unbind", queue=queue, exchange=exchange, routing_key=key, arguments=arguments or {}
            )
        except (NoSuchQueue, NoSuchExchange):
            pass

    # -- over HTTP -----------------------------------------------------------------------------------------------

    async def routes(self, queue: str) -> list[tuple[str, str, dict[str, Any]]]:
        """The queue's bindings but the one that every queue has: exchange, routing key, arguments."""
        found = await self._ask("GET", f"/api/queues/{self._vhost}/{quote(queue, safe='')}/bindings")
        return [(b["source"], b["routing_key"], b["arguments"]) for b in found or [] if b["source"]]

    async def has_exchange(self, name: str) -> bool:
        return await self._ask("GET", f"/api/exchanges/{self._vhost}/{quote(name, safe='')}") is not None

    async def details(self, queue: str) -> dict[str, Any]:
        """All that the management API knows of one queue; empty if it is not there."""
        return dict(await self._ask("GET", f"/api/queues/{self._vhost}/{quote(queue, safe='')}") or {})

    async def queues(self) -> list[dict[str, Any]]:
        """Every queue with its arguments and the policy that holds for it."""
        wanted = {"columns": "name,type,arguments,effective_policy_definition"}
        return list(await self._ask("GET", f"/api/queues/{self._vhost}", params=wanted) or [])

    async def counts_deliveries(self) -> bool:
        """Does this broker drop from a quorum queue what was delivered too often, unless it is told otherwise?"""
        overview = await self._ask("GET", "/api/overview", params={"columns": "rabbitmq_version"})
        return int(str(overview["rabbitmq_version"]).partition(".")[0]) >= 4

    async def nodes(self) -> int:
        """How many nodes of the cluster run."""
        return sum(bool(n.get("running")) for n in await self._ask("GET", "/api/nodes", params={"columns": "running"}))

    async def shield(self, name: str) -> None:
        """Keeps everybody's policies off all that is called `name` or begins so: a limit or an expiry would lose."""
        body = {
            "pattern": f"^{re.escape(name)}(\\.|$)",
            "apply-to": "queues",
            "priority": FIRST,
            "definition": {"max-length-bytes": NO_LIMIT},
        }
        await self._ask("PUT", self._policy(name), json=body)

    async def unshield(self, name: str) -> None:
        """Also if there is no such policy: not every user may make one, or see it."""
        try:
            await self._ask("DELETE", self._policy(name))
        except Refused:
            if await self.is_shielded(name):
                raise

    async def is_shielded(self, name: str) -> bool:
        """Is there a policy of that name? Not every user may see it."""
        try:
            return await self._ask("GET", self._policy(name)) is not None
        except Refused:
            return False

    def _policy(self, name: str) -> str:
        return f"/api/policies/{self._vhost}/{quote(name, safe='')}"

    async def tracing(self) -> bool:
        return bool((await self._ask("GET", f"/api/vhosts/{self._vhost}"))["tracing"])

    async def trace(self, on: bool) -> None:
        """Switches the virtual host's firehose. Its other properties are sent along, or RabbitMQ would clear them."""
        known = await self._ask("GET", f"/api/vhosts/{self._vhost}")
        body = {"tracing": on, "description": known.get("description", ""), "tags": known.get("tags", [])}
        if (kind := known.get("default_queue_type")) not in (None, "undefined"):
            body["default_queue_type"] = kind
        await self._ask("PUT", f"/api/vhosts/{self._vhost}", json=body)

    async def catch(self, queue: str) -> None:
        """Has `queue` get a copy of all that is published to the default exchange while tracing is on."""
        await self.bind(queue, TRACE, DEFAULT_EXCHANGE)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            return await self._management.ask(method, path, **options)
        except ManagementUnavailable as error:
            raise Temporary(str(error)) from None

    async def close(self) -> None:
        await self._link.close()


def typed(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Also of classic queues: a virtual host may have another type where none is said."""
    return {**arguments, "x-queue-type": kind}
