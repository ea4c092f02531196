"""What the loop relies on, of RabbitMQ itself and of the fake that stands for it in other tests."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pika
import pytest

from reconciler.broker import amqp, counts, management, publisher
from reconciler.broker.broker import Broker
from reconciler.broker.node import free_ports
from reconciler.errors import (
    Blocked,
    BrokerUnreachable,
    NoSuchExchange,
    NoSuchQueue,
    Refused,
    StillInUse,
    Temporary,
    Unconfirmed,
)
from state.desired import Exchange, PolicyRule, Queue
from state.observed import ObservedBinding, ObservedExchange, ObservedPolicy, ObservedQueue
from tests.broker.fake import FakeBroker
from tests.nodes import TestNode, TestVhost
from tests.servers import version4_or_skip
from tests.waiting import async_eventually


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is slow to answer is not given up: for the tests that are about something else."""
    monkeypatch.setattr(amqp, "CONNECT_SECONDS", 40.0)
    monkeypatch.setattr(publisher, "CONFIRM_SECONDS", 40.0)
    monkeypatch.setattr(management, "TIMEOUT", 40.0)


class World(Protocol):
    """A broker as the loop has it, and another client's hands on the same queues."""

    broker: Broker | FakeBroker

    def make(self, name: str, queue: Queue) -> None: ...

    def put(self, name: str, *bodies: bytes) -> None: ...

    def take(self, name: str, count: int) -> None: ...

    def ack(self, name: str) -> None: ...

    def consume(self, name: str) -> None: ...

    def names(self) -> set[str]: ...

    def close(self) -> None: ...


class FakeWorld:
    def __init__(self, management: bool) -> None:
        self.broker = FakeBroker()
        self.broker.management = management
        self.make, self.put, self.take = self.broker.make, self.broker.put, self.broker.take
        self.ack, self.consume = self.broker.ack, self.broker.consume

    def names(self) -> set[str]:
        return self.broker.names

    def close(self) -> None:
        pass


class RealWorld:
    """The other client is a plain pika connection of its own."""

    def __init__(self, vhost: TestVhost, management: bool) -> None:
        nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.vhost = vhost
        self.broker = Broker(vhost.amqp_url, vhost.management_url if management else nobody)
        self._connection = pika.BlockingConnection(pika.URLParameters(vhost.amqp_url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def make(self, name: str, queue: Queue) -> None:
        arguments = queue.broker_arguments() | ({} if queue.type == "classic" else {"x-queue-type": queue.type})
        self._channel.queue_declare(name, durable=queue.durable, arguments=arguments)

    def put(self, name: str, *bodies: bytes) -> None:
        for body in bodies:
            self._channel.basic_publish("", name, body)

    def take(self, name: str, count: int) -> None:
        for _ in range(count):
            method, _, _ = self._channel.basic_get(name)
            assert method is not None

    def ack(self, name: str) -> None:
        self._channel.basic_ack(0, multiple=True)

    def consume(self, name: str) -> None:
        self._channel.basic_qos(prefetch_count=1)
        self._channel.basic_consume(name, lambda *_: None)

    def names(self) -> set[str]:
        return set(self.vhost.queues())

    def close(self) -> None:
        self._connection.close()
        empty(self.vhost)


def empty(vhost: TestVhost) -> None:
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()
        for name in vhost.queues():
            channel.queue_delete(name)
        for exchange in vhost.get("exchanges"):
            if exchange["name"] and not exchange["name"].startswith("amq."):
                channel.exchange_delete(exchange["name"])
    for policy in vhost.get("policies"):
        vhost.delete("policies", policy["name"])


class Opening:
    """Makes the world of a test, real or not."""

    def __init__(self, vhost: TestVhost | None) -> None:
        self._vhost = vhost

    @asynccontextmanager
    async def __call__(self, management: bool = True) -> AsyncIterator[World]:
        world = RealWorld(self._vhost, management) if self._vhost else FakeWorld(management)
        try:
            yield world
        finally:
            await world.broker.close()
            world.close()


@pytest.fixture(scope="module")
def shared_vhost(broker: TestNode) -> Iterator[TestVhost]:
    """One for all these tests, each of which leaves it empty: a virtual host costs more than most of them."""
    made = broker.make_vhost("contract/of brokers")
    yield made
    broker.drop_vhost(made.name)


@pytest.fixture(scope="module")
def shared_vhost4(broker4: TestNode) -> Iterator[TestVhost]:
    made = broker4.make_vhost("contract/of brokers")
    yield made
    broker4.drop_vhost(made.name)


@pytest.fixture(params=["shared_vhost", "shared_vhost4", None], ids=["RabbitMQ", "RabbitMQ 4", "the fake"])
def opened(request: pytest.FixtureRequest, patient: None) -> Opening:
    return Opening(request.getfixturevalue(request.param) if request.param else None)


async def see(world: World, *names: str) -> dict[str, Any]:
    return dict((await world.broker.observe(names)).queues)


async def there(world: World, name: str) -> ObservedQueue:
    """The queue, which is there."""
    seen = await world.broker.count(name)
    assert seen is not None
    return seen


async def publish(world: World, name: str, body: bytes = b"x") -> None:
    await world.broker.publish(name, body, pika.BasicProperties(message_id=str(uuid.uuid4()), delivery_mode=2))


async def still_in_use(world: World, name: str) -> str:
    with pytest.raises(StillInUse) as held:
        await world.broker.delete(name, force=False)
    assert name in world.names(), "what is in use stays"
    return str(held.value)


LIMITED = Queue(arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
KINDS = {
    "plain": Queue(),
    "transient": Queue(durable=False, arguments={"x-expires": 600_000}),
    "with arguments": Queue(arguments={"x-message-ttl": 60_000, "x-max-length": 5, "x-overflow": "drop-head"}),
    "dead-lettering": Queue(dead_letter="lost"),
    "quorum": Queue(type="quorum", arguments={"x-delivery-limit": 3}),
    "stream": Queue(type="stream", arguments={"x-max-length-bytes": 1_000_000}),
    "with a strange argument": Queue(arguments={"x-our-own": ["a", 1]}),
}

# -- declaring ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", KINDS.values(), ids=KINDS)
async def test_what_is_declared_is_seen_as_it_was_declared_and_may_be_declared_again(
    opened: Opening, queue: Queue
) -> None:
    async with opened() as world:
        for _ in range(2):
            await world.broker.declare("q", queue)
            seen = (await see(world))["q"]
            assert (seen.type, seen.durable, seen.auto_delete) == (queue.type, queue.durable, False)
            arguments = {key: value for key, value in seen.arguments.items() if key != "x-queue-type"}
            assert arguments == queue.broker_arguments()
            assert (seen.ready, seen.unacknowledged, seen.messages) == (0, 0, 0)


OTHERS = {
    "another type": Queue(type="quorum"),
    "not durable": Queue(durable=False),
    "another argument": Queue(arguments={"x-message-ttl": 2000}),
    "no argument": Queue(),
    "another dead-letter queue": Queue(arguments={"x-message-ttl": 1000}, dead_letter="lost"),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_a_queue_of_that_name_with_other_properties_is_refused_and_untouched(
    opened: Opening, other: Queue
) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue(arguments={"x-message-ttl": 1000}))
        before = await see(world)
        with pytest.raises(Refused, match="PRECONDITION_FAILED - inequivalent arg"):
            await world.broker.declare("q", other)
        assert await see(world) == before
        await world.broker.declare("q", Queue(arguments={"x-message-ttl": 1000}))


async def test_a_name_of_rabbitmqs_own_is_refused(opened: Opening) -> None:
    async with opened() as world:
        with pytest.raises(Refused, match="reserved prefix"):
            await world.broker.declare("amq.mine", Queue())
        assert world.names() == set()


@pytest.mark.parametrize("name", ["a b/c.d", "ü😀", "%2F?#&", "x" * 255, "é" * 127, " "])
async def test_strange_names_are_names(opened: Opening, name: str) -> None:
    async with opened() as world:
        await world.broker.declare(name, Queue())
        await publish(world, name)
        assert (await there(world, name)).ready == 1
        assert await world.broker.purge(name) == 1
        await world.broker.delete(name, force=False)
        assert world.names() == set()


async def test_many_at_once_are_all_made(opened: Opening) -> None:
    async with opened() as world:
        names = {f"q{number}" for number in range(60)}
        await asyncio.gather(*(world.broker.declare(name, Queue()) for name in names))
        assert (await see(world)).keys() == names == world.names()


@pytest.mark.usefixtures("patient")
async def test_a_broker_that_allows_few_channels_is_asked_through_those(shared_vhost: TestVhost) -> None:
    broker = Broker(f"{shared_vhost.amqp_url}?channel_max=3", shared_vhost.management_url)
    await asyncio.gather(*(broker.declare(f"q{number}", Queue()) for number in range(40)))
    await broker.close()
    assert len(shared_vhost.queues()) == 40
    empty(shared_vhost)


async def test_in_a_large_virtual_host_everything_is_seen_and_counts_soon(
    opened: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "LARGE", 3)
    monkeypatch.setattr(counts, "SECONDS", 0.1)
    monkeypatch.setattr(counts, "FIRST_SECONDS", 40.0)  # however long the first counts take
    async with opened() as world:
        names = [f"q{number}" for number in range(100)]
        await asyncio.gather(*(world.broker.declare(name, Queue()) for name in names))
        await world.broker.declare_exchange("x", Exchange())
        await world.broker.bind(ObservedBinding("x", "q1"))
        world.put("q1", b"1", b"2")
        await world.broker.observe([])
        seen = await world.broker.observe([])
        assert seen.queues.keys() == set(names)
        assert (seen.queues["q1"].ready, seen.queues["q1"].state) == (2, "running")
        assert seen.bindings == {ObservedBinding("x", "q1")}
        world.put("q1", b"3")

        async def counted() -> bool:
            return (await world.broker.observe([])).queues["q1"].ready == 3

        await async_eventually(counted)


# -- publishing --------------------------------------------------------------------------------------------------


async def test_a_published_message_is_there_when_publish_returns(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        await asyncio.gather(*(publish(world, "q", str(number).encode()) for number in range(100)))
        assert (await there(world, "q")).messages == 100


async def test_publishing_to_no_queue_says_so(opened: Opening) -> None:
    async with opened() as world:
        with pytest.raises(NoSuchQueue):
            await publish(world, "nowhere")
        await world.broker.declare("q", Queue())
        await publish(world, "q")


async def test_a_full_queue_that_rejects_says_so(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", LIMITED)
        await publish(world, "q")
        await publish(world, "q")
        with pytest.raises(Refused, match="full"):
            await publish(world, "q")
        assert (await there(world, "q")).ready == 2


async def test_good_and_bad_messages_at_once_each_get_their_own_answer(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        names = ["q", "nowhere"] * 30
        answers = await asyncio.gather(*(publish(world, name) for name in names), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), NoSuchQueue] * 30


# -- deleting ----------------------------------------------------------------------------------------------------


async def test_an_empty_queue_is_deleted(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        await world.broker.delete("q", force=False)
        assert world.names() == set()


@pytest.mark.parametrize("force", [False, True])
async def test_deleting_what_is_not_there_is_done_already(opened: Opening, force: bool) -> None:
    async with opened() as world:
        await world.broker.delete("never", force=force)


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
async def test_a_queue_with_messages_is_not_deleted(opened: Opening, kind: Any) -> None:
    async with opened() as world:
        world.make("q", Queue(type=kind))
        world.put("q", b"1", b"2")
        if kind == "classic":
            assert "2 messages are in it (2 ready, 0 in flight)" in await still_in_use(world, "q")
        else:  # its counts may be late; then it waits until they are not
            await still_in_use(world, "q")


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_a_queue_with_messages_in_flight_is_not_deleted_though_none_is_ready(opened: Opening, kind: Any) -> None:
    async with opened() as world:
        world.make("q", Queue(type=kind))
        world.put("q", b"1", b"2")
        world.take("q", 2)
        await async_eventually(lambda: counted(world, ready=0, in_flight=2))
        assert "2 messages are in it (0 ready, 2 in flight)" in await still_in_use(world, "q")


async def counted(world: World, ready: int, in_flight: int) -> bool:
    seen = await world.broker.count("q")
    return seen is not None and (seen.ready, seen.unacknowledged) == (ready, in_flight)


async def test_a_queue_that_somebody_consumes_is_not_deleted(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        world.consume("q")
        assert "1 consumers that are not ours" in await still_in_use(world, "q")


async def test_force_deletes_whatever_is_in_it(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        world.put("q", b"1", b"2")
        world.take("q", 1)
        await world.broker.delete("q", force=True)
        assert world.names() == set()


async def test_once_its_messages_are_settled_it_is_deleted(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        world.put("q", b"1")
        world.take("q", 1)
        await still_in_use(world, "q")
        world.ack("q")
        await async_eventually(lambda: deleted(world, "q"))


async def deleted(world: World, name: str) -> bool:
    try:
        await world.broker.delete(name, force=False)
    except StillInUse:
        return False
    return name not in world.names()


async def test_a_quorum_queue_is_deleted_once_its_late_counts_have_been_zero_long_enough(opened: Opening) -> None:
    async with opened() as world:
        for name in ("idle", "used"):
            await world.broker.declare(name, Queue(type="quorum"))
            assert "late" in await still_in_use(world, name)
        await publish(world, "used")
        assert "1 messages are in it" in await still_in_use(world, "used")
        await async_eventually(lambda: deleted(world, "idle"), every=0.1)
        assert world.names() == {"used"}


# -- purging -----------------------------------------------------------------------------------------------------


async def test_purging_counts_what_it_drops_and_leaves_what_is_in_flight(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        world.put("q", *(str(number).encode() for number in range(10)))
        world.take("q", 4)
        assert await world.broker.purge("q") == 6
        assert await world.broker.purge("q") == 0
        await async_eventually(lambda: counted(world, ready=0, in_flight=4))


async def test_purging_what_is_not_there_says_so(opened: Opening) -> None:
    async with opened() as world:
        with pytest.raises(NoSuchQueue):
            await world.broker.purge("never")


async def test_a_stream_is_not_purged(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("s", Queue(type="stream"))
        with pytest.raises(Refused, match="does not purge streams"):
            await world.broker.purge("s")
        await world.broker.declare("q", Queue())


# -- exchanges, bindings, policies -------------------------------------------------------------------------------


EXCHANGES = {
    "direct": Exchange(),
    "topic": Exchange(type="topic"),
    "fanout, not durable": Exchange(type="fanout", durable=False),
    "headers, auto-delete": Exchange(type="headers", auto_delete=True),
    "internal, with an argument": Exchange(internal=True, arguments={"alternate-exchange": "other"}),
}


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
async def test_an_exchange_is_seen_as_it_was_declared_and_may_be_declared_again(
    opened: Opening, exchange: Exchange
) -> None:
    async with opened() as world:
        for _ in range(2):
            await world.broker.declare_exchange("x", exchange)
            seen = (await world.broker.observe([])).exchanges
            fields = exchange.type, exchange.durable, exchange.auto_delete, exchange.internal, exchange.arguments
            assert seen == {"x": ObservedExchange("x", *fields)}


async def test_an_exchange_of_that_name_with_other_properties_is_refused_and_untouched(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare_exchange("x", Exchange(type="topic"))
        for other in (Exchange(), Exchange(type="topic", durable=False), Exchange(type="topic", internal=True)):
            with pytest.raises(Refused, match="inequivalent arg"):
                await world.broker.declare_exchange("x", other)
        assert (await world.broker.observe([])).exchanges == {"x": ObservedExchange("x", "topic")}


async def test_a_type_of_exchange_that_the_broker_does_not_know_is_refused_and_harms_nobody_else(
    opened: Opening,
) -> None:
    async with opened() as world:
        names = [f"q{number}" for number in range(30)]
        unknown = world.broker.declare_exchange("x", Exchange(type="x-never-heard-of"))
        answers = await asyncio.gather(
            *(world.broker.declare(name, Queue()) for name in names[:15]),
            unknown,
            *(world.broker.declare(name, Queue()) for name in names[15:]),
            return_exceptions=True,
        )
        assert isinstance(answers[15], Refused)
        assert "x-never-heard-of" in str(answers[15])
        assert [answer for answer in answers if answer] == [answers[15]]
        assert world.names() == set(names)


async def test_a_binding_is_there_once_however_often_it_is_made(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        await world.broker.declare_exchange("x", Exchange(type="headers"))
        await world.broker.declare_exchange("y", Exchange(type="topic"))
        bindings = [
            ObservedBinding("x", "q", arguments={"x-match": "any", "kind": "a", "size": 3, "on": True}),
            ObservedBinding("x", "q"),
            ObservedBinding("y", "q", routing_key="order.*"),
            ObservedBinding("y", "q", routing_key="é.#"),
            ObservedBinding("y", "x", "exchange", "order.*"),
            ObservedBinding("amq.topic", "y", "exchange", "#"),
            ObservedBinding("amq.direct", "q", routing_key="k"),
        ]
        for binding in [*bindings, *bindings]:
            await world.broker.bind(binding)
        assert (await world.broker.observe([])).bindings == set(bindings)
        for binding in [*bindings[3:], *bindings[3:]]:
            await world.broker.unbind(binding)
        assert (await world.broker.observe([])).bindings == set(bindings[:3])


@pytest.mark.parametrize("name", ["a b/c", "%2F?#&", "..", "é😀"])
async def test_strange_names_are_names_of_exchanges_too(opened: Opening, name: str) -> None:
    async with opened() as world:
        await world.broker.declare_exchange(name, Exchange(type="topic"))
        await world.broker.declare(name, Queue())
        binding = ObservedBinding(name, name, routing_key=name)
        await world.broker.bind(binding)
        assert (await world.broker.observe([])).bindings == {binding}
        await world.broker.unbind(binding)
        await world.broker.delete_exchange(name)
        seen = await world.broker.observe([])
        assert (seen.exchanges, seen.bindings) == ({}, set())


@pytest.mark.parametrize("name", ["a b/c", "%2F?#&", "é😀"])
async def test_strange_names_are_names_of_policies_too(opened: Opening, name: str) -> None:
    async with opened() as world:
        await world.broker.set_policy(name, PolicyRule(pattern="^x", definition={"max-length": 3}))
        seen = (await world.broker.observe([])).policies
        assert seen == {name: ObservedPolicy(name, "^x", definition={"max-length": 3})}
        await world.broker.delete_policy(name)
        assert (await world.broker.observe([])).policies == {}


@pytest.mark.usefixtures("patient")
async def test_a_policy_that_the_http_api_has_no_path_to_is_refused(shared_vhost: TestVhost) -> None:
    async with Opening(shared_vhost)() as world:
        with pytest.raises(Refused, match="choose another name"):
            await world.broker.set_policy("..", PolicyRule(pattern="^x", definition={"max-length": 3}))


async def test_bindings_of_many_exchanges_are_all_seen(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        names = [f"x{number}" for number in range(30)]
        await asyncio.gather(*(world.broker.declare_exchange(name, Exchange()) for name in names))
        bindings = {ObservedBinding(name, "q", routing_key="k") for name in names}
        await asyncio.gather(*map(world.broker.bind, bindings))
        assert (await world.broker.observe([])).bindings == bindings


async def test_binding_what_is_not_there_is_refused_with_its_name_and_unbinding_it_is_done_already(
    opened: Opening,
) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        await world.broker.declare_exchange("x", Exchange())
        for missing in (
            ObservedBinding("no-x", "q"),
            ObservedBinding("x", "no-q"),
            ObservedBinding("x", "no-y", "exchange"),
        ):
            with pytest.raises(NoSuchExchange, match=r"no-[xqy]"):
                await world.broker.bind(missing)
            await world.broker.unbind(missing)


async def test_an_exchange_is_deleted_once_nothing_is_bound_to_it(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.declare("q", Queue())
        await world.broker.declare_exchange("x", Exchange())
        await world.broker.bind(ObservedBinding("x", "q"))
        with pytest.raises(StillInUse):
            await world.broker.delete_exchange("x")
        await world.broker.unbind(ObservedBinding("x", "q"))
        for _ in range(2):
            await world.broker.delete_exchange("x")
        assert (await world.broker.observe([])).exchanges == {}


async def test_a_policy_is_set_replaced_and_deleted(opened: Opening) -> None:
    async with opened() as world:
        await world.broker.set_policy("p", PolicyRule(pattern="^a", definition={"message-ttl": 1000}))
        changed = PolicyRule(pattern="^b", apply_to="queues", priority=7, definition={"max-length": 5})
        await world.broker.set_policy("p", changed)
        expected = ObservedPolicy("p", "^b", "queues", 7, {"max-length": 5})
        assert (await world.broker.observe([])).policies == {"p": expected}
        for _ in range(2):
            await world.broker.delete_policy("p")
        assert (await world.broker.observe([])).policies == {}


async def test_without_management_what_the_broker_agreed_to_is_known_and_policies_wait(opened: Opening) -> None:
    async with opened(management=False) as world:
        binding = ObservedBinding("x", "q", routing_key="a")
        await world.broker.declare_exchange("x", Exchange(type="topic"))
        await world.broker.declare("q", Queue())
        await world.broker.bind(binding)
        seen = await world.broker.observe(["q"], ["x", "never"])
        assert seen.exchanges == {"x": ObservedExchange("x", "topic")}
        assert (seen.bindings, seen.policies) == ({binding}, None)
        with pytest.raises(Temporary, match="MANAGEMENT_URL"):
            await world.broker.set_policy("p", PolicyRule(pattern="", definition={"max-length": 5}))
        await world.broker.delete("q", force=True)
        assert (await world.broker.observe(["q"], ["x"])).bindings == frozenset(), "it went with its queue"


async def test_without_management_an_exchange_of_somebody_else_is_there_with_properties_unknown(
    opened: Opening,
) -> None:
    async with opened() as world:
        await world.broker.declare_exchange("x", Exchange())
        async with opened(management=False) as blind:
            if isinstance(world.broker, FakeBroker) and isinstance(blind.broker, FakeBroker):
                blind.broker.exchanges = dict(world.broker.exchanges)
            assert (await blind.broker.observe([], ["x"])).exchanges == {"x": ObservedExchange("x", None)}


@pytest.mark.parametrize("shared", ["shared_vhost", "shared_vhost4"])
@pytest.mark.usefixtures("patient")
async def test_a_policy_that_the_broker_does_not_take_is_refused_with_its_reason(
    shared: str, request: pytest.FixtureRequest
) -> None:
    async with Opening(request.getfixturevalue(shared))() as world:
        with pytest.raises(Refused, match="not recognised"):
            await world.broker.set_policy("p", PolicyRule(pattern="", definition={"max-lenght": 5}))
        assert (await world.broker.observe([])).policies == {}


# -- AMQP alone --------------------------------------------------------------------------------------------------


async def test_without_management_only_what_is_asked_for_is_seen_and_it_says_so(opened: Opening) -> None:
    async with opened(management=False) as world:
        world.make("mine", Queue())
        world.make("theirs", Queue())
        observed = await world.broker.observe(["mine", "missing"])
        assert observed.queues.keys() == {"mine"}
        assert not observed.management
        assert world.broker.management_error


async def test_without_management_properties_are_known_once_the_broker_has_agreed_to_them(opened: Opening) -> None:
    async with opened(management=False) as world:
        queue = Queue(arguments={"x-max-length": 5})
        world.make("q", queue)
        assert (await see(world, "q"))["q"].type is None
        with pytest.raises(Refused):
            await world.broker.declare("q", Queue())
        assert (await see(world, "q"))["q"].type is None
        await world.broker.declare("q", queue)
        assert (await see(world, "q"))["q"].arguments == {"x-max-length": 5}


async def test_without_management_nothing_is_deleted_but_by_force(opened: Opening) -> None:
    async with opened(management=False) as world:
        await world.broker.declare("q", Queue())
        assert "without the management API" in await still_in_use(world, "q")
        await world.broker.delete("q", force=True)
        assert world.names() == set()


async def test_identity_names_cluster_and_virtual_host_and_stays_the_same(opened: Opening) -> None:
    async with opened() as world:
        identity = (await world.broker.observe([])).identity
        assert identity.endswith(f" {world.broker.vhost}")
        assert identity == (await world.broker.observe([])).identity


# -- misfortune, on RabbitMQ alone -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A node that these tests may harm. Each leaves it running and well."""
    node = TestNode(tmp_path_factory.mktemp("frail"))
    node.start()
    yield node
    node.stop()


@asynccontextmanager
async def broker_at(node: TestNode) -> AsyncIterator[Broker]:
    broker = Broker(node.amqp_url, node.management_url)
    try:
        yield broker
    finally:
        await broker.close()


async def send(broker: Broker) -> None:
    await broker.publish("q", b"x", pika.BasicProperties(message_id=str(uuid.uuid4())))


async def test_under_an_alarm_publishing_is_answered_soon_and_the_rest_goes_on(frail: TestNode) -> None:
    frail.ctl("set_vm_memory_high_watermark", "absolute", "1")
    async with broker_at(frail) as broker:
        await broker.declare("q", Queue())
        for _ in range(3):
            await async_eventually(lambda: answered_soon(send(broker), Blocked, "memory"))
        await broker.declare("other", Queue())
        assert (await broker.observe([])).queues.keys() == {"q", "other"}
        frail.ctl("set_vm_memory_high_watermark", "0.9")
        await async_eventually(lambda: sent(broker))


async def answered_soon(call: Awaitable[object], error: type[Exception], says: str) -> bool:
    """Does `call` fail so, and within five seconds? One that the machine was too busy for is to be made again."""
    began = time.monotonic()
    (answer,) = await asyncio.gather(call, return_exceptions=True)
    seconds = time.monotonic() - began
    assert isinstance(answer, error), answer
    assert says in str(answer)
    assert seconds < 5
    return True


async def sent(broker: Broker) -> bool:
    try:
        await send(broker)
    except (Blocked, Unconfirmed):
        return False
    return True


async def test_a_broker_that_goes_away_is_noticed_and_found_again(frail: TestNode) -> None:
    lost = asyncio.Event()
    broker = Broker(frail.amqp_url, frail.management_url, on_lost=lost.set)
    try:
        await broker.declare("q", Queue())
        await send(broker)
        seen = await broker.observe([])
        identity = seen.identity
        await asyncio.to_thread(frail.kill)
        await asyncio.wait_for(lost.wait(), 30)
        assert not broker.connected
        for call in (lambda: broker.observe([]), lambda: send(broker), lambda: broker.declare("p", Queue())):
            await async_eventually(lambda call=call: answered_soon(call(), BrokerUnreachable, "refused"))
        await asyncio.to_thread(frail.start)
        seen = await broker.observe([])
        # Not its queues: a node that is killed may have lost those it made a moment before.
        assert seen.identity == identity
        await broker.declare("q", Queue())
        await async_eventually(lambda: sent(broker))
    finally:
        await broker.close()


async def test_a_broker_that_accepts_and_says_nothing_is_given_up_on_within_five_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        broker = Broker(f"amqp://guest:guest@127.0.0.1:{mute.getsockname()[1]}/", None)

        async def given_up() -> bool:
            """Half a second is between the limits and what is promised: a busy machine may need several tries."""
            began = time.monotonic()
            answers = await asyncio.gather(broker.observe([]), send(broker), return_exceptions=True)
            seconds = time.monotonic() - began
            assert all(isinstance(answer, Temporary) for answer in answers), answers
            assert seconds < 5
            return True

        await async_eventually(given_up, timeout=90)
        await broker.close()


@pytest.mark.usefixtures("patient")
async def test_what_makes_a_broker_close_the_connection_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    """RabbitMQ 4.3 answers a transient queue like that; 4.0 does, if its operator says so."""
    node = TestNode(tmp_path / "strict", version4_or_skip())
    (node.folder / "conf.d").mkdir(parents=True)
    (node.folder / "conf.d" / "strict.conf").write_text("deprecated_features.permit.transient_nonexcl_queues = false\n")
    await asyncio.to_thread(node.start)
    try:
        async with broker_at(node) as broker:
            queues = {f"q{number}": Queue() for number in range(20)} | {"brief": Queue(durable=False)}
            queues |= {f"p{number}": Queue() for number in range(20)}
            answers = await asyncio.gather(*(broker.declare(*item) for item in queues.items()), return_exceptions=True)
            refused = dict(zip(queues, answers, strict=True)).pop("brief")
            assert isinstance(refused, Refused), refused
            assert "transient_nonexcl_queues" in str(refused)
            assert [answer for answer in answers if answer] == [refused]
            assert (await broker.observe([])).queues.keys() == queues.keys() - {"brief"}
    finally:
        await asyncio.to_thread(node.stop)


@pytest.mark.usefixtures("patient")
async def test_wrong_credentials_are_said_in_words(vhost: TestVhost) -> None:
    url = vhost.amqp_url.replace("amqp://reconciler:", "amqp://nobody:")
    broker = Broker(url, vhost.management_url)
    with pytest.raises(BrokerUnreachable, match="ACCESS_REFUSED"):
        await broker.observe([])
    await broker.close()


async def test_dead_letters_that_wait_for_their_target_are_messages(vhost: TestVhost) -> None:
    """A quorum queue that dead-letters at least once keeps them, and they are neither ready nor with a consumer."""
    broker = Broker(vhost.amqp_url, vhost.management_url)
    safe = {"x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once", "x-message-ttl": 100}
    nowhere = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "not there"}

    async def undelivered() -> bool:
        seen = await broker.count("q")
        return seen is not None and (seen.ready, seen.messages) == (0, 3)

    try:
        await broker.declare("q", Queue(type="quorum", arguments=safe | nowhere))
        for body in (b"1", b"2", b"3"):
            await broker.publish("q", body, pika.BasicProperties(delivery_mode=2))
        await async_eventually(undelivered)
        assert (await broker.observe(())).queues["q"].messages == 3
        with pytest.raises(StillInUse, match="3 messages are in it"):
            await broker.delete("q", force=False)
    finally:
        await broker.close()
