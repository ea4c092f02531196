"""The gate before the first message, and a worker that is a fork of a process that has imported its module."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.workers.worker_bench import ENTRY, VERBS, Bench, Process, until


@pytest.fixture
def gate() -> Iterator[list[int]]:
    ends = list(os.pipe())
    os.set_inheritable(ends[0], True)
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def behind(bench: Bench, gate: list[int]) -> Process:
    """A worker that waits at the gate."""
    bench.queue()
    # By what it is: its number may be that of something else by then.
    held = f"'pipe:[{os.fstat(gate[0]).st_ino}]' in os.path.realpath('/proc/self/fd/' + fd)"
    found = f"any({held} for fd in os.listdir('/proc/self/fd'))"
    bench.publish(f"print('gate', os.environ.get('START_GATE'), {found})")
    worker = bench.start("work", VERBS, START_GATE=str(gate[0]), pass_fds=(gate[0],))
    os.close(gate[0])
    until(lambda: "pipe_read" in wchan(worker.pid) or "pipe" in wchan(worker.pid), what=lambda: wchan(worker.pid))
    return worker


def wchan(pid: int) -> str:
    with open(f"/proc/{pid}/wchan") as file:
        return file.read()


def test_no_message_before_the_gate_opens(bench: Bench, gate: list[int]) -> None:
    worker = behind(bench, gate)
    assert bench.consumers() == 0
    assert worker.heard == []
    os.write(gate[1], b"1")
    worker.says("(?m)^gate None False")
    assert worker.stop() == 0


def test_a_supervisor_that_dies_before_it_opens(bench: Bench, gate: list[int]) -> None:
    worker = behind(bench, gate)
    os.close(gate[1])
    assert worker.ended() == 0
    assert "it does not start: the supervisor ended before" in worker.log
    assert len(worker.log.splitlines()) == 1
    assert bench.count() == 1


def test_a_stop_at_the_gate(bench: Bench, gate: list[int]) -> None:
    worker = behind(bench, gate)
    assert worker.stop() == 0
    assert bench.count() == 1


@pytest.mark.parametrize(("text", "status"), [("many", 1), ("999", 0)])
def test_a_gate_that_is_none(bench: Bench, text: str, status: int) -> None:
    bench.queue()
    worker = bench.start("work", VERBS, START_GATE=text)
    assert worker.ended() == status
    assert "START_GATE" in worker.log
    assert "consuming" not in worker.log


FORK = """
import os, sys
sys.path.insert(0, {entry!r})
from __main__ import *
import importlib.util
spec = importlib.util.spec_from_file_location("entry", {entry!r} + "/__main__.py")
entry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(entry)
entry.make_package()
import workers.runtime.main as main
from workers.runtime import log
from workers.runtime.loader import load
before = set(os.listdir("/proc/self/fd"))
log.set_up({{}}, "zygote")
load("work")
threads = os.listdir("/proc/self/task")
opened = [fd for fd in os.listdir("/proc/self/fd") if fd not in before]
links = [os.readlink("/proc/self/fd/" + fd) for fd in before if os.path.exists("/proc/self/fd/" + fd)]
print("parent", len(threads), opened, [link for link in links if "socket" in link or "anon" in link], flush=True)
children = []
for slot, form in enumerate(("text", "json", "text")):
    pid = os.fork()
    if pid == 0:
        os.environ.update(SLOT=str(slot), LOG_FORMAT=form, LOG_LEVEL="WARNING" if slot == 2 else "INFO")
        status = main.run("work")
        sys.stdout.flush()
        os._exit(status)
    children.append(pid)
print("children", children, flush=True)
print("ended", [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children], flush=True)
"""


def test_forks_of_a_process_that_has_imported_everything(bench: Bench) -> None:
    bench.queue()
    bench.write("work.py", VERBS)
    env = {"AMQP_URL": bench.url, "QUEUE_NAME": "q", "WORKERS_FOLDER": str(bench.folder), "PREFETCH": "1"}
    log = bench.root / "fork.log"
    with log.open("wb") as output:
        parent = subprocess.Popen(
            [sys.executable, "-P", "-c", FORK.format(entry=str(ENTRY.parent))], env=env, stdout=output, stderr=output
        )
    pids: list[int] = []
    try:
        until(lambda: bench.consumers() == 3 and "\nchildren [" in log.read_text(), what=log.read_text)
        assert "parent 1 [] []\n" in log.read_text()
        pids = json.loads(log.read_text().partition("\nchildren ")[2].splitlines()[0])
        bench.publish("sys.exit(3)")  # it goes back, and so ends all three
        assert parent.wait(60) == 0, log.read_text()
    finally:
        parent.kill()
        parent.wait()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    text = log.read_text()
    assert "ended [3, 3, 3]" in text
    assert f"[q/work {pids[0]}] consuming" in text
    assert f'"pid": {pids[1]}, "message_id": null, "message": "consuming' in text
    assert f"[q/work {pids[2]}] consuming" not in text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("sys.exit(7)", 7, "SystemExit(7)"),
        ("sys.exit()", 0, "SystemExit()"),
        ("sys.exit('enough')", 1, "SystemExit('enough')"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt()"),
    ],
)
def test_the_status_of_a_handler_that_ends_the_process(bench: Bench, body: str, status: int, words: str) -> None:
    bench.queue()
    bench.publish(body)
    worker = bench.start("work", VERBS)
    assert worker.ended() == status
    assert f"the handler ends the process ({words}): its message goes back" in worker.log
    assert "worker work stops: 0 processed, 0 failed" in worker.log
    until(lambda: bench.count() == 1)


@pytest.mark.parametrize(("body", "status"), [("sys.exit(4)", 4), ("1 / 0", 1)])
def test_the_status_of_an_init_that_ends_it(bench: Bench, body: str, status: int) -> None:
    bench.queue()
    worker = bench.start("work", VERBS + f"\n        def __init__(self, channel, queue_name): {body}\n")
    assert worker.ended() == status
    assert "Work.__init__" in worker.log
