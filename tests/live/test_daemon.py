"""`reconciler run` as a process: how it starts, what it refuses to start with, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.live.sites import Site, is_alive, processes_of, site_on
from tests.nodes import TestNode
from tests.system import System
from tests.waiting import eventually

# Nobody waits as long as that grace here: what ends does so for another reason.
HOLDING = "version: 1\nqueues:\n  work:\n    workers:\n      hold: {prefetch: 1, grace: 600}\n"


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as made:
        yield made


def refuses(system: System, *words: str) -> None:
    """The daemon does not start, and says why in one line that holds these words."""
    done = system.cli("run")
    assert done.returncode == 1, done.stderr
    line, *more = done.stderr.splitlines()
    assert not more, done.stderr
    assert all(word in line for word in words), line
    assert "Traceback" not in line


# -- starting ----------------------------------------------------------------------------------------------------


def test_port_0_picks_a_free_port_and_prints_it(site: Site) -> None:
    site.start()
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+", site.said())
    assert url == site.url
    assert httpx.get(f"{url}/healthz", timeout=60, trust_env=False).status_code == 200


def test_a_second_daemon_on_the_same_state_names_the_first(site: Site) -> None:
    site.start()
    assert site.process is not None
    refuses(site, "already", f"pid {site.process.pid}", site.url, "RECONCILER_STATE")
    assert site.get("/healthz").status_code == 200, "the first is not disturbed"


def test_the_lock_of_a_killed_daemon_stops_nobody(site: Site) -> None:
    site.start()
    site.kill()
    site.start()
    assert site.stop() == 0


def test_a_taken_port_is_named(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site.env["RECONCILER_PORT"] = str(taken.getsockname()[1])
        refuses(site, f"127.0.0.1:{taken.getsockname()[1]}", "in use", "RECONCILER_PORT")


def test_a_host_that_does_not_exist_is_named(site: Site) -> None:
    site.env["RECONCILER_HOST"] = "no.such.host.invalid"
    refuses(site, "no.such.host.invalid", "RECONCILER_HOST")


@pytest.mark.parametrize("url", ["http://localhost", "localhost:5672", "amqp://host:port", "amqp://h:99999"])
def test_an_amqp_url_that_is_none_is_named(site: Site, url: str) -> None:
    site.amqp_url = url
    refuses(site, "AMQP_URL")


def test_a_management_url_that_is_none_is_named(site: Site) -> None:
    site.management_url = "ftp://localhost"
    refuses(site, "MANAGEMENT_URL", "http://")


def test_a_state_folder_that_cannot_be_is_named(site: Site) -> None:
    site.env["RECONCILER_STATE"] = str(site.file / "var")
    refuses(site, str(site.file / "var"), "RECONCILER_STATE")
    blocked = site.folder / "blocked"
    (blocked / "lock").mkdir(parents=True)
    site.env["RECONCILER_STATE"] = str(blocked)
    refuses(site, str(blocked), "RECONCILER_STATE")


def test_a_file_that_does_not_exist_yet_is_waited_for(site: Site) -> None:
    site.file.unlink()
    site.start()
    assert "missing" in site.status()["file_error"]
    site.write("version: 1\nqueues:\n  first: {}\n")
    eventually(lambda: site.queues() == {"first"})


# -- stopping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_workers_finish_their_message(site: Site, number: signal.Signals) -> None:
    process = holding(site)
    process.send_signal(number)
    eventually(lambda: "stopping" in site.said())
    assert not site.done()
    assert process.poll() is None
    (site.out / "go").touch()
    assert process.wait(60) == 0
    assert site.done() == site.begun()
    eventually(lambda: site.vhost.queues()["work"]["messages"] == 0)
    eventually(lambda: not processes_of(site))  # what was killed takes the kernel a moment
    assert not (site.state / "daemon.json").exists()
    site.process = None


def test_a_second_signal_stops_at_once_and_the_message_is_not_lost(site: Site) -> None:
    process = holding(site)
    process.send_signal(signal.SIGINT)
    eventually(lambda: "once more to stop at once" in site.said())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, "long before the grace is over"
    assert not site.done()
    eventually(lambda: not processes_of(site))
    eventually(lambda: site.vhost.queues()["work"]["messages_ready"] == 1)
    site.process = None


def holding(site: Site) -> subprocess.Popen[bytes]:
    """The running daemon, its one worker in the middle of a message."""
    site.write(HOLDING)
    site.start()
    site.settled()
    site.send("work", ["one"])
    eventually(site.begun)
    assert site.process is not None
    return site.process


def test_a_stop_ends_the_streams_of_those_who_watch(site: Site) -> None:
    site.write("version: 1\nqueues:\n  work: {workers: {echo: 1}}\n")
    site.start()
    site.settled()
    (pid,) = site.pids()
    with httpx.Client(base_url=site.url, timeout=60, trust_env=False) as http:  # noqa: SIM117
        with http.stream("GET", "/events") as events, http.stream("GET", f"/logs/workers/stream_logs/{pid}") as lines:
            assert events.status_code == lines.status_code == 200
            assert site.stop() == 0
            for stream in (events, lines):
                stream.read()  # raises if it was cut off rather than ended


# -- the embedded broker -----------------------------------------------------------------------------------------


def test_without_a_broker_the_embedded_one_is_started_and_nothing_of_it_stays(tmp_path: Path) -> None:
    system = System(tmp_path / "site", None, None)
    system.write("version: 1\nqueues:\n  work: {workers: {echo: 1}}\n")
    try:
        system.start()
        status = system.settled()
        assert status["broker"]["management"] is True
        assert system.publish("work", "hello").status_code == 200
        names = {name_of(pid) for pid in processes_of(system)}
        assert "beam.smp" in names
    finally:
        assert system.stop(timeout=180) == 0
    eventually(lambda: not processes_of(system))
    assert "stopping the embedded broker" in system.log.read_text()


def test_a_stop_while_the_embedded_broker_starts_does_not_wait_for_it(tmp_path: Path) -> None:
    system = System(tmp_path / "site", None, None)
    with system.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reconciler", "run"], env=system.environment(), stdout=log, stderr=log
        )
    eventually(lambda: "starting node" in system.log.read_text())
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(120) == 0, system.log.read_text()
    _, _, after = system.log.read_text().partition("stopping: ")
    assert after
    assert "AMQP answers" not in after
    assert "Traceback" not in system.log.read_text()
    eventually(lambda: not processes_of(system))


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() if is_alive(pid) else ""
    except OSError:  # it has ended in between
        return ""
