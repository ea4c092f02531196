"""Draining: to the leader first, to all of them in the end, and many at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from reconciler.supervisor import Supervisor
from state.processes import WorkerState
from tests.supervisor.support import DEAF, GOOD, POOL, TELL, is_gone, log_of, spec, supervised, zombies
from tests.waiting import async_eventually

PARENT = (
    "import subprocess\n"
    "child = subprocess.Popen([sys.executable, '-ISc', 'import signal, time\\n"
    'signal.signal(signal.SIGTERM, lambda *_: print("CHILD GOT IT", flush=True))\\n'
    "print(1, flush=True)\\nwhile True: time.sleep(1)'])\n"
    "tell(f'READY=1\\nX_CHILD={child.pid}')\n"
)


async def test_only_the_leader_is_told_and_the_rest_killed_after_it(tmp_path: Path) -> None:
    slow_end = "def end(*_):\n    time.sleep(0.3); sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\n"
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(TELL + slow_end + PARENT + "wait()"), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY and "1" in log_of(it.worker()))
        worker = it.worker()
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        await async_eventually(lambda: is_gone(int(worker.stats["X_CHILD"])))
        assert "CHILD GOT IT" not in log_of(worker)
        ended = it.supervisor.find(worker.pid or 0)
        assert ended
        assert ended.reason == "stopped"


async def test_after_grace_all_are_killed(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        script = DEAF.replace("tell('READY=1')\n", PARENT)
        it.supervisor.start_worker(spec(script, grace=0.4), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        worker = it.worker()
        began = time.perf_counter()
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        assert time.perf_counter() - began > 0.35
        await async_eventually(lambda: is_gone(int(worker.stats["X_CHILD"])))
        ended = it.supervisor.find(worker.pid or 0)
        assert ended
        assert ended.reason == "told to stop; killed by SIGKILL"
        assert zombies() == []


async def test_a_halted_one_can_be_stopped(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        os.kill(it.worker().pid or 0, signal.SIGSTOP)
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        assert it.supervisor.history()[0].reason == "stopped"


async def test_one_that_still_waits_for_its_turn(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(), 0)
        it.supervisor.stop_worker(POOL, 0)
        assert it.supervisor.observe() == ()
        assert it.kinds() == ["stopped"]


async def test_a_hundred_at_once(tmp_path: Path) -> None:
    """Each takes half a second to end; together they take not much more."""
    slow = (
        TELL
        + "def end(*_):\n    time.sleep(0.5); sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\ntell('READY=1')\nwait()"
    )
    async with supervised(tmp_path) as it:
        for slot in range(100):
            it.supervisor.start_worker(spec(slow), slot)
        await async_eventually(lambda: sum(w.state is WorkerState.READY for w in it.supervisor.observe()) == 100, 60)
        pids = [worker.pid or 0 for worker in it.supervisor.observe()]
        assert len(set(pids)) == 100
        began = time.perf_counter()
        await it.supervisor.close()
        assert time.perf_counter() - began < 25, "one after the other takes twice as long"
        assert all(is_gone(pid) for pid in pids)


async def test_close_is_bounded_by_each_ones_grace_and_leaves_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start()
    supervisor.start_worker(spec(GOOD), 0)
    supervisor.start_worker(spec(DEAF.replace("tell('READY=1')\n", PARENT), grace=0.3), 1)
    supervisor.start_worker(spec("raise SystemExit(1)"), 2)
    await async_eventually(lambda: [worker.state for worker in supervisor.observe()][:2] == [WorkerState.READY] * 2)
    workers = supervisor.observe()
    began = time.perf_counter()
    await supervisor.close()
    assert time.perf_counter() - began < 25, "the other's grace is longer"
    assert all(is_gone(worker.pid) for worker in workers if worker.pid)
    assert is_gone(int(workers[1].stats["X_CHILD"]))
    assert not (tmp_path / "notify.sock").exists()
    supervisor.start_worker(spec(), 0)
    assert supervisor.observe() == ()
    await supervisor.close()


async def test_close_with_less_grace(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start()
    supervisor.start_worker(spec(DEAF, grace=60.0), 0)
    await async_eventually(lambda: supervisor.observe()[0].state is WorkerState.READY)
    began = time.perf_counter()
    await supervisor.close(grace=0.2)
    assert time.perf_counter() - began < 50, "its own grace is longer"


HUNG = """
def stop(*_):
    tell('STOPPING=1')
    time.sleep(3600)
signal.signal(signal.SIGTERM, stop)
tell('READY=1')
wait()
"""


async def test_one_that_somebody_else_told_to_stop_has_its_grace_and_no_more(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(TELL + HUNG, grace=0.5), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        pid = it.worker().pid
        assert pid
        os.kill(pid, signal.SIGTERM)
        await async_eventually(lambda: it.worker().pid != pid and it.state() is WorkerState.READY)
        assert it.worker().restarts == 1


async def test_one_that_takes_its_word_back_goes_on(tmp_path: Path) -> None:
    doubts = "tell('STOPPING=1'); time.sleep(0.2); tell('READY=1\\nSTOPPING=0')\nwait()\n"
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(TELL + "tell('READY=1')\n" + doubts, grace=1.0), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        pid = it.worker().pid
        for _ in range(20):
            await asyncio.sleep(0.1)
        assert it.worker().pid == pid
