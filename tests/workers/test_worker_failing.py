"""A message that fails comes back after a delay, and ends with the dead letters, with what is known of it."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pika

from tests.nodes import TestVhost
from tests.workers.worker_bench import VERBS, Bench, Proxy, until
from workers.runtime import fractions  # noqa: F401  (this process sends one)

DEAD = {"QUEUE_DEAD_LETTER": "dead"}
SOON = "q.retry.200ms", "q.retry.600ms"
RETRY = DEAD | {"QUEUE_RETRY": json.dumps({"attempts": 4, "queues": SOON})}


def topology(bench: Bench) -> None:
    bench.queue("dead")
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    safe = {"queue_type": "quorum", "overflow": "reject-publish", "dead_letter_strategy": "at-least-once"}
    back = {"dead_letter_exchange": "", "dead_letter_routing_key": "q"}
    for name, milliseconds in zip(SOON, (200, 600), strict=True):
        bench.queue(name, message_ttl=milliseconds, **back, **safe)


def dead(bench: Bench) -> tuple[pika.BasicProperties, str]:
    """The one message there. Its copy may be tried for the fifth time, after half a minute."""
    until(lambda: bench.count("dead"), 60)
    _, properties, body = bench.channel.basic_get("dead", auto_ack=True)
    return properties, body.decode()


def test_what_always_fails_is_tried_so_often_with_the_delays_between(bench: Bench) -> None:
    topology(bench)
    code = (
        "came = [death['queue'] for death in (properties.headers or {}).get('x-death', [])]\n"
        "self.logger.info('at {} by {}', time.time(), '+'.join(came) or 'itself')\n"
        "raise ValueError('no such customer')"
    )
    properties = pika.BasicProperties(message_id="m1", priority=3, headers={"tenant": "a", "n": {"deep": [1]}})
    bench.channel.basic_publish("", "q", code.encode(), properties)
    worker = bench.start("work", VERBS_AND_PROPERTIES, **RETRY)
    found, body = dead(bench)
    assert body == code
    assert (found.message_id, found.priority, found.headers["tenant"], found.headers["n"]) == (
        "m1",
        3,
        "a",
        {"deep": [1]},
    )
    own = {key.removeprefix("x-reconciler-"): value for key, value in found.headers.items()}
    assert own["attempt"] == 4
    assert (own["queue"], own["routing-key"], own["exchange"]) == ("q", "q", "")
    assert (own["reason"], own["exception"], own["exception-message"]) == ("rejected", "ValueError", "no such customer")
    assert own["traceback"].startswith("Traceback")
    assert own["traceback"].endswith("ValueError: no such customer\n")
    assert (own["worker"], own["pid"]) == ("work", worker.pid)
    assert own["first-failed-at"] < own["failed-at"]
    assert "x-death" not in found.headers
    came = worker.says(r"at (\d+\.\d+) by (\S+)", 4)
    assert [by for _, by in came] == ["itself", SOON[0], SOON[1], SOON[1]]
    waits = [float(after) - float(before) for (before, _), (after, _) in pairwise(came)]
    assert waits[0] >= 0.2
    assert min(waits[1:]) >= 0.6
    worker.told(X_FAILED="4", X_PROCESSED="0", X_BUSY="0")
    assert worker.stop() == 0
    assert bench.count() == 0


def test_what_fails_twice_and_then_works_is_done(bench: Bench) -> None:
    topology(bench)
    bench.publish("result = (properties.headers or {}).get('x-reconciler-attempt', 0) == 2", *["result = True"] * 30)
    worker = bench.start("work", VERBS_AND_PROPERTIES, **RETRY)
    worker.told(X_FAILED="2", X_PROCESSED="31", X_BUSY="0")
    assert worker.stop() == 0
    assert bench.count() == bench.count("dead") == 0


def test_a_retried_message_looks_as_it_was_sent(bench: Bench) -> None:
    topology(bench)
    bench.channel.exchange_declare("events", "topic", durable=True)
    bench.channel.queue_bind("q", "events", "order.#")
    code = b"self.logger.info('by {} {}', method.exchange, method.routing_key); result = False"
    bench.channel.basic_publish("events", "order.created", code, pika.BasicProperties(headers={"BCC": ["dead"]}))
    worker = bench.start("work", VERBS, **RETRY)
    assert set(worker.says(r"by (\w+ \S+)", 4)) == {"events order.created"}
    assert worker.stop() == 0


def test_what_a_handler_does_to_the_properties_is_its_own_affair(bench: Bench) -> None:
    topology(bench)
    code = (
        "properties.headers['mine'] = {1, 2}; properties.message_id = None; properties.expiration = '1'; result = False"
    )
    properties = pika.BasicProperties(message_id="m", headers={"theirs": 0.5})
    bench.channel.basic_publish("", "q", code.encode(), properties)
    worker = bench.start("work", VERBS_AND_PROPERTIES, **DEAD)
    found, _ = dead(bench)
    assert (found.message_id, found.expiration) == ("m", None)
    assert found.headers["theirs"] == 0.5
    assert "mine" not in found.headers
    assert worker.stop() == 0


WAYS_TO_REJECT = {
    "result = False": None,
    "raise KeyError('x')": "KeyError",
    "ch.basic_nack(tag, requeue=False)": None,
    "ch.basic_reject(tag, requeue=False); result = True": None,
    "try: 1 / 0\nexcept ArithmeticError: ch.basic_nack(tag, requeue=False)": "ZeroDivisionError",
    "ch.basic_reject(tag, requeue=False); raise OSError": None,
    "import asyncio; raise asyncio.CancelledError": "asyncio.exceptions.CancelledError",
    "class Odd(Exception):\n def __str__(self): raise ValueError\nraise Odd": "workers.work.Odd",
    "raise ValueError('\\ud800' * 9000)": "ValueError",
}


def test_every_rejection_is_laid_aside_with_its_reason(bench: Bench) -> None:
    topology(bench)
    bench.publish(*WAYS_TO_REJECT)
    worker = bench.start("work", VERBS, **DEAD)
    worker.told(X_FAILED=str(len(WAYS_TO_REJECT)), X_BUSY="0")
    found = {body: properties.headers for properties, body in (dead(bench) for _ in WAYS_TO_REJECT)}
    exceptions = {body: headers.get("x-reconciler-exception") for body, headers in found.items()}
    assert exceptions == WAYS_TO_REJECT
    assert all(headers["x-reconciler-attempt"] == 1 for headers in found.values())
    assert all(len(str(headers).encode()) < 12_000 for headers in found.values())
    assert worker.stop() == 0
    assert bench.count() == 0


def test_a_requeue_is_no_failure(bench: Bench) -> None:
    topology(bench)
    bench.publish("result = None if method.redelivered else ch.basic_nack(tag)")
    worker = bench.start("work", VERBS, **RETRY)
    worker.told(X_PROCESSED="1", X_FAILED="1", X_BUSY="0")
    assert worker.stop() == 0
    assert bench.count() == bench.count("dead") == 0


def test_it_stays_in_hand_while_its_place_is_missing(bench: Bench) -> None:
    """A rejection would be lost here: the broker drops what it cannot dead-letter."""
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.publish("1 / 0", *["result = True"] * 20)
    worker = bench.start("work", VERBS, **DEAD)
    worker.says("queue dead does not exist")
    worker.told(X_PROCESSED="20")
    bench.queue("dead")
    assert dead(bench)[1] == "1 / 0"
    assert worker.log.count("begins 1 / 0") == 1
    assert worker.stop() == 0
    assert bench.count() == 0


def test_it_stays_in_hand_while_its_place_is_full(bench: Bench) -> None:
    bench.queue("dead", max_length=0, overflow="reject-publish")
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="dead")
    bench.publish("1 / 0")
    worker = bench.start("work", VERBS, **DEAD)
    worker.says("queue dead takes nothing now")
    assert worker.stop() == 0  # then it goes back to its queue
    assert bench.take() == ["1 / 0"]


def test_a_stop_waits_for_the_copy(bench: Bench) -> None:
    topology(bench)
    bench.publish("Path('here').touch(); [time.sleep(0.02) for _ in iter(Path('go').exists, True)]; 1 / 0")
    worker = bench.start("work", VERBS, **DEAD)
    until((bench.root / "here").exists)
    worker.popen.terminate()
    worker.says("told to stop")
    (bench.root / "go").touch()
    assert worker.ended() == 0
    assert bench.count("dead") == 1
    assert bench.count() == 0


def test_a_lost_connection_loses_none(bench: Bench, proxy: Proxy, vhost: TestVhost) -> None:
    topology(bench)
    bodies = [f"{n} / 0" for n in range(150)]
    bench.publish(*bodies)
    worker = bench.start("work", VERBS, AMQP_URL=proxy.url, **DEAD)
    until(lambda: bench.count("dead") > 30)
    proxy.down()
    worker.told(RELOADING="1")
    proxy.up()
    worker.says("consuming from q", 2)
    found: set[str] = set()  # some are there twice, so their number tells nothing
    until(lambda: found.update(bench.take("dead")) or found == set(bodies), 60, lambda: set(bodies) - found)
    until(lambda: vhost.queues()["q"]["messages"] == 0)  # nor is any in hand
    assert worker.stop() == 0
    assert set(bench.take("dead")) <= set(bodies)
    assert bench.count() == 0


def test_a_broker_that_is_killed_loses_none(tmp_path: Any, own_broker: Any) -> None:
    bench = Bench(tmp_path, own_broker.amqp_url)
    topology(bench)
    bench.channel.confirm_delivery()
    bodies = [f"{n} / 0" for n in range(200)]
    bench.publish(*bodies)
    worker = bench.start("work", VERBS, **RETRY)
    worker.says("begins", 200)
    own_broker.kill()
    worker.told(RELOADING="1")
    own_broker.start()
    found: set[str] = set()
    until(lambda: found.update(bench.take("dead")) or found == set(bodies), 60, lambda: set(bodies) - found)
    assert worker.stop() == 0
    bench.close()


VERBS_AND_PROPERTIES = VERBS.replace('"ch": ch,', '"ch": ch, "properties": properties,')
