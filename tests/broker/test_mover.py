"""Messages moved from queue to queue arrive as they were: in order, byte for byte, and only there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.adapters.blocking_connection import BlockingChannel

from reconciler.broker.mover import Message as Moving
from reconciler.broker.mover import Mover, Pass, Progress, TargetFull, caught_for, cleaned, marker_of, prefetch_for
from reconciler.broker.raw import entries, join, split, table_of
from reconciler.errors import Refused
from tests.nodes import TestVhost
from tests.waiting import async_eventually

NAMES = ("from", "to", "else", "full")


@pytest.fixture
def channel(vhost: TestVhost) -> Iterator[BlockingChannel]:
    """Queues `from`, `to`, `else` and `full` (which takes one message), and a way to `to`."""
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        opened = connection.channel()
        limits = {"full": {"x-max-length": 1, "x-overflow": "reject-publish"}}
        for name in NAMES:
            opened.queue_declare(name, durable=True, arguments=limits.get(name))
        opened.exchange_declare("way", "fanout", durable=True)
        opened.queue_bind("to", "way")
        opened.confirm_delivery()
        yield opened


async def move(vhost: TestVhost, work: Pass) -> Progress:
    mover, progress = Mover(vhost.amqp_url), Progress()
    try:
        await mover.run(work, progress)
    finally:
        await mover.close()
    return progress


def count(channel: BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def taken(channel: BlockingChannel, queue: str) -> list[bytes]:
    """The bodies of all that is ready in it."""
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        found.append(got[2])
    return found


async def test_properties_and_routing_key_arrive_as_they_were(vhost: TestVhost, channel: BlockingChannel) -> None:
    headers: dict[str, Any] = {"n": 1, "big": 2**40, "neg": -7, "yes": True, "none": None, "list": [1, "a", {"b": 2}]}
    sent = pika.BasicProperties(
        content_type="a/b",
        content_encoding="utf-8",
        headers=headers,
        delivery_mode=2,
        priority=3,
        correlation_id="c",
        reply_to="r",
        expiration="600000",
        message_id="m",
        timestamp=1_700_000_000,
        type="t",
        app_id="app",
    )
    channel.exchange_declare("events", "topic")
    channel.queue_bind("from", "events", "order.#")
    channel.basic_publish("events", "order.created", b"\0body\xff", sent)
    assert (await move(vhost, Pass("from", "way", count=1))).moved == 1
    method, got, body = channel.basic_get("to", auto_ack=True)
    assert (method.routing_key, body) == ("order.created", b"\0body\xff")
    assert vars(got) == vars(sent)


async def test_a_copy_for_others_is_not_made_again_and_anothers_name_becomes_a_header(
    vhost: TestVhost, channel: BlockingChannel
) -> None:
    user = pika.URLParameters(vhost.amqp_url).credentials.username
    channel.basic_publish("", "from", b"1", pika.BasicProperties(headers={"CC": ["else"]}, user_id=user))
    assert count(channel, "else") == 1
    await move(vhost, Pass("from", "way", count=1))
    assert count(channel, "else") == 1
    _, got, _ = channel.basic_get("to", auto_ack=True)
    assert (got.user_id, got.headers) == (user, {"CC": ["else"]})
    data = b"".join(pika.BasicProperties(user_id="somebody", headers={"a": 1}).encode())
    given_away = pika.BasicProperties().decode(cleaned(Moving("k", data, b""), "us").properties)
    assert (given_away.user_id, given_away.headers) == (None, {"a": 1, "x-original-user-id": "somebody"})


async def test_the_order_stays_and_all_before_a_marker_moves(vhost: TestVhost, channel: BlockingChannel) -> None:
    for number in range(700):
        channel.basic_publish("", "from", str(number).encode(), pika.BasicProperties(delivery_mode=2))
    mover, progress = Mover(vhost.amqp_url), Progress()
    await mover.mark("from", "here")
    await mover.run(Pass("from", "way", markers={"here/0", "here/255"}), progress)
    await mover.close()
    assert (progress.moved, count(channel, "from"), count(channel, "to")) == (700, 0, 700)
    got = [channel.basic_get("to", auto_ack=True)[2] for _ in range(700)]
    assert got == [str(number).encode() for number in range(700)]


async def test_what_the_target_does_not_take_stays_where_it_was(vhost: TestVhost, channel: BlockingChannel) -> None:
    channel.exchange_declare("narrow", "fanout")
    channel.queue_bind("full", "narrow")
    for number in range(3):
        channel.basic_publish("", "from", str(number).encode())
    with pytest.raises(TargetFull):
        await move(vhost, Pass("from", "narrow", count=3))
    channel.exchange_declare("nowhere", "fanout")
    with pytest.raises(Refused, match="leads nowhere"):
        await move(vhost, Pass("from", "nowhere", count=1))
    kept: set[bytes] = set()

    def all_kept() -> bool:  # what is given back may come in several pieces
        kept.update(taken(channel, "from"), taken(channel, "full"))
        return kept == {b"0", b"1", b"2"}

    await async_eventually(all_kept)


async def test_a_pass_that_ends_in_the_middle_loses_nothing(vhost: TestVhost, channel: BlockingChannel) -> None:
    for number in range(300):
        channel.basic_publish("", "from", str(number).encode(), pika.BasicProperties(delivery_mode=2))
    mover, progress = Mover(vhost.amqp_url), Progress()
    running = asyncio.create_task(mover.run(Pass("from", "way", markers={"never"}), progress))
    while progress.moved < 50:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await mover.close()
    got: set[bytes] = set()

    async def all_moved() -> bool:  # as above
        await move(vhost, Pass("from", "way", count=count(channel, "from")))
        got.update(taken(channel, "to"))
        return got == {str(number).encode() for number in range(300)}

    await async_eventually(all_moved)


def test_fewer_messages_are_in_hand_if_they_are_large() -> None:
    assert [prefetch_for(size) for size in (0, 100, 2**20, 2**30)] == [256, 256, 64, 1]


def test_only_a_marker_is_a_marker() -> None:
    def is_marker(**properties: Any) -> bool:
        data = b"".join(pika.BasicProperties(**properties).encode())
        return marker_of(Moving("", data, b"")) is not None

    assert is_marker(type="reconciler.marker", message_id="x")
    assert not is_marker(type="other", headers={"a": "reconciler.marker"})
    assert not is_marker(headers={"type": "reconciler.marker"})


PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.text(max_size=20),
        "headers": st.dictionaries(
            st.text(max_size=10),
            st.one_of(st.integers(-(2**31), 2**63 - 1), st.text(max_size=20), st.booleans(), st.none()),
            max_size=4,
        ),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "message_id": st.text(max_size=20),
        "timestamp": st.integers(0, 2**32),
        "user_id": st.text(max_size=20),
        "cluster_id": st.text(max_size=20),
    },
)


@given(PROPERTIES)
def test_properties_taken_apart_and_put_together_are_the_same_bytes(properties: dict[str, Any]) -> None:
    data = b"".join(pika.BasicProperties(**properties).encode())
    fields = split(data)
    assert fields.keys() == properties.keys()
    assert join(fields) == data
    if "headers" in fields:
        assert table_of(list(entries(fields["headers"]))) == fields["headers"]


def test_what_the_firehose_saw_becomes_the_message_that_it_was() -> None:
    sent = {"headers": {"a": 1}, "delivery_mode": 2, "priority": 4, "timestamp": 1_700_000_000, "message_id": "m"}
    told = {"exchange_name": "", "routing_keys": ["orders", "copy"], "properties": sent, "node": "here"}
    data = b"".join(pika.BasicProperties(headers=told).encode())
    back = caught_for("orders")(Moving("publish.", data, b"body"))
    assert back is not None
    assert (back.routing_key, back.body) == ("orders", b"body")
    assert vars(pika.BasicProperties().decode(back.properties)) == vars(pika.BasicProperties(**sent))
    assert caught_for("other")(Moving("publish.", data, b"body")) is None
