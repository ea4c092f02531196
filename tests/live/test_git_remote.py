"""The whole daemon on a branch of a remote repository: pushes come in by hook, writes go out as commits."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.repositories import Repository
from tests.shipping.test_lint import scripts_of
from tests.system import ECHO, System
from tests.waiting import eventually

TEXT = "version: 1\nqueues:\n  emails: {workers: {echo: 1}}\n"
SECRET = "hush, hush"


@pytest.fixture
def other(system: System, tmp_path: Path) -> Repository:
    """Somebody's clone of the remote that the daemon follows. The daemon's site has no file of its own."""
    remote = Repository(tmp_path / "remote.git", bare=True)
    made = Repository(tmp_path / "other")
    made("remote", "add", "origin", str(remote.folder))
    made.commit("start", live__queues_yaml=TEXT)
    made.push()
    system.file.unlink()
    system.env |= {
        "RECONCILER_FILE": "",
        "RECONCILER_GIT_URL": str(remote.folder),
        "RECONCILER_GIT_PATH": "live/queues.yaml",
        "RECONCILER_GIT_INTERVAL": "3600",
        "RECONCILER_GIT_SECRET": SECRET,
    }
    return made


def hook(system: System, body: bytes = b'{"ref": "refs/heads/main"}', **headers: str) -> httpx.Response:
    return system.request("POST", "/hooks/git", content=body, headers=headers)


def signed(body: bytes) -> str:
    return hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()


def push(system: System, other: Repository, text: str, **files: str) -> str:
    """Pushes as somebody else, calls the hook, and waits until that commit is known."""
    other.commit("edit", live__queues_yaml=text, **files)
    head = other.push()
    body = json.dumps({"ref": "refs/heads/main", "after": head}).encode()
    assert hook(system, body, **{"X-Hub-Signature-256": f"sha256={signed(body)}"}).status_code == 202
    eventually(lambda: system.status()["git"]["newest_commit"] == head)
    return head


def in_force(system: System, text: str) -> dict[str, Any]:
    def check() -> dict[str, Any]:
        status = system.status()
        assert status["revision"] == hashlib.sha256(text.encode()).hexdigest()
        assert status["synced"], status
        assert status["healthy"], status
        return status

    return eventually(check)


def test_what_the_branch_says_comes_into_force_and_what_rest_writes_is_pushed(
    system: System, other: Repository
) -> None:
    system.start()
    assert in_force(system, TEXT)["commit"] == other.head
    head = push(system, other, TEXT + "  audit: {}\n")
    assert in_force(system, TEXT + "  audit: {}\n")["commit"] == head
    newest = system.get("/history").json()["revisions"][0]
    assert (newest["via"], newest["by"], newest["commit"]) == ("git", "Ann <ann@example.org>", head)

    answer = system.request(
        "POST",
        "/worker/scale/emails",
        json={"worker_name": "echo", "count": 2},
        headers={"X-Reconciler-User": "Bo <bo@example.org>"},
    )
    assert (answer.status_code, answer.json()["current_count"]) == (200, 2)
    other("pull", "-q", "origin", "main")
    assert other.log("%an: %s", "-1") == ["Bo: scale emails/echo 1 → 2"]
    assert system.status()["commit"] == other.head

    # A bad newest commit: the one before stays in force, and the fault names the commit and the line.
    text = other.show("live/queues.yaml") + "\n"
    bad = push(system, other, text + "  broken: {typ: quorum}\n")
    status = eventually(lambda: s if (s := system.status())["file_error"] else None)
    assert status["file_error"].startswith("queues.yaml:5:12: queues.broken.typ:")
    assert bad[:12] in status["file_error"]
    assert status["commit"] == other("rev-parse", "HEAD~1")
    assert system.post("/queue/create", {"queue_name": "b"}).status_code == 409

    # The daemon killed, and the remote away: it goes on with what it had.
    system.kill()
    remote = Path(system.env["RECONCILER_GIT_URL"])
    remote.rename(remote.with_suffix(".away"))
    system.start()
    status = eventually(lambda: s if (s := system.status())["git"]["error"] else None)
    assert {"emails", "audit"} == set(status["queues"])
    assert len(system.list_workers()) == 2
    assert system.post("/queue/create", {"queue_name": "b"}).status_code in (409, 503)


def test_workers_come_with_the_repository_and_hear_no_secret(system: System, other: Repository) -> None:
    (system.workers / "echo.py").unlink()
    tell = ECHO.replace("import BaseWorker", "import BaseWorker\nimport os").replace(
        'info("got {}", body', 'info("env {} {}", sorted(os.environ), body'
    )
    other.commit("workers", live__workers__echo_py=tell)
    other.push()
    system.start()
    in_force(system, TEXT)
    assert system.status()["git"]["workers"] is True
    system.publish("emails", "hello")
    (worker,) = system.list_workers()

    def heard() -> str:
        lines = system.get(worker["log_url"]).json()["lines"]
        return next((str(line) for line in lines if "env [" in str(line)), "")

    said = eventually(heard)
    assert "RECONCILER_PORT" in said
    assert "RECONCILER_GIT_SECRET" not in said
    assert "RECONCILER_GIT_URL" not in said
    push(system, other, TEXT, live__workers__echo_py=ECHO.replace("got {}", "new code got {}"))
    eventually(lambda: {w["pid"] for w in system.list_workers()} - {None, worker["pid"]})
    assert SECRET not in json.dumps(system.status())


LAZY = """\
from .base import BaseWorker


class Lazy(BaseWorker):
    def process_message(self, ch, method, properties, body):
        from . import helper
        return helper.DONE
"""


def test_a_worker_that_runs_since_many_commits_finds_what_lay_beside_its_module(
    system: System, other: Repository
) -> None:
    text = TEXT.replace("echo", "lazy")
    other.commit(
        "workers", live__queues_yaml=text, live__workers__lazy_py=LAZY, live__workers__helper_py="DONE = True\n"
    )
    other.push()
    system.start()
    in_force(system, text)
    (worker,) = system.list_workers()
    for number in range(3):
        said = f"{text}# {number}\n"
        push(system, other, said, live__workers__other_py=f"x = {number}\n")
        in_force(system, said)
    system.publish("emails", "hello")
    eventually(lambda: [w["processed"] for w in system.list_workers()] == [1])
    (same,) = system.list_workers()
    assert (same["pid"], same["failed"]) == (worker["pid"], 0)


def test_the_hook_takes_the_signatures_of_the_forges_and_no_other(system: System, other: Repository) -> None:
    system.start()
    body = b'{"any": "thing"}'
    right = signed(body)
    good = [
        {"X-Hub-Signature-256": f"sha256={right}"},
        {"X-Hub-Signature-256": f"sha256={right}", "X-Hub-Signature": "sha1=whatever"},
        {"X-Hub-Signature": f"sha256={right}"},
        {"X-Gitlab-Token": SECRET},
        {"X-Gitea-Signature": right},
        {"X-Signature-256": f"sha256={right}"},
        {"X-Signature": right.upper()},
    ]
    for headers in good:
        for _ in range(2):  # again is harmless
            assert hook(system, body, **headers).status_code == 202
    wrong = [
        {"X-Hub-Signature-256": f"sha256={signed(b'other')}"},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": right[:-1]},
        {"X-Hub-Signature-256": "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()},
        {"X-Gitlab-Token": SECRET + "x"},
        {"X-Gitlab-Token": ""},
        {"X-Gitlab-Token": "ü"},
        {"X-Hub-Signature-256": f"sha256={right}", "X-Gitlab-Token": "no"},
    ]
    for headers in wrong:
        raw = {name: value.encode() for name, value in headers.items()}
        answer = system.request("POST", "/hooks/git", content=body, headers=raw)
        assert (answer.status_code, "signature is wrong" in answer.json()["error"]) == (403, True), headers
    assert hook(system, body).status_code == 401
    assert hook(system, body, **{"X-Hub-Signature": "sha1=0"}).status_code == 401
    assert hook(system, b"x" * (26 * 1024 * 1024), **{"X-Signature": "0" * 64}).status_code == 413


def test_a_hook_that_nobody_has_asked_for_is_refused(live_system: System) -> None:
    assert hook(live_system, b"{}", **{"X-Hub-Signature-256": "sha256=0"}).status_code == 404


def test_no_password_of_the_url_is_shown_anywhere(system: System, other: Repository) -> None:
    password = secrets.token_hex()  # which no other process on this machine has among its arguments
    system.env["RECONCILER_GIT_URL"] = f"https://ann:{password}@127.0.0.1:1/repo.git"
    system.start(ready=False)
    eventually(lambda: system.get("/status").status_code == 200)
    status = eventually(lambda: s if (s := system.status())["git"]["error"] else None)
    assert status["git"]["url"] == "https://***@127.0.0.1:1/repo.git"
    listed = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    for shown in (json.dumps(status), system.log.read_text(), listed):
        assert password not in shown


@pytest.mark.parametrize("forge", ["github", "gitlab"])
def test_the_steps_of_the_workflows_check_and_plan_and_apply(system: System, forge: str) -> None:
    """The scripts of docs/ci, as they stand there, in a checkout with a broker."""
    system.write(TEXT)
    ours = Path(__file__).parents[2] / "docs" / "ci" / f"{forge}.yml"
    scripts = [line for line in scripts_of(yaml.safe_load(ours.read_text())) if line.startswith("reconciler ")]
    assert len(scripts) == 3
    env = system.environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for script in scripts:
        done = subprocess.run(["bash", "-e", "-c", script], cwd=system.folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "create" in (system.folder / "plan.md").read_text()
    assert system.cli("plan").returncode == 0
