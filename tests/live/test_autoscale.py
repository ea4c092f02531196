"""Autoscaled pools on a real broker: up with the messages and down again, and never because something is not known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)

FILE = """\
version: 1
queues:
  work:
    workers:
      hold: {{autoscale: {{min: {min}, max: 4, backlog: 5, cooldown: {cooldown}, window: {window}}}, prefetch: 1}}
"""


def file(min: int = 0, cooldown: float = 1, window: float = 1) -> str:
    return FILE.format(min=min, cooldown=cooldown, window=window)


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as made:
        yield made


@pytest.fixture
def own_site(own_broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    """On a broker that may be killed."""
    with site_on(own_broker, tmp_path) as made:
        yield made


def run(site: Site, text: str) -> None:
    site.write(text)
    site.start()
    site.settled()


def pool(site: Site) -> dict[str, Any]:
    return dict(site.status()["queues"]["work"]["workers"]["hold"])


def number(site: Site) -> int:
    return int(pool(site)["autoscale"]["count"])


def reaches(site: Site, count: int, within: float = 60) -> None:
    """That many are ready, and the status says so."""

    def check() -> bool:
        found = pool(site)
        assert (found["desired"], found["ready"], len(site.pids())) == (count, count, count), found
        return True

    eventually(check, within)


def says(site: Site, reason: str) -> None:
    """Once all that was taken is counted again: a worker tells that it is busy within a second."""

    def check() -> bool:
        found = pool(site)["autoscale"]["reason"]
        assert found == reason, found
        return True

    eventually(check)


def go(site: Site) -> None:
    """Lets the workers finish their messages."""
    (site.out / "go").touch()


def test_from_zero_to_the_backlog_and_back_to_zero(site: Site) -> None:
    run(site, file(cooldown=3, window=3))
    autoscale = {"count": 0, "reason": "backlog 0 / 5", "min": 0, "max": 4}
    eventually(lambda: pool(site) == {"desired": 0, "ready": 0, "restarts": 0, "autoscale": autoscale})
    text = site.text
    site.send("work", map(str, range(12)))
    reaches(site, 3)
    says(site, "backlog 12 / 5")
    site.send("work", map(str, range(12, 100)))
    reaches(site, 4)
    says(site, "backlog 100 / 5, at most 4")
    go(site)
    reaches(site, 0)
    eventually(lambda: len(site.done()) == 100)
    assert site.text == text, "the number is not in the file"


def test_one_message_is_enough_for_a_worker_each_time(site: Site) -> None:
    run(site, file(cooldown=0.5, window=0))
    go(site)
    for attempt in range(4):
        reaches(site, 0)
        site.send("work", [f"m{attempt}"])
        eventually(lambda attempt=attempt: any(m.startswith(f"m{attempt}-") for m in site.begun()))  # type: ignore[misc]


def test_messages_that_are_being_worked_on_keep_their_workers(site: Site) -> None:
    """Nothing is ready any more, and none may go: all of them are busy.

    Window and cooldown are longer than a busy machine needs until it is known who is: a second, where nothing stalls.
    """
    run(site, file(cooldown=5, window=5).replace("backlog: 5", "backlog: 1"))
    site.send("work", ["a", "b", "c"])
    eventually(lambda: len(site.begun()) == 3)
    deadline = time.monotonic() + 12  # longer than window or cooldown and the statistics of the broker together
    while time.monotonic() < deadline:
        assert number(site) == 3, pool(site)
        time.sleep(0.2)
    go(site)
    reaches(site, 0)


def test_with_a_window_it_stays_up_and_says_why(site: Site) -> None:
    run(site, file(min=1, window=600))
    reaches(site, 1)
    site.send("work", map(str, range(20)))
    reaches(site, 4)
    go(site)
    eventually(lambda: len(site.done()) == 20)
    eventually(lambda: pool(site)["autoscale"]["reason"].startswith("stabilized: "))
    assert number(site) == 4
    assert "hold autoscaled: stabilized: " in site.cli("status").stdout


def test_without_a_broker_nothing_is_taken(own_site: Site, own_broker: TestNode) -> None:
    site = own_site
    run(site, file(cooldown=3, window=3))
    site.send("work", map(str, range(15)))
    reaches(site, 3)
    says(site, "backlog 15 / 5")
    reaches(site, 3)
    before = site.pids()
    own_broker.kill()
    eventually(lambda: pool(site)["autoscale"]["reason"] == "metric missing: kept 3")
    until = time.monotonic() + 9  # three times the window and the cooldown
    while time.monotonic() < until:
        assert number(site) == 3
        assert {worker["pid"] for worker in site.list_workers()} == before
        time.sleep(0.1)
    own_broker.start()
    go(site)
    reaches(site, 0, within=60)


def test_a_daemon_that_comes_back_goes_on_with_what_it_finds(site: Site) -> None:
    run(site, file(window=600, cooldown=600))
    site.send("work", map(str, range(15)))
    reaches(site, 3)
    go(site)
    eventually(lambda: len(site.done()) == 15)
    before = site.pids()
    site.kill()
    site.start()
    eventually(lambda: pool(site)["autoscale"]["reason"].startswith("cooling down"))
    assert number(site) == 3
    eventually(lambda: site.pids() == before)


def test_a_pool_that_becomes_autoscaled_begins_with_its_workers(site: Site) -> None:
    run(site, "version: 1\nqueues:\n  work:\n    workers:\n      hold: {count: 4, prefetch: 1}\n")
    before = site.pids()
    site.write(file(window=600, cooldown=600))
    site.settled()
    assert number(site) == 4
    assert site.pids() == before


def test_scaling_and_clearing_by_hand_answer_with_the_way_out(site: Site) -> None:
    run(site, file())
    text = site.text
    answer = site.post("/worker/scale/work", {"worker_name": "hold", "count": 3})
    assert answer.status_code == 409
    assert "change autoscale in queues.yaml" in answer.json()["error"]
    answer = site.post("/queue/clear/work")
    assert answer.status_code == 409
    assert "/queue/pause/work" in answer.json()["error"]
    assert site.text == text


def test_a_paused_queue_has_no_worker_and_can_be_cleared(site: Site) -> None:
    run(site, file(cooldown=600, window=600))
    site.send("work", map(str, range(15)))
    reaches(site, 3)
    go(site)
    eventually(lambda: len(site.done()) == 15)
    assert site.post("/queue/pause/work", {"reason": "stocktaking"}).status_code == 200
    eventually(lambda: not site.list_workers())
    site.send("work", ["x", "y"])
    answer = site.post("/queue/clear/work")
    assert (answer.status_code, answer.json()["messages_removed"]) == (200, 2)
    assert number(site) == 3
    assert site.post("/queue/resume/work").status_code == 200
    reaches(site, 3)


def test_count_beside_autoscale_is_refused_with_its_place(site: Site) -> None:
    site.write(file().replace("{autoscale", "{count: 2, autoscale"))
    done = site.cli("validate")
    assert done.returncode == 1
    assert "queues.work.workers.hold.count: count and autoscale exclude each other" in done.stderr + done.stdout
