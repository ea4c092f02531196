"""The broker goes away, the daemon is killed, the disk fills up: what goes on, and that nothing is lost."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.exceptions import AMQPError

from tests.live.sites import RECORD, Site, end, lines_in, processes_of, site_on, zygotes_of
from tests.nodes import FLUSH, TestNode, ctl
from tests.system import System
from tests.waiting import eventually

WORK = "version: 1\nqueues:\n  work:\n    workers:\n      record: {}\n"


class Load:
    """Publishes numbered messages one by one until told to stop, reconnecting; remembers what was confirmed."""

    def __init__(self, amqp_url: str) -> None:
        self.confirmed: list[str] = []
        self._url = amqp_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        numbers = itertools.count()
        while not self._stop.is_set():
            with contextlib.suppress(AMQPError, OSError):
                self._publish(numbers)
            self._stop.wait(0.1)

    def _publish(self, numbers: Iterator[int]) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            while not self._stop.is_set():
                number = str(next(numbers))
                channel.basic_publish("", "work", number.encode(), pika.BasicProperties(delivery_mode=2))
                self.confirmed.append(number)
                self._stop.wait(0.002)
        finally:
            with contextlib.suppress(AMQPError):
                connection.close()


def grew(items: list[str], by: int) -> bool:
    """Waits until the list is longer by so many."""
    goal = len(items) + by
    return eventually(lambda: len(items) >= goal, within=60)


def all_processed(site: Site, load: Load) -> None:
    """Every message that was confirmed was processed at least once."""

    def check() -> bool:
        missing = set(load.confirmed) - set(site.recorded())
        assert not missing, f"{len(missing)} of {len(load.confirmed)} are missing"
        return True

    eventually(check, within=60, every=0.1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A node of this module's own, to be stopped and killed; each test leaves it running."""
    made = TestNode(tmp_path_factory.mktemp("outages") / "broker")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def outpost(node: TestNode, tmp_path: Path) -> Iterator[Site]:
    """A site, not running yet, on that node."""
    with site_on(node, tmp_path) as site:
        yield site
    node.start()


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    """A site, not running yet, on the session's node."""
    with site_on(broker, tmp_path) as site:
        yield site


# -- the broker --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(480)
def test_a_broker_that_stops_under_load_and_one_that_is_killed_cost_no_message_and_no_worker(
    outpost: Site, node: TestNode
) -> None:
    site = outpost
    site.write(WORK.format(4))
    site.start()
    site.settled()
    before = site.pids()
    with Load(site.vhost.amqp_url) as load:
        for end_broker in (node.stop, node.kill):
            grew(load.confirmed, by=200)
            end_broker()
            tells_that_the_broker_is_away(site)
            node.start()
            eventually(lambda: site.pids() == before)
            site.settled()
        grew(load.confirmed, by=200)
    all_processed(site, load)
    eventually(lambda: site.pids() == before)


@pytest.mark.timeout(480)
def test_an_embedded_broker_that_is_killed_is_started_again_and_costs_no_message(tmp_path: Path) -> None:
    system, out = System(tmp_path / "site", None, None), tmp_path / "out"
    out.mkdir()
    system.env["OUT"] = str(out)
    system.worker("record", RECORD)
    system.write(WORK.format(2))

    def ready() -> set[int]:
        return {worker["pid"] for worker in system.list_workers(state="ready")}

    try:
        system.start()
        before = eventually(lambda: len(found := ready()) == 2 and found)
        with Load(json.loads((system.state / "daemon.json").read_bytes())["amqp_url"]) as load:
            grew(load.confirmed, by=200)
            ctl(system.state / "broker", *FLUSH)
            os.kill(system.broker_pid(), signal.SIGKILL)
            said = system.log
            eventually(lambda: "has ended (killed by SIGKILL)" in said.read_text(errors="replace"))
            eventually(lambda: "the embedded broker is back" in said.read_text(errors="replace"), within=90)
            grew(load.confirmed, by=200)
        eventually(lambda: system.status()["healthy"] and ready() == before)
        eventually(lambda: set(load.confirmed) <= set(lines_in(out)), within=60)
    finally:
        system.stop()
        end(processes_of(system))


def tells_that_the_broker_is_away(site: Site) -> None:
    def told() -> bool:
        """All of it in one answer; at first it may be told that the connection was lost."""
        status = site.status()
        assert not status["broker"]["connected"]
        assert not status["synced"]
        assert not status["healthy"]
        assert "cannot be" in (status["broker"]["error"] or "")
        assert "broker" in (status["queues"]["work"]["reason"] or "")
        return True

    eventually(told)
    assert site.get("/healthz").status_code == 200, "a restart of the daemon would mend nothing"
    answer = site.publish("work", "lost?")
    assert answer.status_code == 503, answer.text
    assert "broker" in answer.json()["error"]
    assert len(site.list_workers()) == 4


@pytest.mark.timeout(300)
def test_a_daemon_started_without_a_broker_takes_edits_and_becomes_ready_when_it_comes(
    outpost: Site, node: TestNode
) -> None:
    site = outpost
    site.write(WORK.format(1))
    site.start()
    site.settled()
    node.stop()
    eventually(lambda: not site.status()["broker"]["connected"])
    assert site.stop() == 0
    site.start(ready=False)
    answer = site.get("/readyz")
    assert answer.status_code == 503
    assert "broker" in answer.json()["error"]
    assert site.get("/healthz").status_code == 200
    # Before the first turn has ended /status is an error, too.
    eventually(lambda: "cannot be reached" in (site.status().get("broker", {}).get("error") or ""))
    site.write("version: 1\nqueues:\n  other: {}\n")
    assert site.post("/queue/create", {"queue_name": "by-rest"}, wait=0).status_code == 202
    node.start()
    eventually(lambda: site.get("/readyz").status_code == 200)
    site.settled()
    eventually(lambda: site.queues() == {"other", "by-rest"})


# -- the daemon --------------------------------------------------------------------------------------------------


def test_a_killed_daemon_is_not_missed_and_the_next_one_adopts_its_workers(site: Site) -> None:
    site.write(WORK.format(3))
    site.start()
    site.settled()
    before = site.pids()
    with Load(site.vhost.amqp_url) as load:
        grew(load.confirmed, by=100)
        site.kill()
        seen = len(site.recorded())
        eventually(lambda: len(site.recorded()) > seen + 50, within=60)
        site.start()
        eventually(lambda: site.pids() == before)
        assert site.process is not None
        alone = {*before, site.process.pid}
        eventually(lambda: processes_of(site) - zygotes_of(site) == alone)  # a check comes and goes
        grew(load.confirmed, by=100)
    all_processed(site, load)
    assert {w["restarts"] for w in site.list_workers()} == {0}
    site.settled()


def test_a_worker_that_died_while_no_daemon_was_there_is_replaced(site: Site) -> None:
    site.write(WORK.format(2))
    site.start()
    site.settled()
    first, second = site.pids()
    site.kill()
    end([first])
    eventually(lambda: first not in processes_of(site))
    site.start()
    eventually(lambda: len(site.pids()) == 2)
    assert second in site.pids()
    assert first not in site.pids()


def test_the_file_may_change_while_no_daemon_is_there(site: Site) -> None:
    site.write(WORK.format(3))
    site.start()
    site.settled()
    before = site.pids()
    site.kill()
    site.write(WORK.format(1))
    site.start()
    eventually(lambda: len(site.list_workers()) == 1)
    assert site.pids() < before
    eventually(lambda: len(processes_of(site) - zygotes_of(site)) == 2)


# -- the disk ----------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_nothing_and_is_told(site: Site) -> None:
    """No file of the daemon can grow, as on a full disk."""
    site.write(WORK.format(2))
    site.start()
    site.settled()
    before = site.pids()
    assert site.process is not None
    _, most = resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (0, most))
    site.write(WORK.format(3) + "  fresh: {}\n")

    def told() -> bool:
        reason = site.status()["queues"].get("fresh", {}).get("reason") or ""
        assert "ledger cannot be written: File too large (free disk space" in reason, reason
        return True

    eventually(told)
    site.send("work", ["1", "2", "3"])
    eventually(lambda: sorted(site.recorded()) == ["1", "2", "3"])
    eventually(lambda: len(site.pids()) == 3)
    assert before < site.pids()
    answer = site.post("/queue/create", {"queue_name": "by-rest"})
    assert answer.status_code in (409, 507)
    assert "cannot be written" in answer.json()["error"]
    assert site.text == WORK.format(3) + "  fresh: {}\n"
    resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (most, most))
    site.settled(within=40)
    assert site.queues() == {"work", "fresh"}
