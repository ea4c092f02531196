"""A daemon that is replaced while its workers go on: killed, told to leave, or executed anew in place by SIGHUP."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import reconciler
from tests.live.sites import Site, is_alive, processes_of, site_on, zombies_under
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
    eventually(lambda: len(site.pids()) == READY and len(all_pids(site)) == READY + 1)
    return all_pids(site)


def daemon(site: System) -> int:
    assert site.process
    return site.process.pid


def started_at(pid: int) -> int:
    """When the program in it was executed: the first mapping moves with each."""
    return hash(Path(f"/proc/{pid}/auxv").read_bytes())


def renew(site: System) -> None:
    """SIGHUP, and until the new program has the workers in hand."""
    before, said = started_at(daemon(site)), site.log.read_text().count(" → ")
    os.kill(daemon(site), signal.SIGHUP)
    eventually(lambda: started_at(daemon(site)) != before, within=40)
    eventually(lambda: site.log.read_text().count(" → ") > said)


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
    began = time.monotonic()
    assert site.stop() == 0
    took = time.monotonic() - began
    assert took < 8, f"it waited for something: {took:.1f} s"
    assert all(is_alive(pid) for pid in pids)
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


SLOW = "import time\ntime.sleep(3)\n" + ECHO


def test_leave_calls_off_what_is_under_way(site: Site) -> None:
    """A module that is checked, a zygote that imports: neither is waited for, and nothing comes of it."""
    site.env["RECONCILER_ON_EXIT"] = "leave"
    site.write("version: 1\nqueues: {}\n")
    site.start()
    site.worker("slow", SLOW)
    site.write("version: 1\nqueues:\n  q: {workers: {slow: {count: 3}}}\n")
    eventually(lambda: processes_of(site))  # the check, or later the zygote
    began = time.monotonic()
    assert site.stop() == 0
    assert time.monotonic() - began < 2.9
    eventually(lambda: not any(is_alive(pid) for pid in processes_of(site)))
    site.start()
    eventually(lambda: len(site.pids()) == 3)
    began = time.monotonic()
    site.write("version: 1\nqueues:\n  q: {workers: {slow: {count: 3, env: {OTHER: image}}}}\n")
    eventually(lambda: b"zygote slow" in b"".join(cmdlines(site)) and len(zygotes(site)) == 2)
    assert site.stop() == 0
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


def test_sighup_executes_the_daemon_anew_in_place(site: Site) -> None:
    site.start()
    pids, pid, url = up(site), daemon(site), site.url
    environ = len(Path(f"/proc/{pid}/environ").read_bytes())
    answers: list[int | str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(httpx.get(f"{url}/status", timeout=30, trust_env=False).status_code)
            except httpx.HTTPError as error:
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
    bad = [answer for answer in answers if answer not in (200, 503)]
    assert not bad, bad
    eventually(lambda: len(site.recorded()) >= 1000)
    assert len(site.recorded()) == 1000
    most = max(map(len, seen[:2]))  # each is of a moment: connections come and go
    eventually(lambda: len(descriptors(pid)) <= most + 1)
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


def test_sighups_in_a_row_and_a_stop_among_them(site: Site) -> None:
    site.start()
    pids, pid = up(site), daemon(site)
    for _ in range(40):
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.05)
    eventually(lambda: site.get("/readyz").status_code == 200)
    assert site.process
    assert site.process.poll() is None
    eventually(lambda: all_pids(site) == pids)
    # A stop while it is between two programs is heard by the second, and that one has the workers to drain.
    told = site.said().count("starting anew")
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: site.said().count("starting anew") > told, 20, 0.001)
    os.kill(pid, signal.SIGTERM)
    assert site.process.wait(30) == 0
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
    eventually(lambda: "it goes on as it is" in site.said())
    assert "SyntaxError" in site.said()
    assert "loop.py" in site.said()
    assert site.status()["synced"]
    assert all_pids(site) == pids
    module.write_text(good + "\nprint('the new program speaks')\n")
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
    eventually(site._announced, within=60)
    pids = up(site)
    site.process.send_signal(signal.SIGHUP)
    assert site.process.wait(30) == 0
    assert not any(is_alive(pid) for pid in pids)
    reading.join(5)


def drain(fd: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(fd, 4096):
            pass
    os.close(fd)


def test_killed_under_load_and_in_hand_within_half_a_second(site: Site) -> None:
    site.start()
    pids = up(site)
    site.send("forked", [f"m{n}" for n in range(3000)])
    site.send("execd", [f"e{n}" for n in range(1000)])
    site.kill()
    began = time.monotonic()
    site.start(ready=False)
    took = time.monotonic() - began
    assert all_pids(site) == pids
    eventually(lambda: len(site.pids()) == READY)
    eventually(lambda: len(site.recorded()) >= 4000)
    assert len(site.recorded()) == len(set(site.recorded())) == 4000
    assert took < 5.0, "on an idle machine it is 0.5 s beside the start of Python"
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
    return [record["reason"] for record in records if record["ended_at"]]


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
        eventually(lambda: system.broker_pid() != node, within=40)
        eventually(lambda: system.status().get("healthy"), within=40)
        eventually(lambda: not zombies_under(pid))
    finally:
        system.stop()
        system.env.pop("RECONCILER_ON_EXIT", None)
        with contextlib.suppress(RuntimeError, AssertionError):
            system.start(ready=False)
        system.stop()
