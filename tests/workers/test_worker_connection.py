"""The broker goes away and comes back, is slow, refuses, loses the queue: the process stays, and consumes again."""

from __future__ import annotations

import time

from tests.workers.worker_bench import VERBS, Bench, Proxy, until
from workers.runtime.link import Backoff


def test_a_handler_outlasts_many_heartbeats(bench: Bench) -> None:
    bench.queue()
    busy = "end = time.monotonic() + 2\nwhile time.monotonic() < end: pass"
    bench.publish(f"time.sleep(8.5)\n{busy}")
    worker = bench.start("work", VERBS, AMQP_URL=bench.url + "?heartbeat=2")
    worker.says("ends ", seconds=60)
    worker.told(X_PROCESSED="1", X_BUSY="0")
    assert worker.log.count("begins ") == worker.log.count("consuming from q") == 1
    assert worker.stop() == 0
    assert bench.count() == 0


def test_the_broker_goes_away_and_comes_back(bench: Bench, proxy: Proxy) -> None:
    bench.queue()
    worker = bench.start("work", VERBS, AMQP_URL=proxy.url).ready()
    proxy.down()
    lost = worker.told(RELOADING="1")
    assert "was lost" in lost["STATUS"]
    assert "X_CONSUMER_TAG" in lost
    worker.says("not consuming: cannot connect to the broker at 127.0.0.1:.*: Connection refused")
    time.sleep(1.5)  # many attempts, said once
    assert worker.log.count("cannot connect") == 1
    assert "Traceback" not in worker.log
    proxy.up()
    bench.publish("result = 'back'")
    worker.says("ends result = 'back'")
    until(lambda: worker.heard[-1].get("READY") == "1", what=lambda: worker.heard)
    assert worker.popen.poll() is None


def test_who_has_waited_for_long_tries_every_two_seconds() -> None:
    """So that all consume again five seconds after the broker is back."""
    backoff = Backoff()
    waits = [backoff.next() for _ in range(1000)]
    assert waits[0] < 0.2
    assert max(waits) <= 2.0


def test_the_queue_is_deleted_and_made_again(bench: Bench) -> None:
    bench.queue()
    bench.publish("time.sleep(0.5)")
    worker = bench.start("work", VERBS).ready()
    worker.says("begins ")
    bench.channel.queue_delete("q")
    assert worker.told(RELOADING="1")["STATUS"] == "queue q was deleted"
    worker.says("not consuming: queue q does not exist")
    bench.queue()
    bench.publish("result = 'again'")
    worker.says("ends result = 'again'")
    assert worker.stop() == 0
    assert bench.count() == 0


def test_a_worker_that_comes_before_its_queue_waits_for_it(bench: Bench) -> None:
    worker = bench.start("work", VERBS)
    assert "queue q does not exist" in worker.told(STATUS="queue q does not exist (the reconciler makes it, "
                                                   "if it is in queues.yaml)")["STATUS"]  # fmt: skip
    assert all("RELOADING" not in one for one in worker.heard)
    bench.queue()
    worker.ready()
    assert bench.consumers() == 1


def test_a_wrong_password_is_said_and_tried_again(bench: Bench) -> None:
    bench.queue()
    wrong = (
        bench.url.replace("://", "://nobody:x@")
        if "@" not in bench.url
        else "amqp://nobody:x@" + bench.url.split("@")[1]
    )
    worker = bench.start("work", VERBS, AMQP_URL=wrong)
    worker.says("refused the user or the password")
    assert worker.popen.poll() is None
    assert "nobody:x" not in worker.log
    assert worker.stop() == 0


def test_what_the_broker_shows_of_a_worker(bench: Bench) -> None:
    bench.queue()
    worker = bench.start("work", VERBS, SLOT="3").ready()
    assert worker.told(READY="1")["X_CONSUMER_TAG"] == f"work-3-{worker.pid}"
    assert bench.consumers() == 1
