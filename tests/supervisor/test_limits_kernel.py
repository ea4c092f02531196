"""Limits on real processes: private memory, priority, cores, rlimits, and another user."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.supervisor import checkup
from reconciler.supervisor.checkup import Checkup, private_memory
from reconciler.supervisor.limits import constrain
from state.processes import Limits
from tests.supervisor.test_limits import NOW, checkup_of, stand_in

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
# A parent with 40 MiB that its fork shares; the fork has 60 MiB of its own.
MEMORY = """
import os, sys, time
shared = bytearray(os.urandom(1)) * (40 * 2**20)
child = os.fork()
own = bytearray(os.urandom(1)) * (60 * 2**20) if child == 0 else b""
if child == 0:
    print(os.getpid(), flush=True)
sys.stdin.read()
"""
SLEEPER = "import sys; print('up', flush=True); sys.stdin.read()"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextmanager
def running(script: str) -> Iterator[tuple[int, str]]:
    """A process's pid, and its first line."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        yield process.pid, process.stdout.readline().strip()
        assert process.stdin
        process.stdin.close()


def test_what_a_fork_shares_is_not_its_own() -> None:
    with running(MEMORY) as (_, line):
        used = private_memory(int(line))
        assert used is not None
        assert 60 * MIB < used < 80 * MIB
        resident = private_memory(int(line), enough=200 * MIB)  # the cheap answer, which is never less
        assert resident is not None
        assert used + 35 * MIB < resident < 200 * MIB


def test_the_memory_of_one_that_is_gone_is_not_known() -> None:
    assert private_memory(2**22 + 1) is None


def test_a_process_over_its_memory_is_replaced_and_read_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def read(pid: int, enough: int) -> int | None:
        reads.append(pid)
        return private_memory(pid, enough)

    monkeypatch.setattr(checkup, "private_memory", read)
    loop = asyncio.new_event_loop()
    with running(MEMORY) as (_, line):
        small = stand_in(0, Limits(max_memory=200 * MIB), pid=int(line))
        check: Checkup = checkup_of([small], loop)
        for second in range(1, 12):
            check.look(NOW + second)
        assert not small.restarted
        assert len(reads) == 3
        small.spec = replace(small.spec, limits=Limits(max_memory=50 * MIB))
        for second in range(12, 18):
            check.look(NOW + second)
        (why,) = small.restarted
        assert why.endswith("MiB of private memory (max_memory 50 MiB)")
    loop.close()


def test_a_process_that_has_just_started_is_constrained() -> None:
    with running(SLEEPER) as (pid, _):
        constrain(pid, Limits(nice=5, cpu_affinity=(0,), rlimits={"nofile": 77, "core": 0}))
        assert os.getpriority(os.PRIO_PROCESS, pid) == 5
        assert os.sched_getaffinity(pid) == {0}
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (77, 77)
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(cpu_affinity=(999,)), r"cpu_affinity \[999\] is refused: Invalid argument"),
        (Limits(rlimits={"pids": 3}), "there is no rlimit pids"),
        (Limits(rlimits={"nofile": 2**40}), "rlimit nofile 1099511627776 is not permitted"),
    ],
)
def test_what_the_kernel_refuses_is_said_in_words(limits: Limits, words: str) -> None:
    with running(SLEEPER) as (pid, _), pytest.raises((OSError, ValueError), match=words):
        constrain(pid, limits)


def test_one_that_has_ended_meanwhile_is_no_fault() -> None:
    with running("print()") as (pid, _):
        pass
    constrain(pid, Limits(nice=5, cpu_affinity=(0,), rlimits={"nofile": 77}))


def demoted(script: str, **limits: Any) -> str:
    """What a fork prints that was demoted first."""
    code = f"import json, os, resource, sys\nfrom workers.runtime.demote import demote\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(limits)], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW = """
demote(**json.loads(sys.argv[1]))
env = {key: os.environ.get(key) for key in ("HOME", "USER", "LOGNAME", "SHELL")}
ids = [*os.getresuid(), *os.getresgid(), os.getgroups()]
print(json.dumps([os.nice(0), sorted(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_NOFILE), ids, env]))
"""


@needs_root
def test_a_fork_demotes_itself_for_good() -> None:
    nobody = pwd.getpwnam("nobody")
    told = demoted(SHOW, nice=7, cpu_affinity=[0], user="nobody", rlimits={"nofile": 99})
    nice, cores, files, ids, env = json.loads(told)
    assert (nice, cores, files) == (7, [0], [99, 99])
    assert ids == [nobody.pw_uid] * 3 + [nobody.pw_gid] * 3 + [[nobody.pw_gid]]
    assert env == {"HOME": nobody.pw_dir, "USER": "nobody", "LOGNAME": "nobody", "SHELL": nobody.pw_shell}
    assert json.loads(demoted(SHOW, user=str(nobody.pw_uid)))[3] == ids


def test_nothing_asked_for_changes_nothing() -> None:
    before = [os.nice(0), sorted(os.sched_getaffinity(0))]
    assert json.loads(demoted(SHOW))[:2] == before


FAIL = "try:\n demote(**json.loads(sys.argv[1]))\nexcept (OSError, ValueError, KeyError) as error:\n print(error)"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"user": "nobody-at-all"}, "there is no user nobody-at-all (add it to this machine, or correct `user`)"),
        ({"rlimits": {"pids": 3}}, "there is no rlimit pids (one of as, core, cpu, "),
        ({"cpu_affinity": [999]}, "cpu_affinity [999] is refused: Invalid argument"),
    ],
)
def test_what_cannot_be_is_said_in_words(limits: dict[str, Any], words: str) -> None:
    assert demoted(FAIL, **limits).startswith(words)


@needs_root
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"nice": -5}, "nice -5 is not permitted (only root may"),
        ({"user": "root"}, "user root is not permitted (only root may"),
        ({"rlimits": {"nofile": 2**20 + 5}}, "rlimit nofile 1048581 is refused: not allowed to raise maximum limit"),
    ],
)
def test_what_only_root_may_is_said_in_words(limits: dict[str, Any], words: str) -> None:
    first = "import resource\ndemote(user='nobody', rlimits={'nofile': 100})\n"
    assert demoted(first + FAIL, **limits).startswith(words)
