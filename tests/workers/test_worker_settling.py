"""Each message is settled exactly once, whatever the handler does."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from tests.workers.worker_bench import VERBS, Bench, Proxy, until

ACKED = [
    "result = None",
    "result = True",
    "result = 0",
    "ch.basic_ack(tag)",
    "ch.basic_ack(tag); result = True",
    "ch.basic_ack(delivery_tag=tag); result = False",
    "ch.basic_ack(tag); ch.basic_ack(tag); ch.basic_nack(tag)",
    "ch.basic_ack(); result = 1",
    "ch.basic_ack(0, multiple=True)",
    "ch.basic_ack(tag, multiple=True)",
    "ch.basic_ack(tag + 3); result = True",
    "ch.basic_ack(10**9, multiple=True); result = True",
    "ch.basic_ack(tag); raise ValueError('after the ack')",
    "import threading; t = threading.Thread(target=ch.basic_ack, args=[tag]); t.start(); t.join()",
    "import asyncio; asyncio.run(asyncio.sleep(0)); result = True",
]
REJECTED = [
    "result = False",
    "raise ValueError('no {good}')",
    "1 / 0",
    "ch.basic_reject(tag, requeue=False)",
    "ch.basic_nack(tag, requeue=False); result = True",
    "ch.basic_nack(tag, multiple=True, requeue=False); ch.basic_ack(tag)",
    "import asyncio; raise asyncio.CancelledError",
    "raise GeneratorExit",
]
REQUEUED = [
    "result = None if method.redelivered else ch.basic_nack(tag)",
    "result = None if method.redelivered else ch.basic_reject(tag)",
]


def test_every_way_to_settle(bench: Bench) -> None:
    bench.queue("dead")
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.publish(*ACKED, *REJECTED, *REQUEUED)
    worker = bench.start("work", VERBS)
    worker.told(X_PROCESSED=str(len(ACKED) + len(REQUEUED)), X_FAILED=str(len(REJECTED) + len(REQUEUED)), X_BUSY="0")
    assert worker.stop() == 0
    found: list[str] = []
    until(lambda: found.extend(bench.take("dead")) or len(found) >= len(REJECTED), what=lambda: found)
    assert sorted(found) == sorted(REJECTED)
    assert bench.take() == []
    assert worker.log.count("consuming from q") == 1  # no 406: the channel lived through all of it
    assert "ZeroDivisionError: division by zero" in worker.log
    assert "is ignored: it is settled already" in worker.log
    assert "is ignored: it was never handed to this worker" in worker.log


def test_a_requeue_does_not_spin(bench: Bench) -> None:
    bench.queue()
    bench.publish("ch.basic_nack(tag)")
    worker = bench.start("work", VERBS, PREFETCH="1")
    times = [datetime.fromisoformat(text) for text in worker.says(r"(\S+)Z INFO +\[.*?\] begins ", 4)]
    waits = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert all(wait > 0.95 for wait in waits[1:])
    assert worker.stop() == 0
    until(lambda: bench.count() == 1)


def test_the_first_requeue_is_not_held_back(bench: Bench) -> None:
    """Not one of many, whatever else the machine does meanwhile."""
    bench.queue()
    worker = bench.start("work", VERBS, PREFETCH="1").ready()
    waits: list[float] = []
    while len(waits) < 15 and min(waits, default=1.0) >= 0.9:
        number = len(waits)
        bench.publish(f"None if method.redelivered else ch.basic_nack(tag)  # {number}")
        times = [
            datetime.fromisoformat(text) for text in worker.says(rf"(\S+)Z INFO +\[.*?\] begins .* # {number} ", 2)
        ]
        waits.append((times[1] - times[0]).total_seconds())
    assert min(waits) < 0.9
    assert worker.stop() == 0


def test_others_go_on_while_one_is_held_back(bench: Bench) -> None:
    bench.queue()
    bench.publish("ch.basic_nack(tag)")
    worker = bench.start("work", VERBS)
    worker.says("begins ch.basic_nack", 2)
    bench.publish(*["result = True"] * 20)
    worker.says("ends result = True", 20)
    assert worker.stop() == 0
    assert bench.take() == ["ch.basic_nack(tag)"]


def test_an_ack_for_a_lost_connection_is_ignored(bench: Bench, proxy: Proxy) -> None:
    wait = "Path('go').exists() or [Path('here').touch()] + [time.sleep(0.02) for _ in iter(Path('go').exists, True)]"
    bench.queue()
    bench.publish(wait + "; ch.basic_ack(tag)", "result = True", "result = 1")
    worker = bench.start("work", VERBS, AMQP_URL=proxy.url).ready()
    until((bench.root / "here").exists)
    proxy.down()
    worker.told(RELOADING="1")
    proxy.up()
    worker.says("consuming from q", 2)
    (bench.root / "go").touch()
    worker.says("ack of message 1 is too late")
    worker.says("ends ", 4)
    assert worker.stop() == 0
    assert bench.take() == []
    assert worker.log.count("begins Path") == 2
    assert worker.log.count("begins result = True") == 1  # what only lay in the inbox was not handled twice


def test_system_exit_ends_the_process_and_the_message_goes_back(bench: Bench) -> None:
    bench.queue()
    bench.publish("result = True", "sys.exit(7)", "result = 1")
    worker = bench.start("work", VERBS)
    assert worker.ended() == 7
    until(lambda: bench.count() == 2)
    assert bench.take() == ["sys.exit(7)", "result = 1"]


def test_a_connection_error_of_the_handler_sends_the_message_back(bench: Bench) -> None:
    bench.queue("dead")
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.publish("if not method.redelivered:\n import pika\n raise pika.exceptions.AMQPConnectionError('away')")
    worker = bench.start("work", VERBS)
    worker.says("goes back to the queue: away")
    worker.told(X_PROCESSED="1", X_FAILED="1")
    assert worker.stop() == 0
    assert bench.count("dead") == bench.count() == 0
