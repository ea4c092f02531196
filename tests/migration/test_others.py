"""Migrations while others have their hands in what stands beside the queue, or had its name first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from reconciler.broker.broker import Broker
from reconciler.migration import hands
from reconciler.migration.journal import Journal, Record, Shape
from reconciler.migration.steps import Migration
from tests.live.publishers import take_all
from tests.migration.test_torn import Site, run
from tests.nodes import TestVhost
from tests.waiting import async_eventually

COUNT = 20
OLD = {f"old:{number}".encode() for number in range(1, COUNT + 1)}


@pytest.fixture
def site(vhost: TestVhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(hands, "YOUNG_SECONDS", 0.05)  # no broker is killed here
    folder = tmp_path / "migrations"
    folder.mkdir()
    return Site(vhost, folder)


@contextlib.contextmanager
def somebody(site: Site) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
        yield connection.channel()


def send_late(channel: BlockingChannel, queue: str) -> None:
    """One message more, which is there when this returns."""
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"late", pika.BasicProperties(delivery_mode=2))


@contextlib.asynccontextmanager
async def until(record: Record, site: Site, step: str) -> AsyncIterator[Migration]:
    """The migration, stopped in front of a step."""
    broker = Broker(site.vhost.amqp_url, site.vhost.management_url)
    bench, mover = broker.workbench(), broker.mover()
    found = Migration(record, Journal(site.folder), bench, mover, asyncio.Lock(), lambda _: 0)
    try:
        while record.step != step:
            await found._enter(await found._step())
        yield found
    finally:
        await asyncio.gather(bench.close(), mover.close(), broker.close())


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_what_somebody_has_in_hand_at_the_end_comes_back_and_is_moved_too(site: Site, kind: str) -> None:
    record = site.make(kind, COUNT)
    async with until(record, site, "restore") as migration:
        with somebody(site) as channel:
            send_late(channel, "orders.migrating")
            held = await async_eventually(lambda: channel.basic_get("orders.migrating")[2])
            task = asyncio.create_task(migration.run())
            # A quorum queue counts whoever holds a message of it as a consumer, a classic one does not.
            await async_eventually(lambda: migration.hands.waiting and "orders.migrating" in migration.hands.waiting)
            assert "others" in str(migration) or "not ours" in str(migration)
            assert migration.lets_work, "all but those is in its place: the workers need not wait"
            assert not task.done()
        await asyncio.wait_for(task, 60)
    found = take_all(site.vhost.amqp_url, "orders")
    assert held in found
    assert set(found) == OLD | {b"late"}
    assert site.vhost.queues().keys() == {"orders"}


async def test_what_is_published_beside_it_at_the_end_is_moved_too(site: Site) -> None:
    record = site.make("classic", COUNT)
    async with until(record, site, "clean") as migration:
        with somebody(site) as channel:
            send_late(channel, "orders.migrating")
        await asyncio.wait_for(migration.run(), 60)
    assert set(take_all(site.vhost.amqp_url, "orders")) == OLD | {b"late"}


async def test_what_was_caught_and_is_in_the_hands_of_a_daemon_that_died_is_waited_for(site: Site) -> None:
    record = site.make("classic", COUNT)
    async with until(record, site, "collect"):
        with somebody(site) as channel:
            channel.confirm_delivery()
            copied = pika.BasicProperties(delivery_mode=2)
            channel.queue_delete("orders")  # so that its copy is the only one that there is
            channel.basic_publish("", "orders", b"only caught", copied)
    with somebody(site) as died:
        held = await async_eventually(lambda: died.basic_get("orders.migrating.caught")[2])
        assert b"only caught" in held
        task = asyncio.create_task(run(next(Journal(site.folder).load()), site))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 2 * hands.TICK_SECONDS)
        assert not task.done()
        assert "orders.migrating.caught" in site.vhost.queues()
    await asyncio.wait_for(task, 60)
    assert b"only caught" in take_all(site.vhost.amqp_url, "orders")


@pytest.mark.parametrize("taken", ["orders.migrating", "orders.migrating.caught", "orders.migrating.probe"])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "with a message"])
async def test_a_queue_of_others_that_has_such_a_name_stays_as_it_is(site: Site, taken: str, full: bool) -> None:
    record = site.make("classic", COUNT)
    with somebody(site) as channel:
        channel.queue_declare(taken, durable=True)
        if full:
            channel.basic_publish("", taken, b"theirs", pika.BasicProperties(delivery_mode=2))
    await asyncio.wait_for(run(record, site), 60)
    assert f"a queue {taken} is in the way" in str(record.back)
    assert site.vhost.queues().keys() == {"orders", taken}
    assert take_all(site.vhost.amqp_url, taken) == ([b"theirs"] if full else [])
    assert set(take_all(site.vhost.amqp_url, "orders")) == OLD


async def test_an_exchange_of_others_that_has_such_a_name_stays_as_it_is(site: Site) -> None:
    record = site.make("classic", COUNT)
    with somebody(site) as channel:
        channel.exchange_declare("orders.migrating", "topic", durable=True)
    await asyncio.wait_for(run(record, site), 60)
    assert "an exchange orders.migrating is in the way" in str(record.back)
    with somebody(site) as channel:
        channel.exchange_declare("orders.migrating", passive=True)


async def test_a_policy_of_others_that_has_such_a_name_stays_as_it_is(site: Site) -> None:
    record = site.make("classic", COUNT)
    path = f"/api/policies/{quote(site.vhost.name, safe='')}/orders.migrating"
    theirs = {"pattern": "^theirs", "definition": {"max-length": 5}, "apply-to": "queues"}
    with site.vhost.node.api() as api:
        api.put(path, json=theirs).raise_for_status()
        await asyncio.wait_for(run(record, site), 60)
        assert api.get(path).raise_for_status().json()["pattern"] == "^theirs"
    assert "a policy orders.migrating is in the way" in str(record.back)


async def test_what_somebody_takes_right_before_the_queue_is_replaced_comes_back_and_is_moved_too(site: Site) -> None:
    record = site.make("classic", COUNT)
    async with until(record, site, "replace") as migration:
        with somebody(site) as channel:
            send_late(channel, "orders")
            held = await async_eventually(lambda: channel.basic_get("orders")[2])
            task = asyncio.create_task(migration.run())
            await async_eventually(lambda: task.done() or "in the hands of others" in str(migration))
            assert not task.done()
        await asyncio.wait_for(task, 60)
    found = take_all(site.vhost.amqp_url, "orders")
    assert held in found
    assert set(found) == OLD | {b"late"}


@pytest.mark.parametrize(("limit", "more"), [(20, {}), (10**6, {}), (20, {"x-overflow": "reject-publish"})])
async def test_a_new_queue_that_would_drop_the_oldest_messages_for_their_size_is_not_made(
    site: Site, limit: int, more: dict[str, str]
) -> None:
    record = site.make("classic", COUNT)
    record.wanted = Shape("quorum", True, {"x-max-length-bytes": limit} | more)
    async with until(record, site, "prepare") as migration:
        if limit > 20 or more:
            assert await migration._step() == "fill"
            return
        await asyncio.wait_for(migration.run(), 60)
    assert "bytes are in it, and the new queue would take 20" in str(record.back)
    assert set(take_all(site.vhost.amqp_url, "orders")) == OLD
