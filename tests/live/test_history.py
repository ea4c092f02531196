"""The history of the file: what the endpoints and the commands say of it, and the way back."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from typing import Any

import pytest

from state.reader import revision_of
from tests.nodes import TestNode
from tests.system import System, revision
from tests.waiting import eventually

ONE = "version: 1\nqueues:\n  one: {}  # the first\n"
TWO = ONE + "  # a second comment: nothing is deleted on the way back, which might have to be confirmed\n"


def revisions(system: System) -> list[dict[str, Any]]:
    return list(system.get("/history").json()["revisions"])


def in_force(system: System, text: str) -> str:
    system.write(text)
    system.settled()
    return revision_of(text.encode())


@pytest.fixture(scope="module")
def running(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One daemon for all of them."""
    vhost = broker.make_vhost("history")
    made = System(tmp_path_factory.mktemp("history") / "site", vhost.amqp_url, vhost.management_url)
    made.start()
    yield made
    made.stop()
    broker.drop_vhost("history")


@pytest.fixture
def site(running: System) -> System:
    """With no queue, whatever the test before has left."""
    running.write("version: 1\nqueues: {}\n")

    def empty() -> bool:
        status = running.status()
        if status["held"]:
            running.post("/sync", {"confirm": status["revision"]})
        return bool(status["revision"] == revision(running.file) and status["synced"])

    eventually(empty)
    return running


def test_lists_each_revision_that_was_in_force_with_who_when_how_and_how_it_ended(site: System) -> None:
    by_hand = in_force(site, ONE)
    site.request("POST", "/queue/create", json={"queue_name": "b"}, headers={"X-Reconciler-User": "Ann <ann@x.org>"})
    site.cli("create", "c")
    c, b, first, *_ = revisions(site)
    assert (first["revision"], first["via"], first["by"]) == (by_hand, "file", getpass.getuser())
    assert (b["via"], b["by"], b["text"], b["result"]) == ("api", "Ann <ann@x.org>", "create queue b", "synced")
    assert (c["via"], c["by"], c["text"], c["result"]) == ("cli", getpass.getuser(), "create queue c", "synced")
    assert c["at"] > b["at"] > first["at"]
    assert c["revision"] == site.status()["revision"]


def test_a_revision_that_waits_for_a_person_is_held(site: System) -> None:
    in_force(site, "version: 1\nqueues: {" + ", ".join(f"q{n}: {{}}" for n in range(6)) + "}\n")
    site.write("version: 1\nqueues: {q0: {}}\n")

    def held() -> bool:
        newest = revisions(site)[0]
        return newest["result"] == "held" and bool(newest["reason"])

    eventually(held)
    site.post("/sync", {"confirm": site.status()["revision"]})
    eventually(lambda: revisions(site)[0]["result"] == "synced")


def test_rolling_back_writes_the_old_file_byte_by_byte_and_the_world_follows(site: System) -> None:
    old = "\ufeff" + ONE.replace("\n", "\r\n")
    revision = in_force(site, old)
    in_force(site, TWO)
    answer = site.request("POST", f"/rollback/{revision[:8]}?wait=60", headers={"X-Reconciler-User": "Bo"})
    assert answer.status_code == 200
    assert (answer.json()["revision"], answer.json()["converged"]) == (revision, True)
    assert site.file.read_bytes() == old.encode()
    assert list(site.settled()["queues"]) == ["one"]
    newest, two, first, *_ = revisions(site)
    assert (newest["via"], newest["by"], newest["text"]) == ("rollback", "Bo", f"roll back to {revision[:8]}")
    assert (newest["revision"], two["revision"], first["revision"]) == (revision, revision_of(TWO.encode()), revision)


def test_rolling_back_to_what_is_there_changes_nothing(site: System) -> None:
    revision = in_force(site, ONE)
    before = site.file.stat().st_mtime_ns
    answer = site.post(f"/rollback/{revision}")
    assert (answer.status_code, answer.json()["unchanged"]) == (200, True)
    assert site.file.stat().st_mtime_ns == before


@pytest.mark.parametrize(("revision", "status"), [("0" * 64, 404), ("zz", 404), ("%2F", 404), ("", 404)])
def test_an_unknown_revision_is_not_found(site: System, revision: str, status: int) -> None:
    for method, path in (("POST", "rollback"), ("GET", "history")):
        if revision or path == "rollback":
            answer = site.request(method, f"/{path}/{revision}")
            assert (answer.status_code, "error" in answer.json()) == (status, True)


def test_a_rollback_that_would_delete_much_is_held_as_any_edit(site: System) -> None:
    few = in_force(site, "version: 1\nqueues: {q0: {}}\n")
    in_force(site, "version: 1\nqueues: {" + ", ".join(f"q{n}: {{}}" for n in range(6)) + "}\n")
    answer = site.post(f"/rollback/{few}", None, wait=2)
    assert (answer.status_code, answer.json()["converged"]) == (202, False)
    # Two seconds may be too few for a turn; once it is in the file, rolling back again says where it stands.
    if (held := answer.json()["held"]) is None:
        held = eventually(lambda: site.post(f"/rollback/{few}", wait=2).json()["held"])
    assert held["needs_confirmation"]
    assert len(site.get("/queue/list").json()["queues"]) == 6


@pytest.mark.parametrize("broken", [b"", b"version: 1\nqueues: [\n", b"\xff\xfe", None])
def test_rolling_back_mends_a_file_that_is_broken_and_keeps_what_it_was(site: System, broken: bytes | None) -> None:
    revision = in_force(site, ONE)
    site.file.unlink() if broken is None else site.write(broken)
    eventually(lambda: bool(site.status()["file_error"]))
    assert site.post(f"/rollback/{revision}", wait=60).status_code == 200
    assert site.text == ONE
    site.settled()
    if broken is not None:
        kept = next(entry for entry in revisions(site) if entry["revision"] == revision_of(broken))
        assert (kept["in_force"], kept["result"]) == (False, "faults")
        assert site.get(f"/history/{kept['revision']}").content == broken


def test_the_history_outlives_the_daemon_and_a_restart_adds_nothing(site: System) -> None:
    revision = in_force(site, ONE)
    in_force(site, TWO)
    before = revisions(site)
    site.kill()
    site.start()
    site.settled()
    assert revisions(site) == before
    assert site.get(f"/history/{revision}").text == ONE


def test_the_commands_show_compare_and_go_back(site: System) -> None:
    one, two = in_force(site, ONE), in_force(site, TWO)
    listed = site.cli("history", "-n", "2")
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [f"*{two[:12]}", one[:12]]
    found = json.loads(site.cli("history", "--json").stdout)
    assert found["in_force"] == two
    now = site.cli("diff", one[:6])
    assert now.stdout.splitlines()[-1] == f"+{TWO.splitlines()[-1]}"
    assert site.cli("diff", two[:6], one[:6]).stdout.splitlines()[-1] == f"-{TWO.splitlines()[-1]}"
    assert site.cli("diff", two).stdout == ""
    wrong = site.cli("diff", "0000000")
    assert (wrong.returncode, "there is no revision 0000000" in wrong.stderr) == (1, True)
    back = site.cli("rollback", one[:6])
    assert (back.returncode, site.text) == (0, ONE)
