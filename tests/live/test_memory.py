"""A daemon that starts with an old memory, or none, takes nothing away before it has judged the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

ONE = "version: 1\nqueues:\n  one: {workers: {echo: 1}}\n"
TWO = ONE + "  two: {}\n"
FAULTY = "  bad: {unknown: 1}\n"


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as made:
        yield made


def ran(site: Site, text: str) -> set[int]:
    """The site after a daemon that ran with this file and was killed: its workers."""
    site.write(text)
    site.start()
    site.settled()
    pids = site.pids()
    site.kill()
    return pids


def turned(site: Site) -> None:
    """Waits for two whole turns."""
    for _ in range(2):
        assert site.post("/sync", {}).status_code == 200


def test_beside_a_faulty_file_a_lost_memory_costs_no_queue_and_no_worker(site: Site) -> None:
    pids = ran(site, TWO)
    (site.state / "last-good.yaml").unlink()
    site.write(TWO + FAULTY)
    site.start()
    turned(site)
    status = site.status()
    assert ("unknown" in status["file_error"], status["synced"]) == (True, False)
    assert (site.queues(), site.pids()) == ({"one", "two"}, pids)
    site.write(ONE)
    site.settled()
    assert (site.queues(), site.pids()) == ({"one"}, pids)


def test_beside_a_faulty_file_an_old_memory_takes_nothing_away_and_mends_what_is_missing(site: Site) -> None:
    ran(site, ONE)
    memory = (site.state / "last-good.yaml").read_bytes()
    site.start()
    site.write(TWO.replace("two: {}", "two: {workers: {record: 1}}"))
    site.settled()
    pids = site.pids()
    site.kill()
    (site.state / "last-good.yaml").write_bytes(memory)  # as on a full disk
    site.write(TWO + FAULTY)
    site.vhost.delete("queues", "one")
    site.start()
    eventually(lambda: site.queues() == {"one", "two"})
    turned(site)
    assert site.queues() == {"one", "two"}
    eventually(lambda: site.pids() == pids)


def test_a_good_file_without_a_memory_is_as_it_was(site: Site) -> None:
    pids = ran(site, TWO)
    (site.state / "last-good.yaml").unlink()
    site.start()
    site.settled()
    assert site.pids() == pids
    assert "delete queue" not in site.said()


def test_what_apply_made_while_no_daemon_was_there_is_not_made_again(site: Site) -> None:
    ran(site, ONE)
    site.write(ONE + "  fresh: {}\n")
    assert site.cli("apply", "--yes").returncode == 0
    said = len(site.said())
    site.start()
    site.settled()
    assert site.queues() == {"one", "fresh"}
    assert "delete queue" not in site.said()[said:]


def test_no_almost_empty_file_is_started_in_the_place_of_one_that_was_lost(site: Site) -> None:
    ran(site, TWO)
    (site.state / "last-good.yaml").unlink()
    site.file.unlink()
    site.start()
    assert site.post("/queue/create", {"queue_name": "x"}).status_code == 409
    turned(site)
    assert not site.file.exists()
    assert site.queues() == {"one", "two"}
