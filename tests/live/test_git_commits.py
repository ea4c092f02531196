"""A file in a git work tree, in a running daemon: which commit it is of, and a commit for each write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.repositories import Repository
from tests.system import System

TEXT = "version: 1\nqueues:\n  emails: {workers: {echo: 2}}\n"
ANN = {"X-Reconciler-User": "Ünï Ann <uni@example.org>".encode()}


@pytest.fixture
def git(system: System) -> Repository:
    """The site's folder as a repository, with queues.yaml committed."""
    made = Repository(system.folder)
    made.write(".gitignore", "var/\ndaemon.log\n__pycache__/\n")
    made.commit("start", queues_yaml=TEXT, other="one\n", third="one\n")
    system.env["RECONCILER_GIT"] = "commit"
    return made


def scale(system: System, count: int) -> None:
    body = {"worker_name": "echo", "count": count}
    answer = system.request("POST", "/worker/scale/emails", json=body, headers=ANN)
    assert answer.status_code == 200, answer.text


def test_each_write_is_a_commit_of_the_file_alone_by_its_caller(system: System, git: Repository) -> None:
    git.write("other", "staged\n")
    git("add", "other")
    git.write("third", "changed\n")
    system.start()
    first = system.settled()["revision"]
    scale(system, 1)
    assert git.log("%an <%ae> %cn: %s", "-1") == ["Ünï Ann <uni@example.org> Ann: scale emails/echo 2 → 1"]
    assert git("show", "--name-only", "--format=").split() == ["queues.yaml"]
    assert git.show() == system.text.strip()
    assert system.status()["commit"] == git.head
    newest = system.get("/history").json()["revisions"][0]
    assert (newest["commit"], newest["text"], newest["via"]) == (git.head, "scale emails/echo 2 → 1", "api")
    system.cli("create", "audit")
    system.post("/queue/pause/audit", {"reason": "lunch"})
    system.post("/queue/resume/audit")
    system.post("/queue/clear/emails")
    system.delete("audit")
    system.post(f"/rollback/{first}")
    said = ["delete queue audit", "scale emails/echo 1 → 0", "resume audit", "pause audit: lunch", "create queue audit"]
    assert git.log()[:6] == [f"roll back to {first[:8]}", *said]
    assert git("status", "--short").split("\n") == ["M  other", " M third"]


def test_fifty_writes_at_once_are_fifty_commits(system: System, git: Repository) -> None:
    system.start()
    before = len(git.log())
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: system.post("/queue/create", {"queue_name": f"q{n}"}, wait=0), range(50)))
    assert {answer.status_code for answer in answers} <= {201, 202}
    assert sorted(git.log()[:50]) == sorted(f"create queue q{n}" for n in range(50))
    assert len(git.log()) == before + 50
    assert git("status", "--short") == ""


def test_the_commit_is_null_while_the_file_is_not_committed_and_told_once_it_is(
    system: System, git: Repository
) -> None:
    del system.env["RECONCILER_GIT"]
    system.start()
    assert system.settled()["commit"] == git.head
    system.write(TEXT + "  b: {}\n")
    assert system.settled()["commit"] is None
    assert system.get("/history").json()["revisions"][0]["via"] == "file"
    head = git.commit("by hand")
    assert system.status()["commit"] == head
    system.post("/sync")
    newest = system.get("/history").json()["revisions"][0]
    assert (newest["commit"], newest["by"]) == (head, "Ann <ann@example.org>")
    scale(system, 1)
    assert system.status()["commit"] is None, "without RECONCILER_GIT=commit nothing is committed"
    assert git.head == head
