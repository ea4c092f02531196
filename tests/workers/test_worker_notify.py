"""The sd_notify side: what is told, how often, and that a deaf supervisor harms nobody."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.workers.worker_bench import VERBS, Bench
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
    reporter = Reporter(notifier, clock, "w-0-1", counters)  # type: ignore[arg-type]
    return SimpleNamespace(clock=clock, notifier=notifier, counters=counters, reporter=reporter)


def test_states_are_told_at_once_and_in_full(parts: SimpleNamespace) -> None:
    parts.reporter.ready("consuming\nfrom q")
    assert parts.notifier.sent == [
        "READY=1\nSTATUS=consuming from q\nX_CONSUMER_TAG=w-0-1\nX_PROCESSED=0\nX_FAILED=0\nX_BUSY=0\nWATCHDOG=1"
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


def test_a_state_that_could_not_be_sent_is_sent_later(parts: SimpleNamespace) -> None:
    parts.notifier.deaf = True
    parts.reporter.ready("x")
    parts.clock.advance(5)
    parts.notifier.deaf = False
    parts.clock.advance(5)
    assert len(parts.notifier.sent) == 1
    parts.clock.advance(60)
    assert len(parts.notifier.sent) == 1


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
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0reconciler-test-notify")
        assert Notifier("@reconciler-test-notify").send("x")
        assert receiver.recv(10) == b"x"


def test_a_busy_worker_tells_at_most_once_a_second(bench: Bench) -> None:
    bench.queue()
    worker = bench.start("work", VERBS).ready()
    bench.publish(*["time.sleep(0.01)"] * 150)
    last = worker.told(X_PROCESSED="150", X_BUSY="0")
    ready = [one for one in worker.heard if one.get("READY")]
    seconds = float(last["at"]) - float(ready[0]["at"])
    assert len(ready) <= seconds + 2
    assert any(one["X_BUSY"] == "1" for one in ready)


def test_without_a_supervisor_it_works_all_the_same(bench: Bench) -> None:
    bench.queue()
    bench.publish("result = True")
    worker = bench.start("work", VERBS)
    Path(bench.root / "notify0").unlink()
    worker.says("ends ")
    assert worker.stop() == 0
