"""Limits in a real daemon: what hangs, grows, or is old is replaced, and no message is lost."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.live.sites import Site, is_alive, site_on
from tests.nodes import TestNode
from tests.supervisor.support import fields
from tests.system import ECHO
from tests.waiting import eventually

HANG = """\
import re
from .base import BaseWorker


class Hang(BaseWorker):
    def process_message(self, ch, method, properties, body):
        if body == b"hang" and not method.redelivered:
            re.match(r"(a+)+$", "a" * 64 + "b")  # holds the interpreter's lock, for years
"""
GROW = """\
import os
from .base import BaseWorker

KEPT = []
BALLAST = b"x" * (32 << 20)  # shared by all: no private memory of anybody


class Grow(BaseWorker):
    def process_message(self, ch, method, properties, body):
        if body == b"grow":
            KEPT.append(os.urandom(64 << 20))
"""
WAIT = """\
import time
from .base import BaseWorker


class Wait(BaseWorker):
    def process_message(self, ch, method, properties, body):
        time.sleep(0 if method.redelivered else 30)
"""
KERNEL = """\
import json, os, resource
from pathlib import Path
from .base import BaseWorker


class Kernel(BaseWorker):
    def __init__(self, channel, queue_name):
        super().__init__(channel, queue_name)
        told = dict(
            uid=os.getresuid(), gid=os.getresgid(), groups=os.getgroups(), nice=os.nice(0), home=os.environ.get("HOME"),
            cores=sorted(os.sched_getaffinity(0)), files=resource.getrlimit(resource.RLIMIT_NOFILE),
            log_file=os.environ.get("LOG_FILE"), notify=os.environ["NOTIFY_SOCKET"][:1],
        )
        print("TOLD", json.dumps(told), flush=True)

    def process_message(self, ch, method, properties, body):
        pass
"""
SHELL_TELLS = "import json,os,resource,socket;" + (
    "print('TOLD', json.dumps(dict(uid=os.getresuid(), gid=os.getresgid(), groups=os.getgroups(), nice=os.nice(0),"
    "home=os.environ.get('HOME'), cores=sorted(os.sched_getaffinity(0)), files=resource.getrlimit(7),"
    "log_file=os.environ.get('LOG_FILE'), notify=os.environ['NOTIFY_SOCKET'][:1])), flush=True);"
    "s=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
    "s.sendto(b'READY=1', chr(0)+os.environ['NOTIFY_SOCKET'][1:]);"
    "__import__('signal').pause()"
)


@pytest.fixture(scope="module")
def shared(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("limits")) as site:
        for name, source in (("hang", HANG), ("grow", GROW), ("wait", WAIT), ("kernel", KERNEL)):
            site.worker(name, source)
        site.start()
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    shared.empty()
    for trace in shared.out.iterdir():
        trace.unlink()
    return shared


def run(site: Site, worker: str, count: int, **keys: Any) -> set[int]:
    inner = "".join(f", {key}: {value}" for key, value in keys.items())
    queue = f"on_remove: delete\n    workers:\n      {worker}: {{count: {count}{inner}}}"
    site.write(f"version: 1\nqueues:\n  work:\n    {queue}\n")

    def all_ready() -> set[int] | None:
        """In one look: some are replaced soon."""
        workers = site.list_workers()
        ready = {worker["pid"] for worker in workers if worker["state"] == "ready"}
        return ready if len(ready) == len(workers) == count else None

    return eventually(all_ready)


def reason_of(site: Site, pid: int) -> str:
    """Why it ended."""
    records = [fields(path) for path in (site.state / "processes").glob(f"{pid}-*.json")]
    return next((record["reason"] for record in records if record.get("reason")), "")


def emptied(site: Site) -> bool:
    """Nothing ready and nothing in flight, by the broker's live counts."""
    with pika.BlockingConnection(pika.URLParameters(site.vhost.amqp_url)) as connection:
        ready = connection.channel().queue_declare("work", passive=True).method.message_count
    return ready == 0 and not any(worker["busy"] for worker in site.list_workers())


def test_one_that_holds_the_lock_for_ever_is_hung_and_an_idle_one_is_not(site: Site) -> None:
    pids = run(site, "hang", 3, watchdog="10s", grace="1s")  # a busy machine may keep one that idles from telling
    site.send("work", ["hang"])
    (hung,) = eventually(lambda: pids - site.pids(), within=60)
    eventually(lambda: len(site.pids()) == 3 and not is_alive(hung))
    assert "no heartbeat for" in reason_of(site, hung)
    assert len(site.pids() & pids) == 2, "those that idled meanwhile were left alone"
    eventually(lambda: emptied(site))


def test_one_message_for_too_long(site: Site) -> None:
    (pid,) = run(site, "wait", 1, message_timeout="1s", grace="1s")
    site.send("work", ["x"])
    eventually(lambda: site.pids() and pid not in site.pids())
    assert "one message in hand for" in reason_of(site, pid)
    eventually(lambda: emptied(site))


def test_private_memory_counts_and_that_of_others_does_not(site: Site) -> None:
    """Each has 32 MiB of its zygote's; only the one that grows is replaced."""
    pids = run(site, "grow", 3, max_memory="50MiB")
    site.send("work", ["grow"])
    eventually(lambda: len(site.pids()) == 3 and len(site.pids() & pids) == 2)
    (grown,) = pids - site.pids()
    eventually(lambda: "of private memory (max_memory 50 MiB)" in reason_of(site, grown))
    for _ in range(3):
        assert len(site.pids() & pids) == 2


@pytest.mark.timeout(300)
def test_max_messages_replaces_one_at_a_time_and_loses_and_doubles_none(site: Site) -> None:
    pids = run(site, "record", 4, max_messages=50, prefetch=5)
    everything = [f"m{n}" for n in range(1200)]
    site.send("work", everything)
    lowest = [4]

    def all_there() -> bool:
        lowest.append(sum(worker["state"] == "ready" for worker in site.list_workers()))
        return len(site.recorded()) >= len(everything)

    eventually(all_there, within=100)
    assert Counter(site.recorded()) == Counter(everything)
    assert min(lowest) >= 3, "one of a pool at a time"

    def all_replaced() -> bool:
        """Whoever got fewer than 50, because the others were faster, gets more."""
        ready = site.pids()
        if len(ready) == 4 and not ready & pids:
            return True
        more = [f"m{n}" for n in range(len(everything), len(everything) + 40)]
        everything.extend(more)
        site.send("work", more)
        return False

    eventually(all_replaced, within=100, every=0.5)
    eventually(lambda: len(site.recorded()) >= len(everything), within=60)
    assert Counter(site.recorded()) == Counter(everything)
    assert any("messages (max_messages 50)" in reason_of(site, pid) for pid in pids)
    assert site.status()["queues"]["work"]["workers"]["record"]["restarts"] == 0, "that is no failure"


def test_max_age(site: Site) -> None:
    pids = run(site, "record", 2, max_age="5s")  # so long that there is a while in which both are there

    def both_are_new() -> bool:
        ready = site.pids()
        return len(ready) == 2 and not ready & pids

    eventually(both_are_new, within=60)
    assert any("old (max_age 5 s)" in reason_of(site, pid) for pid in pids)


def told(site: Site, pid: int) -> dict[str, Any]:
    def look() -> str | None:
        whole = log_of(site, pid).rpartition("\n")[0].splitlines()
        return next((line for line in whole if line.startswith("TOLD ")), None)

    return dict(json.loads(eventually(look)[5:]))


def log_of(site: Site, pid: int) -> str:
    (path,) = (site.state / "processes").glob(f"{pid}-*.json")
    return Path(fields(path)["log_path"]).read_text()


PYTHON = os.path.realpath("/usr/bin/python3")
PROBE = "import os, sys; os.setresuid(65534, 65534, 65534); sys.exit(not all(os.access(p, 5) for p in sys.argv[1:]))"


def may_run(*programs: str) -> bool:
    """Whether any user of this machine may."""
    return subprocess.run([sys.executable, "-I", "-S", "-c", PROBE, *programs]).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a worker another user, or a lower nice")
@pytest.mark.parametrize("kind", ["forked", "exec'd", "foreign"])
def test_what_the_kernel_is_told(site: Site, kind: str) -> None:
    account = pwd.getpwnam("nobody")
    keys: dict[str, Any] = {
        "nice": -3,
        "cpu_affinity": "[0]",
        "limits": "{nofile: 200}",
        "user": "nobody",
        "prefetch": 1,
    }
    if kind == "foreign":
        keys["command"] = json.dumps([PYTHON, "-I", "-S", "-c", SHELL_TELLS])
    if kind == "exec'd":
        keys["spawn"] = "exec"
    if not may_run({"forked": "/", "exec'd": os.path.realpath(sys.executable), "foreign": PYTHON}[kind]):
        pytest.skip("the interpreter is its owner's alone on this machine")
    opened(site)
    (pid,) = run(site, "kernel", 1, **keys)
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{account.pw_uid}\t{account.pw_uid}\t{account.pw_uid}" in status
    own = told(site, pid)
    assert own["uid"] == [account.pw_uid] * 3
    assert own["gid"] == [account.pw_gid] * 3
    assert 0 not in own["groups"]
    assert (own["nice"], own["cores"], own["files"]) == (-3, [0], [200, 200])
    assert (own["log_file"], own["notify"], own["home"]) == (None, "@", account.pw_dir)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: site.pids() and pid not in site.pids())
    (pid,) = site.pids()
    site.write("version: 1\nqueues: {work: {on_remove: delete}}\n")
    eventually(lambda: not is_alive(pid))
    eventually(lambda: "stop" in reason_of(site, pid))


def opened(site: Site) -> None:
    """pytest's folders are for their owner alone."""
    for folder in [site.folder, *site.folder.parents[:3]]:
        folder.chmod(folder.stat().st_mode | 0o711)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a worker another user")
def test_a_folder_that_this_user_cannot_read_is_said_plainly(site: Site) -> None:
    site.workers.chmod(0o700)
    try:
        site.write("version: 1\nqueues:\n  work: {workers: {kernel: {user: nobody, spawn: exec}}}\n")

        def said() -> bool:
            reason = site.status()["queues"].get("work", {}).get("reason") or ""
            return "cannot be read by user" in reason or "Permission denied" in reason or "that user must" in reason

        eventually(said)
    finally:
        site.workers.chmod(0o755)


def test_a_user_that_is_not_there_is_a_fault_of_the_file(site: Site) -> None:
    site.write("version: 1\nqueues:\n  work: {workers: {kernel: {user: no-such-user}}}\n")
    eventually(lambda: "there is no user no-such-user" in (site.status()["file_error"] or ""))


AT_IMPORT = "import os\nQUEUE = os.environ['QUEUE_NAME']\nint(os.environ['PREFETCH']), int(os.environ['SLOT'])\n"


def test_a_module_that_asks_for_its_queue_when_it_is_imported(site: Site) -> None:
    site.worker("asks", AT_IMPORT + "os.environ['AMQP_URL'], os.environ['NOTIFY_SOCKET']\n" + ECHO)
    site.write("version: 1\nqueues:\n  one: {workers: {asks: 2}}\n  two: {workers: {asks: 1}}\n")
    eventually(lambda: len(site.pids()) == 3)
    site.settled()
    reasons = {worker["exec_reason"] for worker in site.list_workers() if "exec_reason" in worker}
    assert all("QUEUE_NAME" in (reason or "") for reason in reasons), reasons


DIES = """\
import os
from .base import BaseWorker


class Dies(BaseWorker):
    def __init__(self, channel, queue_name):
        super().__init__(channel, queue_name)
        if not os.path.exists(os.path.join(os.environ["OUT"], "mended")):
            raise RuntimeError("no ledger")

    def process_message(self, ch, method, properties, body):
        pass
"""


def test_given_up_is_seen_everywhere_and_brought_back(site: Site) -> None:
    flag = site.out / "mended"
    site.worker("dies", DIES)
    site.write(
        "version: 1\nqueues:\n  bad: {workers: {dies: {count: 2, max_restarts: 0}}}\n  good: {workers: {record: 1}}\n"
    )
    eventually(lambda: len(site.list_workers(state="fatal")) == 2)
    eventually(lambda: len(site.pids()) == 1)
    eventually(lambda: site.status()["queues"]["good"]["healthy"])

    def is_told() -> bool:
        status = site.status()
        reason = status["queues"]["bad"]["reason"] or ""  # of the turn that started it, that it is under way
        assert "one is in fatal: given up after 1 death" in reason, reason
        assert "no ledger" in reason, reason
        assert not status["healthy"]
        return True

    eventually(is_told)
    shown = site.cli("status")
    assert "fatal" in shown.stdout
    assert site.process
    used, began = cpu_of(site.process.pid), time.monotonic()
    eventually(lambda: time.monotonic() - began > 1.0)
    assert cpu_of(site.process.pid) - used < 0.3, "nobody tries in vain"
    flag.touch()
    answer = site.post("/worker/restart/bad")
    assert answer.status_code in (200, 202), answer.text
    eventually(lambda: len(site.pids()) == 3)
    site.settled()


def cpu_of(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
