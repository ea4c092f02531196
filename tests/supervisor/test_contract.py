"""What everyone may rely on: the same assertions on real processes and on the fake."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from reconciler.supervisor import Event, Supervisor
from state.processes import ObservedWorker, Pool, WorkerState
from tests.supervisor.fake import FakeSupervisor
from tests.supervisor.support import POOL, TELL, spec
from tests.waiting import async_eventually

# Says ready when it is sent SIGUSR1, dies of SIGUSR2 with code 3.
PUPPET = TELL + (
    "signal.signal(signal.SIGUSR1, lambda *_: tell('READY=1\\nX_CONSUMER_TAG=ctag1'))\n"
    "signal.signal(signal.SIGUSR2, lambda *_: os._exit(3))\n"
    "tell('STATUS=connecting')\nwait()\n"
)


class World(Protocol):
    """A supervisor, and the hands that move its processes."""

    events: list[Event]

    @property
    def supervisor(self) -> Supervisor | FakeSupervisor: ...

    def make_ready(self, slot: int) -> None: ...

    def make_die(self, slot: int) -> None: ...


class RealWorld:
    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self.supervisor = Supervisor(folder, self.events.append)

    def make_ready(self, slot: int) -> None:
        os.kill(seen(self, slot).pid or 0, signal.SIGUSR1)

    def make_die(self, slot: int) -> None:
        os.kill(seen(self, slot).pid or 0, signal.SIGUSR2)


class FakeWorld:
    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self.supervisor = FakeSupervisor(folder, self.events.append)

    def make_ready(self, slot: int) -> None:
        self.supervisor.say_ready(POOL, slot, X_CONSUMER_TAG="ctag1")

    def make_die(self, slot: int) -> None:
        self.supervisor.die(POOL, slot, 3)


@pytest.fixture(params=[RealWorld, FakeWorld])
def world(request: pytest.FixtureRequest, tmp_path: Path, patient: None) -> AbstractAsyncContextManager[World]:
    @asynccontextmanager
    async def running() -> AsyncIterator[World]:
        world = request.param(tmp_path)
        await world.supervisor.start()
        try:
            yield world
        finally:
            await world.supervisor.close()
        assert world.supervisor.observe() == ()

    return running()


def seen(world: World, slot: int) -> ObservedWorker:
    return next(worker for worker in world.supervisor.observe() if worker.slot == slot)


async def started(world: World, slot: int = 0) -> ObservedWorker:
    """Until its process runs and listens."""
    world.supervisor.start_worker(spec(PUPPET), slot)
    fake = isinstance(world.supervisor, FakeSupervisor)
    await async_eventually(lambda: seen(world, slot).reason == "connecting" or fake)
    return seen(world, slot)


async def ready(world: World, slot: int = 0) -> ObservedWorker:
    await started(world, slot)
    world.make_ready(slot)
    await async_eventually(lambda: seen(world, slot).state is WorkerState.READY)
    return seen(world, slot)


async def test_starts_and_becomes_ready(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await started(it)
        assert (worker.pool, worker.slot, worker.state) == (POOL, 0, WorkerState.STARTING)
        assert (worker.digest, worker.restarts, worker.consumer_tag) == ("one", 0, None)
        assert worker.pid
        assert worker.log_path
        worker = await ready(it)
        assert (worker.consumer_tag, worker.reason, worker.retry_at) == ("ctag1", None, None)
        assert worker.running
        assert [event.kind for event in it.events] == ["started", "ready"]


async def test_starting_twice_changes_nothing(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        it.supervisor.start_worker(spec(PUPPET), 0)
        assert it.supervisor.observe() == (worker,)


async def test_stops_and_vanishes(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        it.supervisor.stop_worker(POOL, 0)
        assert seen(it, 0).state is WorkerState.STOPPING
        assert seen(it, 0).pid == worker.pid
        await async_eventually(lambda: it.supervisor.observe() == ())
        assert [event.kind for event in it.events][-3:] == ["stopping", "exited", "stopped"]
        it.supervisor.stop_worker(POOL, 0)
        it.supervisor.stop_worker(Pool("no", "such"), 7)


async def test_a_ready_one_that_dies_is_followed_at_once(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        it.make_die(0)
        await async_eventually(lambda: seen(it, 0).pid not in (None, worker.pid))
        assert seen(it, 0).restarts == 1
        assert seen(it, 0).state is WorkerState.STARTING


async def test_one_that_never_was_ready_waits_before_it_is_tried_again(
    world: AbstractAsyncContextManager[World],
) -> None:
    async with world as it:
        worker = await started(it)
        it.make_die(0)
        await async_eventually(lambda: seen(it, 0).state is WorkerState.BACKOFF)
        after = seen(it, 0)
        assert (after.pid, after.reason, after.restarts) == (worker.pid, "exit code 3", 1)
        assert after.retry_at
        assert after.ended_at
        assert not after.running
        it.supervisor.start_worker(spec(PUPPET), 0)
        assert seen(it, 0).state is WorkerState.BACKOFF
        it.supervisor.stop_worker(POOL, 0)
        assert it.supervisor.observe() == ()


async def test_backoff_ends_with_a_new_spec_or_a_restart(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        await started(it)
        it.make_die(0)
        await async_eventually(lambda: seen(it, 0).state is WorkerState.BACKOFF)
        it.supervisor.start_worker(spec(PUPPET, digest="two"), 0)
        await async_eventually(lambda: "started" in [event.kind for event in it.events[3:]])
        assert (seen(it, 0).state, seen(it, 0).digest) == (WorkerState.STARTING, "two")


@pytest.mark.parametrize("wish", ["another digest", "other terms", "a restart", "another slot"])
async def test_given_up_until_something_changes(world: AbstractAsyncContextManager[World], wish: str) -> None:
    async with world as it:
        await started(it)
        asked = replace(spec(PUPPET), max_restarts=0)
        it.supervisor.start_worker(asked, 0)
        it.make_die(0)
        await async_eventually(lambda: seen(it, 0).state is WorkerState.FATAL)
        worker = seen(it, 0)
        assert (worker.reason or "").startswith("given up after 1 deaths (max_restarts 0): exit code 3")
        assert (worker.restarts, worker.retry_at, worker.running) == (0, None, False)
        assert it.events[-1].kind == "fatal"
        it.supervisor.start_worker(asked, 0)
        assert seen(it, 0).state is WorkerState.FATAL
        match wish:
            case "another digest":
                it.supervisor.start_worker(replace(asked, digest="two"), 0)
            case "other terms":
                it.supervisor.start_worker(replace(asked, terms="other"), 0)
            case "a restart":
                it.supervisor.restart_worker(POOL, 0)
            case _:
                it.supervisor.stop_worker(POOL, 0)
                assert it.supervisor.observe() == ()
                it.supervisor.start_worker(asked, 0)
        await async_eventually(lambda: seen(it, 0).pid not in (None, worker.pid))
        assert seen(it, 0).state is WorkerState.STARTING


async def test_another_digest_drains_and_starts_anew(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        it.supervisor.start_worker(spec(PUPPET, digest="two"), 0)
        assert (seen(it, 0).state, seen(it, 0).digest) == (WorkerState.STOPPING, "one")
        await async_eventually(lambda: seen(it, 0).pid not in (None, worker.pid))
        assert (seen(it, 0).digest, seen(it, 0).restarts) == ("two", 0)


async def test_wanted_again_while_it_stops(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        it.supervisor.stop_worker(POOL, 0)
        it.supervisor.start_worker(spec(PUPPET), 0)
        await async_eventually(lambda: seen(it, 0).pid not in (None, worker.pid))


async def test_restart_drains_and_starts(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        it.supervisor.restart_worker(POOL, 0, "over max_memory")
        await async_eventually(lambda: seen(it, 0).pid not in (None, worker.pid))
        assert seen(it, 0).restarts == 0
        assert "over max_memory" in [event.text for event in it.events if event.kind == "stopping"]
        ended = it.supervisor.find(worker.pid or 0)
        assert ended
        assert ended.reason == "stopped (over max_memory)"
        it.supervisor.restart_worker(Pool("no", "such"), 7)


async def test_the_ended_are_found_by_pid(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        worker = await ready(it)
        found = it.supervisor.find(worker.pid or 0)
        assert found
        assert found.state is WorkerState.READY
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        found = it.supervisor.find(worker.pid or 0)
        assert found
        assert (found.state, found.log_path, found.reason) == (WorkerState.EXITED, worker.log_path, "stopped")
        assert it.supervisor.history() == it.supervisor.history(POOL) == (found,)
        assert it.supervisor.history(Pool("other", "one")) == ()
        assert it.supervisor.find(1) is None


async def test_observed_in_order(world: AbstractAsyncContextManager[World]) -> None:
    async with world as it:
        for slot in (2, 0, 1):
            it.supervisor.start_worker(spec(PUPPET), slot)
        assert [worker.slot for worker in it.supervisor.observe()] == [0, 1, 2]
