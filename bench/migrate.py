"""A queue of 100,000 messages migrated under publishers, beside what scripts do: `python -m bench.migrate`.

Three things on one broker: our migration from classic to quorum, counted message by message; a plain pika loop that
moves messages one way (get, publish confirmed, ack); and `queue.delete` with `queue.declare` right after, which is how
a queue is replaced by hand, with the same publishers at it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pika

from reconciler.broker.broker import Broker
from reconciler.migration.journal import Record, Shape
from reconciler.migration.migrations import Migrations
from tests.live.publishers import Publisher, first_seen, publishers, take_all
from tests.nodes import TestNode, TestVhost

BLOCKING = 2_000  # messages that the plain loop moves; its rate does not depend on how many there are


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200.0, help="messages a second of each of two publishers")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the broker is stopped
    with tempfile.TemporaryDirectory() as folder:
        node = TestNode(Path(folder) / "node")
        node.start()
        try:
            plain = plain_loop(node)
            print(f"plain pika loop, one way: {plain:,.0f} messages/s", flush=True)
            by_hand(node, options.rate)
            ours(node, Path(folder), options.messages, options.rate, plain)
        finally:
            node.stop()


@contextmanager
def queue_with(node: TestNode, name: str, count: int) -> Iterator[TestVhost]:
    """A virtual host with a bound classic queue `orders` and `count` messages in it."""
    vhost = node.make_vhost(name)
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()
        channel.queue_declare("orders", durable=True)
        channel.exchange_declare("events", "topic", durable=True)
        channel.queue_bind("orders", "events", "order.*")
        for number in range(1, count + 1):
            properties = pika.BasicProperties(delivery_mode=2, headers={"number": number})
            channel.basic_publish("", "orders", f"old:{number}".encode(), properties)
        channel.queue_declare("orders", passive=True)
    yield vhost
    node.drop_vhost(name)


def plain_loop(node: TestNode) -> float:
    """Messages a second."""
    with queue_with(node, "plain", BLOCKING) as vhost:
        with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("other", durable=True, arguments={"x-queue-type": "quorum"})
            begun, moved = time.monotonic(), 0
            while moved < BLOCKING:
                method, properties, body = channel.basic_get("orders")
                channel.basic_publish("", "other", body, properties, mandatory=True)
                channel.basic_ack(method.delivery_tag)
                moved += 1
        return moved / (time.monotonic() - begun)


def by_hand(node: TestNode, rate: float) -> None:
    """What publishers lose that use confirms, and `mandatory`, and send again what comes back."""
    with queue_with(node, "by hand", 0) as vhost:
        both = publishers(vhost.amqp_url, "orders", "events", "order.new", rate)
        kept, tries = set[bytes](), 5
        with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
            channel = connection.channel()
            for number in range(tries):
                wait(1.0)
                kept |= set(emptied(vhost))
                kind = {"x-queue-type": "quorum"} if number % 2 == 0 else {}
                kept |= set(emptied(vhost))
                channel.queue_delete("orders")
                channel.queue_declare("orders", durable=True, arguments=kind)
                channel.queue_bind("orders", "events", "order.*")
            confirmed = stop(both)
            kept |= set(take_all(vhost.amqp_url, "orders"))
        lost = len(confirmed - kept)
        print(f"drain, delete and declare by hand, {tries} times: {lost:,} confirmed messages lost", flush=True)


def emptied(vhost: TestVhost) -> list[bytes]:
    """What is in the queue now, taken out."""
    with pika.BlockingConnection(pika.URLParameters(vhost.amqp_url)) as connection:
        channel = connection.channel()
        ready = channel.queue_declare("orders", passive=True).method.message_count
        return [channel.basic_get("orders", auto_ack=True)[2] for _ in range(ready)]


def ours(node: TestNode, folder: Path, count: int, rate: float, plain: float) -> None:
    with queue_with(node, "ours", count) as vhost:
        both = publishers(vhost.amqp_url, "orders", "events", "order.new", rate)
        wait(1.0)
        begun = time.monotonic()
        steps = asyncio.run(migrate(vhost, folder))
        seconds = time.monotonic() - begun
        confirmed = stop(both)
        found = take_all(vhost.amqp_url, "orders")
    wanted = confirmed | {f"old:{number}".encode() for number in range(1, count + 1)}
    print(f"migrated {count:,} messages there and back in {seconds:.1f} s")
    print(f"  {2 * count / seconds:,.0f} moves/s, {2 * count / seconds / plain:.1f} × the plain loop")
    for step, took in steps:
        print(f"  {took:7.2f} s  {step}")
    print(f"  {len(confirmed):,} messages published meanwhile and confirmed; {len(wanted - set(found)):,} lost in all")
    print(f"  {len(found) - len(set(found)):,} came twice")
    print(f"  {both[0].returned:,} returned, {both[0].refused:,} not taken, of the publisher to the default exchange")
    for name in ("old", "default", "routed"):
        numbers = first_seen(found, name)
        back = sum(one > other for one, other in pairwise(numbers))
        print(f"  order of {name}: {back:,} steps back in {len(numbers):,}")


async def migrate(vhost: TestVhost, folder: Path) -> list[tuple[str, float]]:
    """How long each step took, in seconds."""
    ended, steps, last = asyncio.Event(), list[tuple[str, float]](), time.monotonic()
    record = Record("orders", "here", Shape("quorum", True), Shape("classic", True))
    step = record.step

    def told(_: str, text: str) -> None:
        nonlocal last, step
        if record.step != step:
            steps.append((step, time.monotonic() - last))
            step, last = record.step, time.monotonic()
        if not text.startswith("migrating"):
            ended.set()

    broker = Broker(vhost.amqp_url, vhost.management_url)
    migrations = Migrations(folder / "migrations", broker, lambda _: 0, told)
    migrations.take(record)
    await ended.wait()
    await migrations.close()
    await broker.close()
    return steps


def stop(both: list[Publisher]) -> set[bytes]:
    return set().union(*(publisher.stop() for publisher in both))


def wait(seconds: float) -> None:
    time.sleep(seconds)


if __name__ == "__main__":
    main()
