"""What a message or an exception may be like, and must not stop a worker over."""

from __future__ import annotations

import struct

import pytest

from reconciler.broker.raw import RawProperties, join, table_of
from tests.workers.worker_bench import VERBS, Bench, until


def test_a_header_with_a_moment_beyond_dates_is_handled_and_costs_no_other_message(bench: Bench) -> None:
    bench.queue(queue_type="quorum", delivery_limit=20)
    bench.queue("q.dead")
    bench.publish(*[f"print('good {n}')" for n in range(5)])
    milliseconds = table_of([(b"at", b"T", struct.pack(">Q", 1_700_000_000_000))])
    odd = RawProperties(join({"headers": milliseconds, "delivery_mode": b"\2"}))
    bench.channel.basic_publish("", "q", b"print('odd'); raise KeyError", odd)
    until(lambda: bench.count() == 6)
    worker = bench.start("work", VERBS, QUEUE_DEAD_LETTER="q.dead")
    worker.says("(?m)^good", 5)
    worker.says("(?m)^odd")
    until(lambda: bench.count("q.dead") == 1)
    assert "not consuming" not in worker.log


UNSHOWABLE = """
from .base import BaseWorker


class Api(Exception):
    def __getattr__(self, name):
        return self.args[0][name]


class Work(BaseWorker):
    def process_message(self, ch, method, properties, body):
        if body == b"api":
            raise Api({})
        raise SyntaxError("x", ("f", 3, 2, b"text"))
"""


@pytest.mark.parametrize("body", ["api", "syntax"])
@pytest.mark.parametrize("dead", ["", "q.dead"], ids=["rejected", "laid aside"])
def test_an_exception_that_cannot_be_shown_has_failed_all_the_same(bench: Bench, body: str, dead: str) -> None:
    bench.queue(dead_letter_exchange="", dead_letter_routing_key="q.dead")
    bench.queue("q.dead")
    bench.publish(body)
    worker = bench.start("work", UNSHOWABLE, QUEUE_DEAD_LETTER=dead)
    until(lambda: bench.count("q.dead") == 1 or worker.popen.poll() is not None)
    assert worker.popen.poll() is None, worker.log
    assert worker.stop() == 0
    assert bench.take("q.dead") == [body]


PUBLISHES = """
import pika
try:
    ch.basic_publish("", "out", b"x", pika.BasicProperties(headers={"a": "x" * 200_000}))
except ValueError as error:
    print("caught", error)
"""


def test_headers_that_no_frame_holds_are_the_handlers_error(bench: Bench) -> None:
    bench.queue()
    bench.queue("out")
    bench.publish(PUBLISHES, 'ch.basic_publish("", "out", b"after")')
    worker = bench.start("work", VERBS)
    worker.says("(?m)^caught the message's headers and properties have 200,")
    until(lambda: bench.count("out") == 1)
    assert worker.stop() == 0
