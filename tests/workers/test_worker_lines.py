"""What stands in a line besides its text: whose it is, and over which message; as text and as JSON."""

from __future__ import annotations

import json
import re
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.journal.levels import LEVELS, level_of
from reconciler.journal.stamps import time_of
from tests.workers.worker_bench import VERBS, Bench
from workers.runtime.hand import LONGEST_ID, Hand, one_word
from workers.runtime.lines import dumps

LINE = re.compile(r"(\S+Z) ([A-Z]+) +\[(\S+)/(\S+) (\d+)(?: (\S+))?\] (.*)")


def publish(bench: Bench, body: str, message_id: str) -> None:
    bench.channel.basic_publish("", "q", body.encode(), pika.BasicProperties(message_id=message_id))


@given(st.text())
def test_an_id_is_one_bounded_word(text: str) -> None:
    word = one_word(text)
    assert re.fullmatch(r"[^\s\[\]]*", word)
    assert word.isprintable()
    assert len(word) == min(len(text), LONGEST_ID)


def test_an_id_that_needs_no_change_has_none() -> None:
    assert one_word("0190b8a2-7c4e:é/ü#1") == "0190b8a2-7c4e:é/ü#1"


def test_time_in_handlers_adds_up_and_the_label_goes() -> None:
    hand = Hand()
    assert (hand.label, hand.since, hand.busy_seconds) == ("", None, 0.0)
    hand.take(SimpleNamespace(redelivered=True, delivery_tag=12), SimpleNamespace(message_id=""))  # type: ignore[arg-type]
    assert (hand.label, hand.redelivered) == ("#12", 1)
    first = hand.busy_seconds
    assert 0.0 < first < hand.busy_seconds  # it runs
    hand.put_down()
    done = hand.busy_seconds
    assert done == hand.busy_seconds > first
    assert (hand.label, hand.since) == ("", None)


def test_every_line_says_whose_it_is(bench: Bench) -> None:
    bench.queue()
    publish(bench, "import logging; logging.getLogger('mine').error('std')", "order-7")
    publish(
        bench,
        "import threading; t = threading.Thread(target=self.logger.info, args=['aside']); t.start(); t.join()",
        "a b\n]c",
    )
    bench.publish("self.logger.bind(x=1).opt(colors=True).info('<red>plain</red> {z}', z='{')")
    worker = bench.start("work", VERBS)
    worker.says("ends ", 3)
    assert worker.stop() == 0
    found = [LINE.fullmatch(line) for line in worker.log.splitlines()]
    assert all(found), worker.log
    lines = [match.groups() for match in found if match]
    assert {(queue, name, pid) for _, _, queue, name, pid, _, _ in lines} == {("q", "work", str(worker.pid))}
    by_text = {text: (level, label) for _, level, _, _, _, label, text in lines}
    assert by_text["std"] == ("ERROR", "order-7")
    assert by_text["aside"] == ("INFO", "a_b__c")
    assert by_text["plain {"] == ("INFO", "#3")
    assert by_text["worker work stops: 3 processed, 0 failed"] == ("INFO", None)
    assert all(level_of(line) in LEVELS.values() and time_of(line) for line in worker.log.splitlines())


def test_json_is_one_object_a_line(bench: Bench) -> None:
    bench.queue()
    publish(bench, "self.logger.bind(order=7, when=Path('x'), bad=float('nan')).info('two\\nlines {y}', y='ü')", "id 1")
    bench.publish("1 / 0", "import logging; logging.getLogger('mine').error('std')")
    worker = bench.start("work", VERBS, LOG_FORMAT="JSON")
    worker.says("ends ", 2)
    assert worker.stop() == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in worker.log.splitlines()]
    keys = ["time", "level", "queue", "worker", "pid", "message_id", "message"]
    assert all(list(line)[:7] == keys and set(line) <= {*keys, "exception", "extra"} for line in lines)
    assert {(line["queue"], line["worker"], line["pid"]) for line in lines} == {("q", "work", worker.pid)}
    assert all(datetime.fromisoformat(line["time"]) for line in lines)
    (bound,) = [line for line in lines if "extra" in line]
    assert (bound["message"], bound["message_id"], bound["level"]) == ("two\nlines ü", "id_1", "INFO")
    assert bound["extra"] == {"order": 7, "when": "x", "bad": "nan", "y": "ü"}
    (failed,) = [line for line in lines if "exception" in line]
    assert failed["message"] == "message 2 failed: ZeroDivisionError: division by zero"
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert failed["exception"].endswith("\nZeroDivisionError: division by zero")
    assert {line["message_id"] for line in lines} == {None, "id_1", "#2", "#3"}
    assert all(level_of(line) is not None for line in worker.log.splitlines())


def test_a_wrong_format_is_text(bench: Bench) -> None:
    bench.queue()
    bench.start("work", VERBS, LOG_FORMAT="xml").says(r"WARNING \[q/work \d+\] LOG_FORMAT is 'xml': taken as text")


def test_lines_before_there_are_settings(bench: Bench) -> None:
    worker = bench.start("work", VERBS, QUEUE_NAME="")
    assert worker.ended() == 1
    assert re.search(r"ERROR   \[-/work \d+\] QUEUE_NAME is not set", worker.log)


class Rude:
    def __str__(self) -> str:
        raise ValueError("no")

    def __repr__(self) -> str:
        return "rude"


@pytest.mark.parametrize(
    "value", [Rude(), {("a", "b"): 1}, float("inf"), [object()]], ids=["rude", "keys", "inf", "any"]
)
def test_whatever_is_bound_becomes_json(value: object) -> None:
    assert json.loads(dumps({"message": "m", "extra": {"x": value}}))["extra"]["x"]
