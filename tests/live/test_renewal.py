"""A daemon that is replaced while its workers go on: killed, told to leave, or executed anew in place by SIGHUP."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import reconciler
from tests.live.sites import Site, is_alive, processes_of, site_on, zombies_under, zygotes_of
from tests.nodes import TestNode
from tests.supervisor.support import fields
from tests.system import ECHO, System
from tests.waiting import eventually

FILE = """\
version: 1
queues:
  forked:
    on_remove: delete
    workers:
      record: {count: 3}
  execd:
    on_remove: delete
    workers:
      record: {count: 2, spawn: exec}
  foreign:
    on_remove: delete
    workers:
      tick:
        command: [sh, -c, "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]
        count: 1
"""
READY = 5  # the foreign one never says that it is


@pytest.fixture
def site(broker: TestNode, tmp_path: Path) -> Iterator[Site]:
    with site_on(broker, tmp_path) as site:
        site.write(FILE)
        yield site


def all_pids(site: System) -> set[int]:
    return {worker["pid"] for worker in site.list_workers()}


def up(site: Site) -> set[int]:
    def all_there() -> set[int] | None:
        """In one look; who waits for a turn to start is there without a pid."""
        workers = site.list_workers()
        pids = {worker["pid"] for worker in workers if worker["pid"]}
        ready = sum(worker["state"] == "ready" for worker in workers)
        return pids if (ready, len(pids)) == (READY, READY + 1) else None

    return eventually(all_there)


def daemon(site: System) -> int:
    assert site.process
    return site.process.pid


def started_at(pid: int) -> int:
    """When the program in it was executed: the first mapping moves with each."""
    return hash(Path(f"/proc/{pid}/auxv").read_bytes())


def renew(site: System) -> None:
    """SIGHUP, and until the new program has the workers in hand."""
    before, said = started_at(daemon(site)), announced(site)
    os.kill(daemon(site), signal.SIGHUP)
    eventually(lambda: started_at(daemon(site)) != before, within=60)
    eventually(lambda: announced(site) > said)


def announced(site: System) -> int:
    """How many programs have said so far where they serve."""
    return site.log.read_text(errors="replace").count(" → ")


def descriptors(pid: int) -> list[str]:
    names = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(os.readlink(fd).split(":")[0])
    return sorted(names)


def test_leave_ends_the_daemon_and_nobody_else(site: Site) -> None:
    site.env["RECONCILER_ON_EXIT"] = "leave"
    site.start()
    pids = up(site)
    site.send("forked", [f"a{n}" for n in range(200)])
    assert site.stop() == 0
    assert all(is_alive(pid) for pid in pids), "it has not waited for them, nor told them to stop"
    assert not (site.state / "daemon.json").exists()
    site.send("forked", [f"b{n}" for n in range(200)])
    eventually(lambda: len(site.recorded()) >= 400)
    del site.env["RECONCILER_ON_EXIT"]
    site.start()
    eventually(lambda: all_pids(site) == pids)
    eventually(lambda: len(site.pids()) == READY)
    assert sorted(site.recorded()) == sorted([f"a{n}" for n in range(200)] + [f"b{n}" for n in range(200)])
    assert site.stop() == 0
    assert processes_of(site) == set()


# Its import ends once $OUT/checked is there, in the process that checks it; elsewhere, once $OUT/imported is.
SLOW = """\
import os
import time
from pathlib import Path

CHECK = os.environ.get("NOTIFY_SOCKET") == os.devnull
while not (Path(os.environ["OUT"]) / ("checked" if CHECK else "imported")).exists():
    time.sleep(0.01)
"""


def test_leave_calls_off_what_is_under_way(site: Site) -> None:
    """A module that is checked, a zygote that imports: neither is waited for, and nothing comes of it."""
    site.env["RECONCILER_ON_EXIT"] = "leave"
    site.write("version: 1\nqueues: {}\n")
    site.start()
    site.worker("slow", SLOW + ECHO)
    site.write("version: 1\nqueues:\n  q: {workers: {slow: {count: 3}}}\n")
    eventually(lambda: processes_of(site) - {daemon(site)})  # the check
    assert site.stop() == 0
    eventually(lambda: not any(is_alive(pid) for pid in processes_of(site)))
    checked, imported = site.out / "checked", site.out / "imported"
    checked.touch()
    site.start()
    eventually(lambda: len(zygotes(site)) == 1)
    assert site.stop() == 0
    eventually(lambda: processes_of(site) == zygotes_of(site))  # which is for the next daemon
    imported.touch()
    site.start()
    eventually(lambda: len(site.pids()) == 3 and len(all_pids(site)) == 3)
    imported.unlink()
    site.write("version: 1\nqueues:\n  q: {workers: {slow: {count: 3, env: {OTHER: image}}}}\n")
    eventually(lambda: b"zygote slow" in b"".join(cmdlines(site)) and len(zygotes(site)) == 2)
    assert site.stop() == 0
    imported.touch()
    site.start()
    eventually(lambda: len(site.pids()) == 3 and len(all_pids(site)) == 3)
    del site.env["RECONCILER_ON_EXIT"]


def cmdlines(site: System) -> list[bytes]:
    found = []
    for pid in processes_of(site):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def zygotes(site: System) -> list[bytes]:
    return [line for line in cmdlines(site) if b"zygote" in line]


def ask_for_status(url: str) -> str:
    """The first line of the answer; nothing if it was hung up on us though we asked as soon as we were connected.

    Who connects and is slow to ask may be hung up on, so that says "late".
    """
    host, port = urlsplit(url).hostname, urlsplit(url).port
    with socket.create_connection((host or "", port or 0), timeout=60) as connection:
        connected = asked = time.monotonic()
        line = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(f"GET /status HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            asked = time.monotonic()
            line = connection.makefile("rb").readline()
    return line.decode().strip() or ("late" if asked - connected > 0.05 else "")


def test_sighup_executes_the_daemon_anew_in_place(site: Site) -> None:
    site.start()
    pids, pid, url = up(site), daemon(site), site.url
    environ = len(Path(f"/proc/{pid}/environ").read_bytes())
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(ask_for_status(url))
            except OSError as error:
                answers.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    site.send("forked", [f"m{n}" for n in range(1000)])
    seen = []
    for _ in range(5):
        renew(site)
        assert site.url == url
        eventually(lambda: all_pids(site) == pids and len(site.pids()) == READY)
        eventually(lambda: site.status().get("synced"))
        seen.append(descriptors(pid))
    stop.set()
    asking.join()
    assert site.process
    assert site.process.poll() is None
    assert daemon(site) == pid
    bad = [answer for answer in answers if answer.split()[1:2] not in (["200"], ["503"]) and answer != "late"]
    assert not bad, bad
    assert len(set(answers) - {"late"}) > 0
    eventually(lambda: len(site.recorded()) >= 1000, within=60)
    assert len(site.recorded()) == 1000
    # Each is of a moment, in which a connection may be missing; what is left open each time makes three more by now.
    most = max(map(len, seen[:2]))
    eventually(lambda: len(descriptors(pid)) <= most + 2)
    # The listener's variable stays in what the kernel shows of the last execve, and is taken out of what is passed on.
    assert len(Path(f"/proc/{pid}/environ").read_bytes()) <= environ + len("RECONCILER_LISTENER=12345") + 1
    listeners = [worker for worker in pids if b"RECONCILER_LISTENER" in Path(f"/proc/{worker}/environ").read_bytes()]
    assert not listeners
    victims = list(pids)
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(site.pids()) == READY and not all_pids(site) & pids)
    eventually(lambda: not zombies_under(pid))
    ended = [site.get(f"/worker/{victim}") for victim in victims]
    assert all("SIGKILL" in str(answer.json()) for answer in ended if answer.status_code == 200)
    assert site.stop() == 0
    assert processes_of(site) == set()


def renews_no_more(site: Site) -> bool:
    """Every SIGHUP was heard, and what it asked for is done."""
    assert site.get("/readyz").status_code == 200  # by a program that has heard what came before it
    said = site.said()
    asked, began = said.count("told to start anew"), said.count("starting anew")
    return asked == began and announced(site) == began + 1


def test_sighups_in_a_row_and_a_stop_among_them(site: Site) -> None:
    site.start()
    pids, pid = up(site), daemon(site)
    for _ in range(40):
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.05)
    # One that comes while it renews already is met by that: only after the last is the next sure to be heard.
    eventually(lambda: renews_no_more(site), within=60)
    assert site.process
    assert site.process.poll() is None
    eventually(lambda: all_pids(site) == pids)
    # A stop while it is between two programs is heard by the second, and that one has the workers to drain.
    told = site.said().count("starting anew")
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: site.said().count("starting anew") > told, 60, 0.001)
    os.kill(pid, signal.SIGTERM)
    assert site.process.wait(60) == 0
    eventually(lambda: not any(is_alive(worker) for worker in pids))
    assert not (site.state / "daemon.json").exists()


def test_a_broken_program_on_disk_keeps_the_old_one_going(site: Site, tmp_path: Path) -> None:
    source = Path(reconciler.__file__).resolve().parent.parent
    copy = tmp_path / "code"
    for name in ("reconciler", "state", "workers", "schema"):
        if (source / name).is_dir():
            shutil.copytree(source / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    site.env["PYTHONPATH"] = str(copy)
    site.start()
    pids, pid = up(site), daemon(site)
    module = copy / "reconciler" / "loop.py"
    good = module.read_text()
    module.write_text("def broken(:\n" + good)
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: "it goes on as it is" in site.said(), within=60)
    eventually(lambda: all(word in site.said() for word in ("SyntaxError", "loop.py")))
    eventually(lambda: site.status()["synced"])
    assert all_pids(site) == pids
    module.write_text(good + "\nprint('the new program speaks', flush=True)\n")
    renew(site)
    assert "the new program speaks" in site.said()
    eventually(lambda: all_pids(site) == pids)


def test_on_a_terminal_a_hangup_stops_it(site: Site) -> None:
    ours, theirs = pty.openpty()
    with site.log.open("ab") as log:
        site.process = subprocess.Popen(
            [sys.executable, "-m", "reconciler", "run"],
            env=site.environment(),
            cwd=site.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=theirs,
            start_new_session=True,
        )
    os.close(theirs)
    reading = threading.Thread(target=drain, args=(ours,), daemon=True)
    reading.start()
    eventually(site._announced, within=120)
    pids = up(site)
    site.process.send_signal(signal.SIGHUP)
    assert site.process.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)
    reading.join(5)


def drain(fd: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(fd, 4096):
            pass
    os.close(fd)


def test_killed_under_load_and_in_hand_as_soon_as_it_is_there(site: Site) -> None:
    site.start()
    pids = up(site)
    site.send("forked", [f"m{n}" for n in range(3000)])
    site.send("execd", [f"e{n}" for n in range(1000)])
    site.kill()
    site.start(ready=False)
    assert all_pids(site) == pids
    eventually(lambda: len(site.pids()) == READY)
    eventually(lambda: len(site.recorded()) >= 4000, within=60)
    assert len(site.recorded()) == len(set(site.recorded())) == 4000
    lost = next(worker["pid"] for worker in site.list_workers() if worker["queue_name"] == "forked")
    os.kill(lost, signal.SIGSEGV)
    eventually(lambda: lost not in all_pids(site) and len(site.pids()) == READY)
    assert "killed by SIGSEGV" in " ".join(ended_reasons(site)), "from its zygote"
    lost = next(worker["pid"] for worker in site.list_workers() if worker["queue_name"] == "execd")
    os.kill(lost, signal.SIGABRT)
    eventually(lambda: lost not in all_pids(site) and len(site.pids()) == READY)
    reasons = " ".join(ended_reasons(site))
    assert "killed by SIGABRT" in reasons or "exit status unknown" in reasons, "from the kernel, if it is new enough"


def ended_reasons(site: Site) -> list[str]:
    records = [fields(path) for path in (site.state / "processes").glob("*.json")]
    return [record["reason"] for record in records if record.get("ended_at")]


@pytest.mark.timeout(300)
def test_the_embedded_broker_goes_on_too(tmp_path: Path) -> None:
    system = System(tmp_path / "site", None, None)
    system.env["RECONCILER_ON_EXIT"] = "leave"
    try:
        system.write("version: 1\nqueues:\n  q: {workers: {echo: 2}}\n")
        system.start()
        eventually(lambda: len([w for w in system.list_workers() if w["state"] == "ready"]) == 2)
        pids = all_pids(system)
        node = system.broker_pid()
        assert system.stop() == 0
        assert is_alive(node)
        system.start()
        assert system.broker_pid() == node
        eventually(lambda: all_pids(system) == pids)
        pid = daemon(system)
        renew(system)
        assert system.broker_pid() == node
        eventually(lambda: all_pids(system) == pids)
        renew(system)
        eventually(lambda: system.status().get("synced"))
        del system.env["RECONCILER_ON_EXIT"]
        os.kill(node, signal.SIGKILL)
        eventually(lambda: system.broker_pid() != node, within=60)
        # What is told before that may be of the turn before.
        eventually(lambda: "the embedded broker is back" in system.log.read_text(errors="replace"), within=90)
        eventually(lambda: system.status().get("healthy"), within=60)
        eventually(lambda: not zombies_under(pid))
    finally:
        system.stop()
        system.env.pop("RECONCILER_ON_EXIT", None)
        with contextlib.suppress(RuntimeError, AssertionError):
            system.start(ready=False)
        system.stop()
