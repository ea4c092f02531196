"""A migration torn at every one of its calls, on a real broker, under publishers: it goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pika
import pytest

from reconciler.broker.broker import Broker
from reconciler.errors import Temporary
from reconciler.migration import hands
from reconciler.migration.journal import Journal, Record, Shape
from reconciler.migration.steps import Migration
from tests.cluster import Cluster
from tests.live.publishers import first_seen, publishers, take_all
from tests.nodes import TestVhost

pytestmark = pytest.mark.timeout(400)  # one of them takes half a minute on a machine that has nothing else to do

BACKLOG = 400
RATE = 60
BOUND = ("order.*", "invoice.*")


class Torn(Exception):
    """As a crash: nothing after it is done."""


class Tearing:
    """Does what `of` does, and breaks right after each call that it sees for the first time."""

    def __init__(self, of: Any, torn: set[str]) -> None:
        self._of = of
        self._torn = torn

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            answer = await found(*arguments, **named)
            self._tear(name, arguments)
            return answer

        return call

    def _tear(self, name: str, arguments: tuple[Any, ...]) -> None:
        what = getattr(arguments[0], "source", arguments[0]) if arguments else ""
        key = f"{name} {what if len(str(what)) < 40 else chr(33)}"
        if key not in self._torn:
            self._torn.add(key)
            raise Torn(key)


class TornJournal(Journal):
    """Breaks after each step that it has written for the first time, and before it."""

    def __init__(self, folder: Path, torn: set[str]) -> None:
        super().__init__(folder)
        self._torn = torn

    def save(self, record: Record) -> None:
        self._tear(f"before {record.step}")
        super().save(record)
        self._tear(f"after {record.step}")

    def _tear(self, key: str) -> None:
        if key not in self._torn:
            self._torn.add(key)
            raise Torn(key)


class Site:
    """A queue `orders` that is bound, with messages in it and publishers at it."""

    def __init__(self, vhost: TestVhost, folder: Path) -> None:
        self.vhost = vhost
        self.folder = folder
        self.torn: set[str] = set()

    def make(self, kind: str, count: int = BACKLOG, **arguments: Any) -> Record:
        typed = {} if kind == "classic" else {"x-queue-type": kind}
        with pika.BlockingConnection(pika.URLParameters(self.vhost.amqp_url)) as connection:
            channel = connection.channel()
            channel.queue_declare("orders", durable=True, arguments=typed | arguments)
            channel.exchange_declare("events", "topic", durable=True)
            for key in BOUND:
                channel.queue_bind("orders", "events", key)
            channel.tx_select()
            for number in range(1, count + 1):
                channel.basic_publish("", "orders", f"old:{number}".encode(), pika.BasicProperties(delivery_mode=2))
            channel.tx_commit()
        other = "classic" if kind == "quorum" else "quorum"
        record = Record("orders", "here", Shape(other, True), Shape(kind, True, arguments))
        Journal(self.folder).save(record)
        return record

    async def live(self, everywhere: bool) -> bool:
        """One life of a daemon: what is on disk goes on until something tears. Is it done?"""
        (record,) = Journal(self.folder).load()
        broker = Broker(self.vhost.amqp_url, self.vhost.management_url)
        bench, mover = broker.workbench(), broker.mover()
        journal = TornJournal(self.folder, self.torn)
        tools = (Tearing(bench, self.torn), Tearing(mover, self.torn)) if everywhere else (bench, mover)
        try:
            await Migration(record, journal, *tools, asyncio.Lock(), lambda _: 0).run()  # type: ignore[arg-type]
        except (Torn, Temporary):
            assert record.back is None, record.back
            return False
        finally:
            await asyncio.gather(bench.close(), mover.close(), broker.close())
        return True

    def bindings(self) -> set[tuple[str, str]]:
        with self.vhost.node.api() as api:
            found = api.get("/api/bindings").raise_for_status().json()
        return {
            (b["source"], b["routing_key"])
            for b in found
            if b["vhost"] == self.vhost.name and b["destination"] == "orders"
        }

    def is_tracing(self) -> bool:
        with self.vhost.node.api() as api:
            return any(v["tracing"] for v in api.get("/api/vhosts").json() if v["name"] == self.vhost.name)


@pytest.fixture(autouse=True)
def _no_queue_is_young(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "YOUNG_SECONDS", 0.05)  # no broker is killed here, and there are many lives


@pytest.fixture
def site(vhost: TestVhost, tmp_path: Path) -> Site:
    folder = tmp_path / "migrations"
    folder.mkdir()
    return Site(vhost, folder)


async def done(life: Callable[[], Awaitable[bool]], lives: int = 150) -> int:
    """How many lives it took."""
    for number in range(1, lives + 1):
        if await life():
            return number
    raise AssertionError(f"not done after {lives} lives")


@pytest.mark.parametrize(("kind", "everywhere"), [("classic", True), ("quorum", False)])
async def test_torn_at_every_call_or_every_line_of_its_journal_it_goes_on_and_nothing_is_lost(
    site: Site, kind: str, everywhere: bool
) -> None:
    site.make(kind)
    both = publishers(site.vhost.amqp_url, "orders", "events", "order.new", RATE)
    lives = await done(lambda: site.live(everywhere))
    assert lives > (40 if everywhere else 20), "it was torn all along"
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert site.vhost.queues().keys() == {"orders"}
    assert site.vhost.queues()["orders"]["type"] != kind
    assert site.bindings() == {("", "orders"), *(("events", key) for key in BOUND)}
    assert not site.is_tracing()
    assert list(Journal(site.folder).load()) == []
    found = take_all(site.vhost.amqp_url, "orders")
    wanted = confirmed | {f"old:{number}".encode() for number in range(1, BACKLOG + 1)}
    assert wanted - set(found) == set()
    assert set(found) - wanted == set(), "nothing of ours is left in it"
    assert first_seen(found, "old") == list(range(1, BACKLOG + 1))


async def test_on_rabbitmq_4_it_is_the_same(vhost4: TestVhost, tmp_path: Path) -> None:
    site = Site(vhost4, tmp_path)
    site.make("classic")
    both = publishers(vhost4.amqp_url, "orders", "events", "order.new", RATE)
    await done(lambda: site.live(everywhere=False))
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert vhost4.queues()["orders"]["type"] == "quorum"
    assert site.bindings() == {("", "orders"), *(("events", key) for key in BOUND)}
    found = set(take_all(vhost4.amqp_url, "orders"))
    assert found == confirmed | {f"old:{number}".encode() for number in range(1, BACKLOG + 1)}


async def test_one_that_goes_back_leaves_everything_as_it_was(site: Site) -> None:
    site.make("classic")
    both = publishers(site.vhost.amqp_url, "orders", "events", "order.new", RATE)
    while next(Journal(site.folder).load()).step != "replace":
        await site.live(everywhere=False)
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("orders", lambda *_: None)
        (record,) = Journal(site.folder).load()
        await run(record, site)
    assert "consumers that are not ours" in str(record.back)
    confirmed = set().union(*(publisher.stop() for publisher in both))
    assert site.vhost.queues().keys() == {"orders"}
    assert site.vhost.queues()["orders"]["type"] == "classic"
    assert site.bindings() == {("", "orders"), *(("events", key) for key in BOUND)}
    assert not site.is_tracing()
    found = set(take_all(site.vhost.amqp_url, "orders"))
    assert found == confirmed | {f"old:{number}".encode() for number in range(1, BACKLOG + 1)}


@pytest.mark.parametrize(("had", "wanted"), [("stream", "quorum"), ("classic", "stream")])
async def test_streams_are_copied_and_filled(site: Site, had: str, wanted: str) -> None:
    site.make(had)
    Journal(site.folder).save(Record("orders", "here", Shape(wanted, True), Shape(had, True)))
    await done(lambda: site.live(everywhere=False))
    assert site.vhost.queues().keys() == {"orders"}
    assert site.vhost.queues()["orders"]["type"] == wanted
    found = read_all(site.vhost, BACKLOG)
    assert first_seen(found, "old") == list(range(1, BACKLOG + 1))


def read_all(vhost: TestVhost, count: int) -> list[bytes]:
    """The first `count` different messages of a queue or a stream."""
    found: list[bytes] = []
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=100)
        is_stream = vhost.queues()["orders"]["type"] == "stream"
        arguments = {"x-stream-offset": "first"} if is_stream else None
        for method, _, body in channel.consume("orders", inactivity_timeout=60, arguments=arguments):
            assert method is not None, f"only {len(set(found))} came"
            found.append(body)
            channel.basic_ack(method.delivery_tag)
            if len(set(found)) == count:
                break
        channel.cancel()
    return found


async def test_in_a_cluster_nobody_may_publish_by_the_default_exchange_meanwhile(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ switches the firehose node by node: there it does not catch everything, and is not used."""
    cluster.make_vhost("migration")
    address = cluster.amqp_url(0, "migration"), cluster.management_url
    vhost = TestVhost("migration", *address, cluster)  # type: ignore[arg-type]
    site = Site(vhost, tmp_path)
    site.make("classic", 50)
    default, routed = publishers(vhost.amqp_url, "orders", "events", "order.new", RATE)
    record = next(Journal(tmp_path).load())
    with monkeypatch.context() as patched:
        patched.setattr(hands, "QUIET_SECONDS", 60.0)  # publishers that the machine is too busy for are no pause
        await run(record, site)
    assert "firehose" in str(record.back)
    assert vhost.queues()["orders"]["type"] == "classic"
    confirmed = default.stop()
    record = Record("orders", "here", Shape("quorum", True), Shape("classic", True))
    await run(record, site)
    assert record.back is None
    assert vhost.queues()["orders"]["type"] == "quorum"
    confirmed |= routed.stop()
    found = set(take_all(vhost.amqp_url, "orders"))
    assert found == confirmed | {f"old:{number}".encode() for number in range(1, 51)}


async def run(record: Record, site: Site) -> None:
    """One migration to its end, tried again as a daemon does it: a broker may be too busy to answer in time."""

    async def is_done() -> bool:
        broker = Broker(site.vhost.amqp_url, site.vhost.management_url)
        bench, mover = broker.workbench(), broker.mover()
        try:
            await Migration(record, Journal(site.folder), bench, mover, asyncio.Lock(), lambda _: 0).run()
        except Temporary:
            return False
        finally:
            await asyncio.gather(bench.close(), mover.close(), broker.close())
        return True

    await done(is_done, lives=20)
