"""The plan on a real broker: priced with live counts, and bound by its digest to the world that was looked at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from reconciler.oneshot import apply_once
from reconciler.review import Review
from reconciler.settings import Settings
from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.waiting import eventually

NAMES = [f"old{n}" for n in range(5)]


def listing(*names: str) -> str:
    return "version: 1\nqueues:\n" + "".join(f"  {name}: {{}}\n" for name in names)


@pytest.fixture
def still(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    """Five queues of ours that have left the file, and one that is to be made. No daemon."""
    with site_on(broker, tmp_path) as site:
        site.write(listing("stays", *NAMES))
        assert site.cli("apply", "--yes").returncode == 0
        site.write(listing("stays", "new"))
        yield site


def plan(site: Site) -> dict[str, Any]:
    found = site.cli("plan", "--json")
    assert found.returncode == 2, found.stderr
    return dict(json.loads(found.stdout))


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert "the plan is not what it was" in line
    return line


def test_apply_does_just_the_plan_that_was_reviewed_with_its_deletions(still: Site) -> None:
    digest = plan(still)["digest"]
    assert still.cli("apply", "--yes").returncode == 1, "five of six are too many without a word"
    still.write(listing("stays", "new", "newer"))
    assert "the file" in refused(still.cli("apply", "--plan", digest))
    assert still.queues() == {"stays", "new", *NAMES}
    digest = plan(still)["digest"]
    done = still.cli("apply", "--plan", digest)
    assert done.returncode == 0, done.stderr
    assert still.queues() == {"stays", "new", "newer"}


def test_a_message_in_a_queue_that_would_go_refuses_and_one_elsewhere_does_not(still: Site) -> None:
    before = plan(still)
    (still.folder / "plan.json").write_text(json.dumps(before))
    still.send("stays", ["a message more in another queue"])
    assert plan(still)["digest"] == before["digest"]
    still.send("old3", ["a message more in this one"])
    assert "the broker" in refused(still.cli("apply", "--plan", before["digest"]))
    line = refused(still.cli("apply", "--plan", "plan.json"))
    assert "queue old3 was classic, durable, 0 messages and is classic, durable, 1 messages" in line
    assert still.queues() == {"stays", *NAMES}
    held = {step["queue"]: step for step in plan(still)["held"]["actions"]}
    assert (held["old3"]["messages_ready"], held["old3"]["needs_confirmation"]) == (1, True)


def test_a_ledger_that_moved_refuses(still: Site) -> None:
    digest = plan(still)["digest"]
    ledger = still.state / "ledger.json"
    ledger.write_text(ledger.read_text().replace("delete-if-empty", "keep", 1))
    assert "what is ours (the ledger)" in refused(still.cli("apply", "--plan", digest))


def test_apply_says_what_is_wrong_with_a_plan_that_is_none(still: Site) -> None:
    for content in ("{}", '{"digest": 5, "basis": {"file": {}, "ledger": {}, "broker": {}}}'):
        (still.folder / "plan.txt").write_text(content)
        refused_as(still, "plan.txt", "not what reconciler plan")
    refused_as(still, "f00d", "neither the digest of a plan nor a file")


def refused_as(site: Site, given: str, wrong: str) -> None:
    done = site.cli("apply", "--plan", given)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert wrong in line


def test_apply_does_nothing_of_a_file_that_came_after_the_word(still: Site) -> None:
    still.write(listing("stays", "new", *NAMES[1:]))
    settings = Settings.build(str(still.file), amqp_url=still.amqp_url, management_url=still.management_url)

    def meanwhile(_: Review) -> None:
        still.write(listing("stays", "new", *NAMES[2:]))

    with pytest.raises(click.ClickException, match="the file was changed meanwhile"):
        apply_once(settings, None, None, meanwhile, lambda _: None)
    assert still.queues() == {"stays", "new", *NAMES[1:]}


def test_what_is_there_for_their_sake_makes_no_many_queues_few(still: Site) -> None:
    many = [f"m{n}" for n in range(9)]
    still.write(f"{listing('stays', *NAMES)}" + "".join(f"  {name}: {{dead_letter: {name}.dead}}\n" for name in many))
    assert still.cli("apply", "--yes").returncode == 0
    still.write(listing("stays") + "".join(f"  {name}: {{dead_letter: {name}.dead}}\n" for name in many))
    assert len(plan(still)["held"]["actions"]) == len(NAMES), "5 of 15 entries; of 24 queues it would be few"
    still.start()
    eventually(lambda: still.status()["held"])
    assert still.queues() >= set(NAMES)


def test_a_plan_names_the_queues_that_are_not_ours(still: Site, broker: TestNode) -> None:
    still.send("stays", [])
    with broker.api() as api:
        for name in ("theirs", "x|y"):
            api.put(
                f"/api/queues/{still.vhost.name.replace('/', '%2F')}/{name.replace('|', '%7C')}", json={"durable": True}
            )
    assert plan(still)["unmanaged"] == {"count": 2, "queues": ["theirs", "x|y"]}
    text = still.cli("plan").stdout
    assert "2 other queues on this vhost are not ours." in text
    markdown = still.cli("plan", "--format", "markdown")
    assert markdown.returncode == 2
    assert markdown.stdout.startswith("### Plan: 1 in place, 5 removals wait for a person\n")
    assert "<code>x&#124;y</code>" in markdown.stdout


def test_a_daemon_takes_the_word_for_just_the_plan_that_it_showed(still: Site) -> None:
    still.start()
    eventually(lambda: "new" in still.queues() and still.status()["held"])
    shown = still.get("/plan").json()
    assert len(shown["held"]["actions"]) == 5
    still.send("old3", ["late"])
    answer = still.post("/sync", {"confirm": shown["digest"]})
    assert answer.status_code == 409
    assert answer.json()["moved"] == ["queue old3 was classic, durable, 0 messages and is classic, durable, 1 messages"]
    assert still.queues() == {"stays", "new", *NAMES}
    done = still.cli("sync", "--confirm", "0" * 64)
    assert done.returncode == 1
    assert "the plan is not what it was: the file" in done.stderr
    assert still.post("/sync", {"confirm": "nonsense"}).status_code == 409
    digest = still.get("/plan").json()["digest"]
    assert still.cli("sync", "--confirm", digest).returncode == 2, "one of them is not empty, so it is held on"
    # Confirmed or not, no message is lost. A turn that was under way may have been the one that was waited for.
    eventually(lambda: still.queues() == {"stays", "new", "old3"})
