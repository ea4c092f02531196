"""What workers say, who may say it, and what is made of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.supervisor.report import MAX_STATS, Report, parse
from state.processes import WorkerState
from tests.supervisor.support import TELL, spec, supervised
from tests.waiting import async_eventually

# Says whatever stands in the file TALK each time it is sent SIGUSR1.
PARROT = TELL + (
    "def on_usr1(*_):\n    tell(open(os.environ['TALK']).read())\n"
    "signal.signal(signal.SIGUSR1, on_usr1)\ntell('STATUS=listening')\nwait()\n"
)


def test_fields_of_a_datagram() -> None:
    assert parse(b"READY=1\nSTATUS=a=b\nX_CONSUMER_TAG=\n") == {
        "READY": "1",
        "STATUS": "a=b",
        "X_CONSUMER_TAG": "",
    }


@given(st.binary(max_size=2000))
def test_any_bytes_are_taken(datagram: bytes) -> None:
    report = Report()
    report.take(parse(datagram), 1.0)
    assert report.heartbeat_at == 1.0


def test_nonsense_is_ignored() -> None:
    report = Report()
    report.take(parse(b"\xff\xfe=1\nready=1\n=x\nREADY\nX_PROCESSED=many\nX_FAILED=-3\nX_BUSY=2"), 0.0)
    assert report == Report(heartbeat_at=0.0)


def test_numbers_of_a_report() -> None:
    report = Report()
    told = b"X_REDELIVERED=3\nX_IN_FLIGHT_SINCE=1795000000.125\nX_LAST_MESSAGE=1795000000\nX_BUSY_SECONDS=12.5"
    report.take(parse(told), 1.0)
    assert (report.redelivered, report.in_flight_since, report.last_message_at) == (3, 1795000000.125, 1795000000.0)
    assert report.busy_seconds == 12.5
    assert report.stats == {}
    before = replace(report, stats={})
    for nonsense in ("nan", "inf", "-1", "1e9", "1_0", "0x1", "1.", "9" * 40, "٣", "soon"):
        fields = ("X_REDELIVERED", "X_IN_FLIGHT_SINCE", "X_LAST_MESSAGE", "X_BUSY_SECONDS")
        report.take(parse("\n".join(f"{field}={nonsense}" for field in fields).encode()), 1.0)
        assert report == before
    report.take(parse(b"X_IN_FLIGHT_SINCE=\nX_LAST_MESSAGE=\nX_BUSY_SECONDS=\nX_REDELIVERED="), 1.0)
    assert report == replace(before, in_flight_since=None, last_message_at=None)


def test_stats_are_bounded() -> None:
    report = Report()
    for number in range(1000):
        report.take(parse(f"X_{number}={'v' * 5000}".encode()), 0.0)
    assert len(report.stats) == MAX_STATS
    assert max(len(value) for value in report.stats.values()) < 1000
    report.take(parse(b"X_0=new"), 0.0)
    assert report.stats["X_0"] == "new"


async def test_what_is_made_of_it(tmp_path: Path) -> None:
    talk = tmp_path / "talk"
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(PARROT, env={"TALK": str(talk)}), 0)
        await async_eventually(lambda: it.state() is WorkerState.STARTING and it.worker().reason == "listening")

        def say(text: str) -> None:
            talk.write_text(text)
            os.kill(it.worker().pid or 0, 10)

        say("READY=1\nX_CONSUMER_TAG=ct\nX_PROCESSED=5\nX_FAILED=1\nX_BUSY=1\nX_OTHER=o\nSTATUS=works")
        await async_eventually(lambda: it.state() is WorkerState.READY)
        worker = it.worker()
        assert (worker.consumer_tag, worker.processed, worker.failed, worker.busy) == ("ct", 5, 1, True)
        assert dict(worker.stats) == {"X_OTHER": "o"}
        assert worker.reason is None
        assert worker.heartbeat_at
        heard = len(it.events)
        say("WATCHDOG=1\nX_PROCESSED=6\nX_BUSY=0")
        await async_eventually(lambda: it.worker().processed == 6)
        assert len(it.events) == heard  # counters wake nobody
        say("RELOADING=1\nSTATUS=lost the broker")
        await async_eventually(lambda: it.state() is WorkerState.STARTING)
        assert it.worker().reason == "lost the broker"
        say("READY=1")
        await async_eventually(lambda: it.state() is WorkerState.READY)
        say("STOPPING=1\nSTATUS=enough")
        await async_eventually(lambda: it.state() is WorkerState.STOPPING)
        assert it.kinds() == ["started", "ready", "unready", "ready", "unready"]


async def test_strangers_are_not_heard(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(TELL + "tell('STATUS=mine')\nwait()"), 0)
        await async_eventually(lambda: it.worker().reason == "mine")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.connect(it.supervisor.notify_address)
            stranger.send(b"READY=1")
            stranger.send(b"x" * 100_000)
            stranger.send(b"")
        await asyncio.sleep(0.05)
        assert it.state() is WorkerState.STARTING


@pytest.mark.parametrize("helper", ["systemd-notify --ready", f"sh -c '{'sleep 0.05; '}exec systemd-notify --ready'"])
async def test_a_helper_speaks_for_its_worker(tmp_path: Path, helper: str) -> None:
    if not shutil.which("systemd-notify"):
        pytest.skip("needs systemd-notify")
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(command=("sh", "-c", f"{helper}; sleep 60"), grace=0.5), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)


async def test_the_last_words_of_a_process_count(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        script = TELL + "for n in range(5): tell(f'READY=1\\nX_PROCESSED={n}')\nos._exit(0)\n"
        it.supervisor.start_worker(spec(script), 0)
        await async_eventually(lambda: "exited" in it.kinds())
        assert it.supervisor.history()[-1].processed == 4


async def test_a_long_path_becomes_an_abstract_address(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    async with supervised(folder) as it:
        assert it.supervisor.notify_address.startswith("@reconciler-")
        it.supervisor.start_worker(spec(), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)


async def test_ten_thousand_datagrams(tmp_path: Path) -> None:
    script = TELL + (
        "address = os.environ['NOTIFY_SOCKET']\n"
        "out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nout.connect(address)\n"
        "for n in range(10001): out.send(f'READY=1\\nX_PROCESSED={n}'.encode())\nwait()\n"
    )
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(script), 0)
        await async_eventually(lambda: it.worker().processed == 10_000, 60)
        assert it.kinds() == ["started", "ready"]


async def test_one_that_says_nothing_is_told_so(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(command=("/bin/sleep", "1000"), grace=0.1), 0)
        await async_eventually(lambda: it.kinds() == ["started"])
        assert it.worker().reason == "it has not said READY=1 over NOTIFY_SOCKET yet"
