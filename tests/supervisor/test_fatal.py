"""Crash loops and giving up: who is given up, why, in which words, and what brings it back."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.supervisor import slot
from reconciler.supervisor.deaths import MANY, WINDOW, Deaths
from state.processes import Pool, WorkerSpec, WorkerState
from tests.supervisor.support import GOOD, POOL, TELL, Running, is_gone, spec, supervised
from tests.waiting import async_eventually

BAD = "import sys\nsys.exit('no such table: users')\n"
# Ready, and dead a moment later: each time it had worked.
SHORT = TELL + "tell('READY=1')\ntime.sleep(0.02)\nos._exit(9)\n"


def giving_up(script: str = BAD, most: int = 2, digest: str = "one", terms: str = "t") -> WorkerSpec:
    return replace(spec(script, digest=digest), max_restarts=most, terms=terms)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff without its waits."""
    monkeypatch.setattr(slot, "backoff", lambda failures, jitter: 0.01 if failures else 0.0)


async def given_up(it: Running, number: int = 0, pool: Pool = POOL) -> str:
    await async_eventually(lambda: it.state(number, pool) is WorkerState.FATAL)
    return it.worker(number, pool).reason or ""


@given(st.lists(st.floats(0, 2 * WINDOW), max_size=30))
def test_a_crash_loop_is_a_count_in_a_window(waits: list[float]) -> None:
    deaths, times, now = Deaths(), list[float](), 1e9
    for wait in waits:
        now += wait
        times.append(now)
        deaths.add(now)
        within = [time for time in times if now - time <= WINDOW]
        assert deaths.count == len(within)
        assert ("crash loop" in deaths.told("x")) == (len(within) >= MANY)


async def test_given_up_after_max_restarts(tmp_path: Path, hasty: None) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(giving_up(most=2), 0)
        reason = await given_up(it)
        assert reason.startswith("given up after 3 deaths (max_restarts 2): exit code 1: no such table: users")
        assert "POST /worker/restart" in reason
        seen = it.worker()
        assert (seen.restarts, seen.retry_at, seen.running) == (2, None, False)
        assert it.kinds().count("started") == 3
        assert it.kinds()[-1] == "fatal"


async def test_never_given_up_unless_asked(tmp_path: Path, hasty: None) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(BAD), 0)
        await async_eventually(lambda: it.kinds().count("started") > 8)
        assert "crash loop: " in last_backoff(it)
        assert "fatal" not in it.kinds()


def last_backoff(it: Running) -> str:
    return next(event.text for event in reversed(it.events) if event.kind == "backoff")


async def test_a_loop_is_one_however_well_each_of_them_had_worked(tmp_path: Path, hasty: None) -> None:
    """Each was ready and counted as healthy: not a failure in a row, and a crash loop all the same."""
    async with supervised(tmp_path) as it:
        healthy = slot.HEALTHY
        slot.HEALTHY = 0.0
        try:
            it.supervisor.start_worker(giving_up(SHORT, most=MANY), 0)
            reason = await given_up(it)
        finally:
            slot.HEALTHY = healthy
        assert f"crash loop: {MANY + 1} deaths in" in reason
        assert it.kinds().count("ready") == MANY + 1
        assert it.kinds().count("backoff") == 1, "from the fifth death on it waits"


@pytest.mark.parametrize("wish", ["digest", "terms", "restart", "down and up"])
async def test_what_brings_it_back(tmp_path: Path, hasty: None, wish: str) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(giving_up(most=0), 0)
        await given_up(it)
        it.supervisor.start_worker(giving_up(most=0), 0)
        assert it.state() is WorkerState.FATAL, "the same wish again changes nothing"
        pid = it.worker().pid
        match wish:
            case "digest":
                it.supervisor.start_worker(giving_up(GOOD, most=0, digest="two"), 0)
            case "terms":
                it.supervisor.start_worker(giving_up(most=1, terms="u"), 0)
            case "restart":
                it.supervisor.restart_worker(POOL, 0)
            case _:
                it.supervisor.stop_worker(POOL, 0)
                assert it.supervisor.observe() == ()
                it.supervisor.start_worker(giving_up(most=0), 0)
        assert it.state() is WorkerState.STARTING
        if wish == "digest":
            await async_eventually(lambda: it.state() is WorkerState.READY)
            assert it.worker().reason is None
        else:
            await async_eventually(lambda: it.worker().pid not in (None, pid) and it.state() is WorkerState.FATAL)
            assert (it.worker().reason or "").startswith(f"given up after {2 if wish == 'terms' else 1} death")


@pytest.mark.parametrize("how", ["leave", "close"])
async def test_the_next_daemon_does_not_try_again(tmp_path: Path, hasty: None, how: str) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(giving_up(most=1), 0)
        reason = await given_up(it)
        if how == "leave":
            it.supervisor.leave()
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(giving_up(most=1), 0)
        assert (it.state(), it.worker().reason) == (WorkerState.FATAL, reason)
        assert "started" not in it.kinds()
        it.supervisor.start_worker(giving_up(GOOD, most=1, digest="two"), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(giving_up(GOOD, most=1, digest="two"), 0)
        assert it.state() is WorkerState.STARTING


async def test_what_a_person_has_forgiven_stays_so(tmp_path: Path, hasty: None) -> None:
    """Also when it was given up by one daemon, taken back in the second, and adopted by the third."""
    flag = tmp_path / "works-now"
    script = TELL + f"if not os.path.exists({str(flag)!r}): sys.exit('not yet')\ntell('READY=1')\nwait()\n"
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(giving_up(script, most=0), 0)
        await given_up(it)
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(giving_up(script, most=0), 0)
        assert it.state() is WorkerState.FATAL
        flag.touch()
        it.supervisor.restart_worker(POOL, 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        it.supervisor.leave()
    async with supervised(tmp_path / "state") as it:
        assert it.state() is WorkerState.READY
        it.supervisor.start_worker(giving_up(script, most=0), 0)
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        it.supervisor.start_worker(giving_up(script, most=0), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)


async def test_what_was_scaled_away_while_given_up_is_forgotten_on_disk_too(tmp_path: Path, hasty: None) -> None:
    for _ in range(2):
        async with supervised(tmp_path) as it:
            it.supervisor.start_worker(giving_up(most=0), 0)
            assert it.state() is WorkerState.STARTING
            await given_up(it)
            it.supervisor.leave()
        async with supervised(tmp_path) as it:
            it.supervisor.start_worker(giving_up(most=0), 0)
            assert it.state() is WorkerState.FATAL
            it.supervisor.stop_worker(POOL, 0)


async def test_a_program_that_is_not_there_is_given_up_too(tmp_path: Path, hasty: None) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(replace(giving_up(), command=("no-such-program",)), 0)
        assert (await given_up(it)).startswith("given up after 3 deaths (max_restarts 2): command not found: no-such")
        assert it.worker().pid is None


async def test_the_next_daemon_does_not_try_again_what_never_became_a_process(tmp_path: Path, hasty: None) -> None:
    absent = replace(giving_up(most=0), command=("no-such-program",))
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(absent, 0)
        reason = await given_up(it)
        it.supervisor.leave()
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(absent, 0)
        assert (it.state(), it.worker().reason) == (WorkerState.FATAL, reason)
        assert it.supervisor.history() == ()
        it.supervisor.restart_worker(POOL, 0)
        assert it.state() is WorkerState.STARTING


async def test_a_crash_loop_goes_on_over_daemons(tmp_path: Path, hasty: None) -> None:
    most = MANY + 3
    for _ in range(2):
        async with supervised(tmp_path) as it:
            it.supervisor.start_worker(giving_up(SHORT, most=most), 0)
            await async_eventually(lambda: it.kinds().count("exited") >= 3)
            it.supervisor.leave()
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(giving_up(SHORT, most=most), 0)
        assert f"crash loop: {most + 1} deaths in" in await given_up(it)
        assert it.kinds().count("exited") <= most + 1 - 6
        it.supervisor.stop_worker(POOL, 0)
        told = len(it.events)
        it.supervisor.start_worker(giving_up(SHORT, most=most), 0)
        await async_eventually(lambda: "backoff" in [event.kind for event in it.events[told:]])
        first = next(event.text for event in it.events[told:] if event.kind == "backoff")
        assert "crash loop" not in first, "scaled away, and back: forgiven"


async def test_one_killed_by_a_signal_is_told_so(tmp_path: Path, hasty: None) -> None:
    async with supervised(tmp_path) as it:
        killed = "import os\nos.kill(os.getpid(), 11)\n"
        it.supervisor.start_worker(giving_up(killed, most=0), 0)
        assert f"killed by {signal.SIGSEGV.name}" in await given_up(it)
        assert is_gone(it.worker().pid or 0)


async def test_a_crash_loop_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """Twenty slots die all the time; a pool that is asked for then does not wait behind them."""
    bad, good = Pool("bad", "bad"), Pool("good", "good")
    async with supervised(tmp_path) as it:
        for number in range(20):
            it.supervisor.start_worker(spec(BAD, pool=bad), number)
        await async_eventually(lambda: all(it.kinds(n, bad).count("backoff") > 1 for n in range(20)), 60)
        before = len(it.events)
        for number in range(4):
            it.supervisor.start_worker(spec(GOOD, pool=good), number)
        await async_eventually(lambda: all(it.state(n, good) is WorkerState.READY for n in range(4)), 60)
        started = [event.pool for event in it.events[before:] if event.kind == "started"]
        first = started[: len(started) - started[::-1].index(good)]  # up to the last of the good ones
        # Their number does not tell: the longer it takes, the more of them are tried again. Those few had their turn.
        assert first.count(bad) <= max(2, len(os.sched_getaffinity(0))), "those of the loop went first"
