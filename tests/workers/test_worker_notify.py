"""The sd_notify side: what is told, how often, and that a deaf supervisor harms nobody."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.workers.worker_bench import VERBS, Bench, until
from workers.runtime import notify
from workers.runtime.notify import Notifier, Reporter


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        self.timers.append((self.now + delay, callback))
        return callback

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback in due:
            callback()


class FakeNotifier:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.deaf = False

    def send(self, text: str) -> bool:
        if not self.deaf:
            self.sent.append(text)
        return not self.deaf


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock, notifier = FakeClock(), FakeNotifier()
    counters = SimpleNamespace(processed=0, failed=0, outstanding=0)
    monkeypatch.setattr(notify.time, "monotonic", lambda: clock.now)
    hand = SimpleNamespace(redelivered=0, last=None, since=None, busy_seconds=0.0)
    reporter = Reporter(notifier, clock, SimpleNamespace(consumer_tag="w-0-1"), counters, hand)  # type: ignore[arg-type]
    return SimpleNamespace(clock=clock, notifier=notifier, counters=counters, hand=hand, reporter=reporter)


def sent(parts: SimpleNamespace) -> list[dict[str, str]]:
    return [dict(line.split("=", 1) for line in text.split("\n")) for text in parts.notifier.sent]


def test_states_are_told_at_once_and_in_full(parts: SimpleNamespace) -> None:
    parts.reporter.ready("consuming\nfrom q")
    assert parts.notifier.sent == [
        "READY=1\nSTATUS=consuming from q\nX_CONSUMER_TAG=w-0-1\nX_PROCESSED=0\nX_FAILED=0\nX_REDELIVERED=0\nX_BUSY=0\n"
        "X_IN_FLIGHT_SINCE=\nX_LAST_MESSAGE=\nWATCHDOG=1\nX_BUSY_SECONDS=0.000"
    ]
    parts.reporter.lost("gone")
    parts.reporter.stopping()
    parts.reporter.ready("too late")
    assert [text.split("\n")[0] for text in parts.notifier.sent] == [
        "READY=1",
        "RELOADING=1",
        "STOPPING=1",
        "STOPPING=1",
    ]


def test_counters_have_a_leading_and_a_trailing_edge(parts: SimpleNamespace) -> None:
    parts.reporter.ready("x")
    parts.clock.advance(5)
    assert not parts.clock.timers  # idle: nothing is scheduled
    for n in range(1, 1000):
        parts.counters.processed = n
        parts.reporter.changed()
    assert len(parts.notifier.sent) == 2
    assert "X_PROCESSED=1\n" in parts.notifier.sent[-1]
    parts.clock.advance(1)
    assert len(parts.notifier.sent) == 3
    assert "X_PROCESSED=999\n" in parts.notifier.sent[-1]
    parts.reporter.changed()  # no real change: not worth a datagram
    parts.clock.advance(1)
    assert len(parts.notifier.sent) == 3
    assert not parts.clock.timers


def test_a_handler_that_outlasts_a_second_is_told_of_and_its_end(parts: SimpleNamespace) -> None:
    parts.counters.outstanding = 1
    parts.reporter.changed()  # delivered, and not in hand as yet
    parts.hand.since = parts.hand.last = 1000.5
    parts.clock.advance(1)
    assert sent(parts)[-1].items() >= {"X_IN_FLIGHT_SINCE": "1000.500", "X_LAST_MESSAGE": "1000.500"}.items()
    parts.counters.outstanding = 0  # acked at once; the handler goes on for an hour, and nothing else happens
    for second in range(3600):
        parts.hand.busy_seconds = second
        parts.clock.advance(1)
    assert 3600 / notify.STEADY - 3 < len(parts.notifier.sent) < 3600 / notify.STEADY + 3
    assert float(sent(parts)[-1]["X_BUSY_SECONDS"]) > 3600 - 10
    assert sent(parts)[-1]["X_BUSY"] == "1"
    parts.hand.since = None
    parts.clock.advance(1)
    assert sent(parts)[-1].items() >= {"X_IN_FLIGHT_SINCE": "", "X_BUSY": "0"}.items()
    assert not parts.clock.timers


def test_a_heartbeat_twice_in_each_interval_however_idle(parts: SimpleNamespace) -> None:
    parts.reporter.keep_alive(10.0)
    for _ in range(60):
        parts.clock.advance(1)
    assert len(parts.notifier.sent) == 13
    assert all(one["WATCHDOG"] == "1" for one in sent(parts))


def test_what_the_last_second_brought_is_told_at_the_end(parts: SimpleNamespace) -> None:
    parts.reporter.ready("x")
    parts.counters.processed = 7
    parts.reporter.changed()
    parts.reporter.last_words()
    assert sent(parts)[-1]["X_PROCESSED"] == "7"


def test_a_state_that_could_not_be_sent_is_sent_later(parts: SimpleNamespace) -> None:
    parts.notifier.deaf = True
    parts.reporter.ready("x")
    parts.clock.advance(5)
    parts.notifier.deaf = False
    parts.clock.advance(5)
    assert len(parts.notifier.sent) == 1
    parts.clock.advance(60)
    assert len(parts.notifier.sent) == 1


def test_a_supervisor_that_is_only_busy_hears_it_at_once(parts: SimpleNamespace) -> None:
    """Many that become ready at the same time fill the kernel's queue of ten datagrams."""
    parts.notifier.deaf = True
    parts.reporter.ready("consuming from q")
    parts.clock.advance(0.02)
    parts.notifier.deaf = False
    parts.clock.advance(0.04)
    assert sent(parts)[-1]["READY"] == "1"


def test_a_notifier_never_blocks_or_fails(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    assert Notifier(None).send("x")
    notifier = Notifier(path)
    assert not notifier.send("nobody there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        assert notifier.send("there")
        while notifier.send("x" * 1000):
            pass  # until its buffer is full: an answer, not a wait
        assert receiver.recv(100) == b"there"
    assert not notifier.send("gone")


def test_an_abstract_address() -> None:
    name = f"reconciler-test-notify-{os.getpid()}"  # such names are the whole machine's
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        assert Notifier(f"@{name}").send("x")
        assert receiver.recv(10) == b"x"


def test_a_busy_worker_tells_at_most_once_a_second(bench: Bench) -> None:
    bench.queue()
    began = time.monotonic()  # not when the first one was heard, which may be late
    worker = bench.start("work", VERBS).ready()
    bench.publish(*["time.sleep(0.01)"] * 150)
    last = worker.told(X_PROCESSED="150", X_BUSY="0")
    ready = [one for one in worker.heard if one.get("READY")]
    assert len(ready) <= float(last["at"]) - began + 2
    assert any(one["X_BUSY"] == "1" for one in ready)


def test_without_a_supervisor_it_works_all_the_same(bench: Bench) -> None:
    bench.queue()
    bench.publish("result = True")
    worker = bench.start("work", VERBS)
    Path(bench.root / "notify0").unlink()
    worker.says("ends ")
    assert worker.stop() == 0


def test_the_numbers_of_a_worker(bench: Bench) -> None:
    bench.queue()
    bench.publish("[time.sleep(0.02) for _ in iter(Path('go').exists, True)]")
    began = time.time()
    worker = bench.start("work", VERBS)
    held = until(lambda: next((one for one in worker.heard if one["X_IN_FLIGHT_SINCE"]), None))
    since = float(held["X_IN_FLIGHT_SINCE"])
    assert began - 0.01 <= since <= time.time() + 0.01
    assert held["X_LAST_MESSAGE"] == held["X_IN_FLIGHT_SINCE"]
    least = time.time() - since
    (bench.root / "go").touch()
    worker.says("ends ")
    most = time.time() - since
    idle = worker.told(X_PROCESSED="1", X_IN_FLIGHT_SINCE="", X_REDELIVERED="0")
    assert least - 0.05 <= float(idle["X_BUSY_SECONDS"]) <= most + 0.05
    assert idle["X_LAST_MESSAGE"] == held["X_LAST_MESSAGE"]
    bench.publish("None if method.redelivered else ch.basic_nack(tag)")
    worker.told(X_REDELIVERED="1", X_PROCESSED="2", X_FAILED="1")
    assert worker.stop() == 0


def test_a_worker_that_stops_tells_all_it_has_done(bench: Bench) -> None:
    bench.queue()
    worker = bench.start("work", VERBS).ready()
    bench.publish("time.sleep(0.4)")
    worker.says("begins ")
    assert worker.stop() == 0  # within a second of what it told when the signal came
    last = {"STOPPING": "1", "X_PROCESSED": "1", "X_BUSY": "0", "X_IN_FLIGHT_SINCE": ""}
    until(lambda: worker.heard[-1].items() >= last.items(), what=lambda: worker.heard)


def test_heartbeats_go_on_while_it_is_idle_busy_or_without_a_broker(bench: Bench) -> None:
    bench.queue()
    worker = bench.start("work", VERBS, WATCHDOG_USEC="400000").ready()
    away = bench.start("work", VERBS, WATCHDOG_USEC="400000", AMQP_URL="amqp://127.0.0.1:1/")
    until(lambda: len(worker.heard) > 8 and len(away.heard) > 8)
    bench.publish("time.sleep(60)")
    worker.told(X_BUSY="1")
    heard = len(worker.heard)
    until(lambda: len(worker.heard) > heard + 8)


def test_a_hung_interpreter_sends_no_heartbeat(bench: Bench) -> None:
    bench.queue()
    bench.publish("print('hangs', flush=True); import re; re.match('(a+)+b', 'a' * 60)")  # holds the lock for years
    worker = bench.start("work", VERBS, WATCHDOG_USEC="200000")
    worker.says("(?m)^hangs")

    def silent() -> bool:  # for ten heartbeats; it may take a while until it hangs
        heard = len(worker.heard)
        time.sleep(1.0)
        return len(worker.heard) == heard

    until(silent)


def test_a_watchdog_of_another_process_is_not_ours(bench: Bench) -> None:
    bench.queue()
    worker = bench.start("work", VERBS, WATCHDOG_USEC="50000", WATCHDOG_PID="1").ready()
    heard = len(worker.heard)
    time.sleep(0.5)
    assert len(worker.heard) <= heard + 1
