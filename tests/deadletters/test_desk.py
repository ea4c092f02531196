"""Dead letters on a real broker: looked at as if nobody had, and moved back with none lost."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pika
import pytest

from reconciler.broker.raw import RawProperties, join, table_of
from reconciler.deadletters import Desk, Order, Progress, redrive, router
from reconciler.deadletters import desk as module
from reconciler.deadletters.places import Place
from reconciler.errors import Refused
from reconciler.events import Events
from tests.nodes import TestVhost
from tests.waiting import async_eventually
from workers.runtime.failure import Cause, Ways, failed_copy

DEAD, HERE = Place("dead"), Place("dead", "q")


class Bench:
    """A broker's side of a test."""

    def __init__(self, vhost: TestVhost) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(vhost.amqp_url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()

    def close(self) -> None:
        if self.connection.is_open:
            self.connection.close()

    def queues(self, *names: str, **arguments: Any) -> None:
        named = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
        for name in names:
            self.channel.queue_declare(name, durable=True, arguments=named)

    def lay(self, ids: Iterable[str], source: str = "q", to: str = "dead", **properties: Any) -> None:
        """Dead letters as the runtime makes them; the body is the id."""
        for name in ids:
            given = pika.BasicProperties(message_id=name, delivery_mode=2, **properties)
            copy = failed_copy(given, ("events", f"key.{source}"), source, Cause(1.0, exception="KeyError", worker="w"))
            self.channel.basic_publish("", to, name.encode(), copy)

    def count(self, queue: str) -> int:
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def take(self, queue: str) -> list[tuple[pika.BasicProperties, str, bool]]:
        found = []
        while (got := self.channel.basic_get(queue, auto_ack=True))[0]:
            found.append((got[1], got[2].decode(), got[0].redelivered))
        return found

    def bodies(self, queue: str) -> list[str]:
        return [body for _, body, _ in self.take(queue)]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that pauses has not run out of messages: here nobody takes them away while they are looked at."""
    for name in ("LOOK_SECONDS", "IDLE_SECONDS", "BACK_SECONDS"):
        monkeypatch.setattr(module, name, 40.0)
    monkeypatch.setattr(redrive, "IDLE_SECONDS", 40.0)


@pytest.fixture
def bench(vhost: TestVhost) -> Iterator[Bench]:
    made = Bench(vhost)
    yield made
    made.close()


@asynccontextmanager
async def desk_at(vhost: TestVhost) -> AsyncIterator[Desk]:
    desk = Desk(vhost.amqp_url, Events())
    yield desk
    await desk.close()


async def moved(desk: Desk, place: Place, *ids: str, **order: Any) -> Progress:
    """A run from its start to its end."""
    progress = desk.redrive(Order(place, frozenset(ids) or None, **order))
    assert await desk.ended(progress, 60)
    assert progress.error is None
    return progress


def why(progress: Progress) -> dict[str, int]:
    return {reason: left.count for reason, left in progress.why.items()}


NUMBERS = [str(n) for n in range(150)]


async def test_a_look_changes_neither_order_nor_number(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        for _ in range(5):
            found = await desk.look(DEAD, 10_000)
            assert (found["count"], found["counted"], found["of"]) == (150, 150, 150)
        assert found["groups"][0]["message_ids"] == NUMBERS
        json.dumps(found)
    assert bench.bodies("dead") == NUMBERS


async def test_looks_at_once_see_all_each(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        found = await asyncio.gather(*(desk.look(DEAD, 10_000) for _ in range(4)))
    assert [look["count"] for look in found] == [150] * 4
    assert bench.bodies("dead") == NUMBERS


async def test_a_look_is_bounded_and_says_so(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "empty")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        found = await desk.look(DEAD, 120)
        assert (found["count"], found["counted"], found["of"]) == (120, 120, 150)
        assert (await desk.look(Place("empty"), 100))["groups"] == []
    assert bench.bodies("dead") == NUMBERS


async def test_a_look_at_a_quorum_queue_without_a_limit_loses_none(vhost4: TestVhost) -> None:
    bench = Bench(vhost4)
    bench.queues("dead", queue_type="quorum", delivery_limit=-1)
    bench.lay(NUMBERS)
    async with desk_at(vhost4) as desk:
        for _ in range(22):
            assert (await desk.look(DEAD, 10_000))["count"] == 150
    assert bench.bodies("dead") == NUMBERS
    bench.close()


async def test_all_go_back_in_order_and_as_new(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.lay(NUMBERS, priority=4, correlation_id="c", headers={"tenant": "a", "share": 0.25})
    async with desk_at(vhost) as desk:
        progress = await moved(desk, HERE)
    assert (progress.moved, progress.left, progress.to) == (150, 0, {"q": 150})
    taken = bench.take("q")
    assert [body for _, body, _ in taken] == NUMBERS
    properties = taken[7][0]
    assert (properties.message_id, properties.priority, properties.correlation_id) == ("7", 4, "c")
    kept = {key: value for key, value in properties.headers.items() if key != "x-reconciler-redrive"}
    assert kept == {
        "tenant": "a",
        "share": 0.25,
        "x-reconciler-exchange": "events",
        "x-reconciler-routing-key": "key.q",
        "x-reconciler-redriven": 1,
    }
    assert bench.count("dead") == 0


async def test_what_the_broker_put_aside_goes_back_too(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead")
    bench.queues("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.channel.basic_publish("", "q", b"x", pika.BasicProperties(headers={"n": 1}))
    got = bench.channel.basic_get("q")[0]
    bench.channel.basic_reject(got.delivery_tag, requeue=False)
    await async_eventually(lambda: bench.count("dead") == 1)
    async with desk_at(vhost) as desk:
        found = await desk.look(HERE, 10)
        assert [(g["reason"], g["exception"], g["count"]) for g in found["groups"]] == [("rejected", None, 1)]
        assert (await moved(desk, HERE)).moved == 1
    properties = bench.take("q")[0][0]
    assert "x-death" not in properties.headers
    assert properties.headers["x-reconciler-routing-key"] == "q"


async def test_ids_go_and_the_others_stay_in_order(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        progress = await moved(desk, DEAD, "3", "149", "nobody")
    assert progress.moved == 2
    assert why(progress) == {"not found (somebody took it, or it was never there)": 1}
    assert bench.bodies("q") == ["3", "149"]
    assert bench.bodies("dead") == [n for n in NUMBERS if n not in ("3", "149")]


async def test_of_a_shared_queue_only_those_of_the_source_that_was_named(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q", "p")
    bench.lay(["1", "2"], "p")
    bench.lay(["3"])
    bench.lay(["4"], "p")
    async with desk_at(vhost) as desk:
        assert (await desk.look(HERE, 10))["count"] == 1
        assert (await moved(desk, HERE)).to == {"q": 1}
        assert bench.count("dead") == 3
        assert (await moved(desk, DEAD)).to == {"p": 3}
    assert bench.bodies("p") == ["1", "2", "4"]


async def test_what_cannot_go_back_stays_and_says_why(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.queues("full", max_length=0, overflow="reject-publish")
    bench.lay(["gone-1"], "gone")
    bench.lay(["loop"], "dead")
    bench.lay(["ok"])
    bench.lay(["full"], "full")
    bench.lay(["often"], headers={"x-reconciler-redriven": 10})
    bench.channel.basic_publish("", "dead", b"stranger")
    async with desk_at(vhost) as desk:
        progress = await moved(desk, DEAD)
        assert progress.moved == 1
        reasons = " | ".join(why(progress))
        for expected in (
            "queue gone does not exist",
            "it came from dead itself",
            "queue full: it takes nothing now",
            "moved back 10 times already",
            "nothing on it tells",
        ):
            assert expected in reasons
        assert bench.count("dead") == progress.left == 5
        assert (await moved(desk, DEAD, "often")).moved == 1
    assert bench.bodies("q") == ["ok", "often"]
    assert bench.bodies("dead") == ["gone-1", "loop", "full", "stranger"]


async def test_a_rehearsal_moves_nothing(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        progress = await moved(desk, HERE, dry_run=True)
    assert (progress.moved, progress.to) == (150, {"q": 150})
    assert bench.count("q") == 0
    assert bench.bodies("dead") == NUMBERS


async def test_what_fails_at_once_again_is_not_chased(vhost: TestVhost, bench: Bench) -> None:
    """A consumer that rejects all of it, back into the queue that is being emptied."""
    bench.queues("dead")
    bench.queues("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        progress = desk.redrive(Order(HERE))
        while not await desk.ended(progress, 0.02):
            for method, _, _ in bench.channel.consume("q", inactivity_timeout=0.01):
                if method is None:
                    break
                bench.channel.basic_reject(method.delivery_tag, requeue=False)
        assert progress.error is None
        assert progress.moved <= 150
        assert progress.seen <= 150


async def test_a_rate_is_kept_and_a_second_run_is_refused_meanwhile(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.lay(NUMBERS[:20])
    async with desk_at(vhost) as desk:
        progress = desk.redrive(Order(HERE, rate=20))
        with pytest.raises(Refused, match="is under way"):
            desk.redrive(Order(HERE))
        assert not await desk.ended(progress, 0.5)
        assert progress.moved <= 12
        assert await desk.ended(progress, 60)
        assert progress.ended_at is not None
        assert progress.ended_at - progress.started_at > 0.9
        assert desk.runs["dead"]["moved"] == 20


async def test_a_run_that_is_cut_off_loses_none(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.lay(NUMBERS)
    async with desk_at(vhost) as desk:
        progress = desk.redrive(Order(HERE, rate=300))
        while progress.moved < 50:
            await asyncio.sleep(0.01)
    await async_eventually(lambda: vhost.queues()["dead"]["messages_unacknowledged"] == 0)  # all is given back
    left, back = bench.bodies("dead"), bench.bodies("q")
    assert set(left) | set(back) == set(NUMBERS)
    assert left == [n for n in NUMBERS if n in left]


async def test_it_is_no_failure_when_others_take_them_first(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    bench.lay(NUMBERS)
    for _ in range(100):
        bench.channel.basic_get("dead")  # in somebody's hands
    async with desk_at(vhost) as desk:
        assert (await moved(desk, HERE)).moved == 50


def test_a_fraction_survives_the_way_through_pika() -> None:
    from pika.data import decode_table, encode_table

    table = {"double": 0.1, "list": [1.5, {"deep": float("inf")}], "whole": 3}
    pieces: list[bytes] = []
    encode_table(pieces, table)
    assert decode_table(b"".join(pieces), 0)[0] == table
    single = b"\x00\x00\x00\x07\x01xf" + struct.pack(">f", 0.5)
    assert decode_table(single, 0)[0] == {"x": 0.5}


async def test_a_moment_beyond_dates_is_shown_and_kept(vhost: TestVhost, bench: Bench) -> None:
    bench.queues("dead", "q")
    at = (b"at", b"T", struct.pack(">Q", 1_700_000_000_000))  # a sender that counts in milliseconds
    headers = table_of([at, (b"x-reconciler-queue", b"S", b"\0\0\0\1q")])
    bench.channel.basic_publish("", "dead", b"x", RawProperties(join({"headers": headers, "delivery_mode": b"\2"})))
    async with desk_at(vhost) as desk:
        found = await desk.look(DEAD, 100)
        assert found["groups"][0]["sample"]["headers"]["at"] == 1_700_000_000_000
        assert (await moved(desk, DEAD)).moved == 1
    ((properties, _, _),) = bench.take("q")
    assert properties.headers["at"] == 1_700_000_000_000


async def test_a_router_that_tries_for_long_keeps_no_channels(
    vhost: TestVhost, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(router, "LONGEST_WAIT", 0.01)
    bench.queues("q.rejected", "q")
    bench.queues("q.dead", max_length=0, overflow="reject-publish")
    bench.channel.basic_publish("", "q.rejected", b"x", pika.BasicProperties(delivery_mode=2))
    tries, really = [], router.Router._send_on

    async def send_on(self: Any, *arguments: Any) -> None:
        tries.append(arguments)
        await really(self, *arguments)

    monkeypatch.setattr(router.Router, "_send_on", send_on)
    routing = router.Router(vhost.amqp_url)
    routing.follow({"q.rejected": Ways("q", 3, ("q.retry.1s",), "q.dead")})
    try:
        await async_eventually(lambda: len(tries) > 20)
        assert len(routing._link._connection._channels) < 6  # type: ignore[union-attr]
    finally:
        await routing.close()
