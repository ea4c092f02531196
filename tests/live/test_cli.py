"""The command line as a person and a pipeline use it: what it prints, and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.system import System
from tests.waiting import eventually

ANSI = re.compile(r"\x1b\[")
TWO = "version: 1\nqueues:\n  plain: {}\n  work:\n    workers: {echo: 2}\n"


@pytest.fixture(scope="module")
def shared(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("cli")) as site:
        site.start()
        yield site


@pytest.fixture
def live(shared: Site) -> Site:
    """A running site with two queues, one of them with two workers."""
    shared.write(TWO)
    shared.settled()
    eventually(lambda: shared.queues() == {"plain", "work"})
    return shared


@pytest.fixture
def still(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    """A site with the same file on a broker that runs, but without a daemon."""
    with site_on(broker, tmp_path) as site:
        site.write(TWO)
        yield site


@pytest.fixture
def nowhere(tmp_path: Path) -> System:
    """A site with neither daemon nor broker."""
    return System(tmp_path / "site", None, None)


def says(site: System, *command: str, exit: int = 0) -> str:
    """What the command prints to a pipe, with that exit status."""
    done = site.cli(*command)
    assert done.returncode == exit, (done.stdout, done.stderr)
    assert not ANSI.search(done.stdout + done.stderr), "escape codes in a pipe"
    assert "Traceback" not in done.stderr
    return done.stdout


def refuses(site: System, *command: str) -> str:
    """The one line with which the command exits with 1."""
    done = site.cli(*command)
    assert done.returncode == 1, (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return line


# -- help --------------------------------------------------------------------------------------------------------


def test_help_lists_every_command_and_begins_with_a_first_round(nowhere: System) -> None:
    text = says(nowhere, "--help")
    for command in ("run", "validate", "plan", "apply", "status", "sync", "create", "scale", "publish", "clear"):
        assert f"\n  {command} " in text
    assert "reconciler scale emails send_email 5" in text
    for command in ("create", "scale", "publish", "logs"):
        assert f"  reconciler {command} " in says(nowhere, command, "--help"), "an example"
    run = says(nowhere, "run", "--help")
    for variable in ("AMQP_URL", "MANAGEMENT_URL", "RECONCILER_FILE", "RECONCILER_WORKERS", "RECONCILER_STATE"):
        assert variable in run
    for variable in ("RECONCILER_HOST", "RECONCILER_PORT", "RECONCILER_RESYNC"):
        assert variable in run


def test_a_command_of_a_later_version_says_so(nowhere: System) -> None:
    assert "not supported yet" in refuses(nowhere, "token")


def test_a_typing_error_never_looks_like_changes_to_be_made(nowhere: System) -> None:
    for command in (("plan", "--jsno"), ("status", "--jsno"), ("paln",), ("scale", "work", "echo", "many")):
        assert nowhere.cli(*command).returncode == 1


def test_schema_prints_the_json_schema(nowhere: System) -> None:
    schema = json.loads(says(nowhere, "schema"))
    assert schema["type"] == "object"
    assert "queues" in schema["properties"]


# -- validate ----------------------------------------------------------------------------------------------------


def test_validate_says_what_is_in_a_valid_file(nowhere: System) -> None:
    nowhere.write(TWO)
    assert says(nowhere, "validate").startswith("queues.yaml is valid: 2 queues, 2 workers, revision ")


def test_validate_prints_every_fault_with_its_place(nowhere: System) -> None:
    nowhere.write("version: 1\nqueues:\n  a: {tpye: quorum}\n  amq.b: {}\n")
    done = nowhere.cli("validate")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "queues.yaml:3:7: queues.a.tpye: unknown key 'tpye' (did you mean type?)"
    assert second.startswith("queues.yaml:4:3: queues.amq.b: ")


def test_validate_names_a_file_as_it_was_given(nowhere: System) -> None:
    (nowhere.folder / "deploy").mkdir()
    (nowhere.folder / "deploy" / "prod.yaml").write_text("version: 1\nqueues:\n  a: 7\n")
    assert refuses(nowhere, "validate", "deploy/prod.yaml").startswith("deploy/prod.yaml:3:6: queues.a: ")
    assert refuses(nowhere, "validate", "deploy/none.yaml").startswith("deploy/none.yaml:1:1: the file is missing")


def test_validate_imports_no_module_but_misses_one_that_is_not_there(nowhere: System) -> None:
    trace = nowhere.folder / "imported"
    nowhere.worker("echo", f"open({str(trace)!r}, 'w')\n")
    nowhere.write(TWO)
    says(nowhere, "validate")
    assert not trace.exists()
    (nowhere.workers / "echo.py").unlink()
    assert refuses(nowhere, "validate").startswith("queues.yaml:5:15: queues.work.workers.echo: ")


# -- plan and apply without a daemon -----------------------------------------------------------------------------


def test_plan_shows_what_would_change_and_touches_nothing(still: Site) -> None:
    assert says(still, "plan", exit=2).splitlines()[:4] == [
        "+ create classic queue plain (in place)",
        "+ create classic queue work (in place)",
        "",
        "2 in place",
    ]
    plan = json.loads(says(still, "plan", "--json", exit=2))
    assert [(a["action"], a["subject"]) for a in plan["actions"]] == [("declare", "plain"), ("declare", "work")]
    assert not still.queues()
    assert not still.state.exists()


def test_apply_makes_the_topology_once_and_then_there_is_nothing_to_do(still: Site) -> None:
    assert says(still, "apply", "--yes").splitlines()[-1] == "the broker is as the file says"
    assert still.queues() == {"plain", "work"}
    assert says(still, "plan") == "nothing to do\n"
    still.write("version: 1\nqueues:\n  plain: {}\n")
    assert says(still, "plan", exit=2).startswith("- delete queue work (destructive)\n\n1 destructive\n")
    says(still, "apply", "--yes")
    assert still.queues() == {"plain"}
    says(still, "apply", "--yes")


def test_apply_asks_a_person_and_does_nothing_without_a_yes(still: Site) -> None:
    assert still.cli("apply", stdin="n\n").returncode == 1
    assert not still.queues()
    assert still.cli("apply", stdin="y\n").returncode == 0
    assert still.queues() == {"plain", "work"}


def test_apply_exits_with_1_and_what_is_left(still: Site) -> None:
    says(still, "apply", "--yes")
    still.send("plain", ["precious"])
    still.write("version: 1\nqueues:\n  work: {type: quorum}\n")
    text = says(still, "apply", "--yes", exit=1)
    assert "! queue plain is held: 1 messages are in it" in text
    assert "! queue work is held: type is 'classic' at the broker and 'quorum' in the file" in text
    assert still.queues() == {"plain", "work"}


def test_plan_and_apply_say_in_one_line_what_is_in_the_way(still: Site) -> None:
    still.write("version: 1\nqueues: []\n")
    for command in (("plan",), ("apply", "--yes")):
        assert refuses(still, *command).startswith("queues.yaml:2:1: queues: ")
    still.write(TWO)
    still.amqp_url = "amqp://127.0.0.1:1"
    for command in (("plan",), ("apply", "--yes")):
        assert "127.0.0.1:1 cannot be reached" in refuses(still, *command)
    still.amqp_url = None
    for command in (("plan",), ("apply", "--yes")):
        assert "AMQP_URL" in refuses(still, *command)


# -- beside a daemon ---------------------------------------------------------------------------------------------


def test_apply_leaves_the_field_to_a_running_daemon(live: Site) -> None:
    assert live.process is not None
    assert f"already (pid {live.process.pid}, {live.url})" in refuses(live, "apply", "--yes")


def test_plan_beside_a_daemon_counts_workers_too(live: Site) -> None:
    assert says(live, "plan") == "nothing to do\n"
    assert json.loads(says(live, "plan", "--json"))["actions"] == []
    live.write("version: 1\nqueues: {{\n")
    assert "queues.yaml:3:1:" in live.cli("plan").stderr
    assert live.cli("plan").returncode == 1


def test_plan_and_sync_see_a_file_that_was_saved_this_moment(live: Site) -> None:
    with httpx.Client(base_url=live.url, timeout=120, trust_env=False) as http:
        http.get("/healthz")  # the connection is there before the file is saved
        live.write(TWO + "  later: {tpye: quorum}\n")
        assert "queues.yaml:6:11:" in (http.get("/plan").json()["file_error"] or "")
        live.write(TWO + "  latest: {}\n")
        status = http.post("/sync", params={"wait": 60}).json()
        assert status["synced"]
        assert "latest" in status["queues"]
    live.write(TWO + "  newest: {tpye: quorum}\n")
    assert "queues.yaml:6:12:" in refuses(live, "plan")
    live.write(TWO + "  newer: {}\n")
    assert "newer" in says(live, "sync")
    assert live.queues() == {"plain", "work", "newer"}


def test_status_is_a_table_and_its_exit_status_says_whether_all_is_well(live: Site) -> None:
    head, columns, plain, work = says(live, "status").splitlines()
    assert head.startswith("synced, healthy, revision ")
    assert columns.split() == ["QUEUE", "MESSAGES", "WORKERS", "READY", "RESTARTS", "STATE"]
    assert plain.split() == ["plain", "0", "-", "-", "-", "ok"]
    assert work.split() == ["work", "0", "echo", "2/2", "0", "ok"]
    assert json.loads(says(live, "status", "--json"))["synced"] is True
    live.write("version: 1\nqueues:\n  plain: {}\n  work: {tpye: stream}\n")
    eventually(lambda: live.status()["file_error"])
    text = says(live, "status", exit=2)
    assert text.startswith("not synced, healthy, revision ")
    assert "queues.yaml:4:10: queues.work.tpye: unknown key 'tpye' (did you mean type?)" in text


def test_without_a_daemon_the_commands_that_need_one_say_so(nowhere: System) -> None:
    nowhere.env["RECONCILER_PORT"] = "1"
    for command in (("status",), ("sync",), ("create", "a"), ("publish", "a", "1"), ("logs", "a"), ("clear", "a")):
        line = refuses(nowhere, *command)
        assert "no reconciler answers at http://127.0.0.1:1" in line
        assert "reconciler run" in line


def test_status_watch_goes_on_until_it_is_interrupted(live: Site) -> None:
    with running(live, "status", "--watch") as watching:
        assert watching.stdout is not None
        heads = (line for line in watching.stdout if line.startswith("synced, healthy"))
        assert next(heads)
        assert next(heads)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0


def test_sync_waits_for_the_reconciliation_and_tells_the_status(live: Site) -> None:
    with live.vhost.node.api() as api:
        api.delete(f"/api/queues/{quote(live.vhost.name, safe='')}/plain").raise_for_status()
    assert "synced, healthy" in says(live, "sync")
    assert "plain" in live.queues()


def test_sync_confirm_lets_many_deletions_through(live: Site) -> None:
    many = "".join(f"  many-{n}: {{}}\n" for n in range(4))
    live.write(TWO + many)
    live.settled()
    live.write(TWO)
    eventually(lambda: (live.status()["held"] or {}).get("needs_confirmation"))
    text = says(live, "status", exit=2)
    (revision,) = re.findall(r"reconciler sync --confirm ([0-9a-f]+)", text)
    assert "not in force" in refuses(live, "sync", "--confirm", "0123456789")
    assert "synced, healthy" in says(live, "sync", "--confirm", revision)
    assert live.queues() == {"plain", "work"}


def test_create_scale_publish_clear_and_delete_change_the_file_and_the_world(live: Site) -> None:
    assert says(live, "create", "a/b", '{"type": "quorum"}') == "Queue a/b created\n"
    assert "  a/b:\n    type: quorum\n" in live.text
    assert "other properties" in refuses(live, "create", "a/b", '{"type": "classic"}')
    assert "did you mean type?" in refuses(live, "create", "c", '{"tpye": "quorum"}')
    assert says(live, "scale", "work", "echo", "3") == "echo on work: 3 of 3 workers\n"
    assert "workers: {echo: 3}" in live.text
    assert len(live.pids()) == 3
    assert "available are" in refuses(live, "scale", "work", "nobody", "1")
    published = says(live, "publish", "plain", '{"to": "ann"}')
    assert re.fullmatch(r"Message published to plain as [0-9a-f-]{36}\n", published)
    assert "is not JSON" in refuses(live, "publish", "plain", "ann")
    assert "no such queue" in refuses(live, "publish", "nowhere", "1")
    assert "1 messages" in refuses(live, "delete", "plain")
    assert says(live, "clear", "plain") == "Queue plain cleared\n"
    assert says(live, "delete", "plain") == "Queue plain deleted\n"
    assert live.queues() == {"work", "a/b"}
    says(live, "publish", "a/b", "1")
    assert says(live, "delete", "a/b", "--force") == "Queue a/b deleted\n"
    assert says(live, "clear", "work") == "Queue work cleared\n"
    assert "workers: {echo: 0}" in live.text


# -- logs --------------------------------------------------------------------------------------------------------


def test_pause_resume_and_restart(live: Site) -> None:
    until = "2099-12-01T09:00Z"
    assert says(live, "pause", "work", "--reason", "move", "--until", until) == "Queue work paused\n"
    assert not live.list_workers()
    live.settled()  # none is left, which the turn that stopped them need not have seen yet
    table = says(live, "status")
    assert "paused: move (since " in table
    assert "until 2099-12-01T09:00:00Z)" in table
    assert "0 of 3 workers while the queue is paused" in says(live, "scale", "work", "echo", "3")
    assert says(live, "resume", "work") == "Queue work resumed\n"
    before = live.pids()
    assert len(before) == 3
    assert says(live, "restart", "work") == "Restarted 3 workers of queue work\n"
    assert not before & live.pids()
    pid = min(live.pids())
    assert "Restarted 1 workers" in says(live, "restart", "work", "echo", "--pid", str(pid))
    assert pid not in live.pids()
    assert "queue none is not in queues.yaml" in refuses(live, "pause", "none")
    assert "has passed already" in refuses(live, "pause", "work", "--until", "2001-01-01")
    assert "has no worker nobody" in refuses(live, "restart", "work", "nobody")


def test_logs_of_a_pid_are_its_newest_lines(live: Site) -> None:
    pid = str(min(live.pids()))
    lines = says(live, "logs", pid).splitlines()
    assert f" {pid}] started: slot " in lines[0]
    assert says(live, "logs", pid, "-n", "1").splitlines() == lines[-1:]


def test_logs_of_a_queue_are_those_of_all_its_workers_by_time(live: Site) -> None:
    for number in range(10):
        live.publish("work", f"sorted {number}")
    eventually(lambda: says(live, "logs", "work", "-n", "1000").count('"message": "sorted ') == 10)
    lines = says(live, "logs", "work", "-n", "1000").splitlines()
    assert {line.split()[0] for line in lines} >= {"echo[0]", "echo[1]"}
    stamps = [line.split()[1] for line in lines]
    assert stamps == sorted(stamps)
    assert says(live, "logs", "work", "-n", "3").splitlines() == lines[-3:]


def test_logs_follow_shows_lines_as_they_come(live: Site) -> None:
    with running(live, "logs", "work", "-f", "-n", "1") as following:
        assert following.stdout is not None
        assert following.stdout.readline()
        live.publish("work", "fresh as bread")
        assert any("fresh as bread" in line for line in following.stdout)
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 0


def test_logs_follow_of_a_pid_ends_with_the_worker(live: Site) -> None:
    pid = max(live.pids())
    with running(live, "logs", str(pid), "-f") as following:
        assert following.stdout is not None
        assert following.stdout.readline()
        live.post("/worker/scale/work", {"worker_name": "echo", "count": 0})
        assert following.wait(60) == 0
        assert "0 failed" in following.stdout.read()


def test_logs_of_nobody_are_an_error(live: Site) -> None:
    for target in ("nobody", "4194304"):
        assert f"{target} is neither a queue of the file nor the pid of a worker" in refuses(live, "logs", target)


def test_a_reader_that_has_seen_enough_is_no_error(live: Site) -> None:
    command = f"{sys.executable} -m reconciler logs work -n 1000 | head -n 1"
    done = subprocess.run(command, shell=True, env=live.environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# -- on a terminal -----------------------------------------------------------------------------------------------


def test_on_a_terminal_there_are_colours(live: Site, still: Site) -> None:
    assert ANSI.search(on_terminal(live, "status"))
    assert ANSI.search(on_terminal(still, "plan"))
    assert not ANSI.search(on_terminal(live, "status", NO_COLOR="1").replace("\x1b[1m", "").replace("\x1b[0m", ""))


def on_terminal(site: System, *command: str, **env: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**site.environment(), "TERM": "xterm-256color", **env}
    with running(site, *command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # the other end was closed
            while piece := os.read(ours, 4096):
                written += piece
        process.wait(60)
    os.close(ours)
    return written.decode()


@contextlib.contextmanager
def running(site: System, *command: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    options: dict[str, Any] = {"env": site.environment(), "stdout": subprocess.PIPE, "cwd": site.folder, **more}
    process = subprocess.Popen([sys.executable, "-u", "-m", "reconciler", *command], text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_the_installed_command_is_the_same_as_the_module(nowhere: System) -> None:
    command = Path(sys.executable).parent / "reconciler"

    def at_once() -> bool:
        """A machine that is busy at the moment has another one."""
        started = time.monotonic()
        done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=120, check=True)
        took = time.monotonic() - started
        if not done.stdout.startswith("reconciler, version "):
            raise RuntimeError(done.stdout)
        assert took < 5, took
        return True

    eventually(at_once)


@pytest.mark.parametrize("branch", ["-x", "a..b", "a//b", "a/.b", "x.lock", "a b", "a~", "a\\b", "/a", "a/", "a\nb"])
def test_a_branch_that_cannot_be_is_refused_at_once(system: System, branch: str) -> None:
    done = system.cli("validate", "--git-branch", branch)
    assert (done.returncode, "no name of a branch" in done.stderr) == (1, True)


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "."])
def test_a_path_outside_of_the_repository_is_refused_at_once(system: System, path: str) -> None:
    done = system.cli("validate", "--git-path", path)
    assert (done.returncode, "no path within a repository" in done.stderr) == (1, True)
