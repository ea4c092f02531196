"""When a worker is over its limits, in which words, and who of a pool is replaced first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.supervisor import checkup
from reconciler.supervisor.checkup import Checkup
from reconciler.supervisor.limits import JITTER, is_watched, overdue, share
from state.processes import Limits, ObservedWorker, Pool, WorkerSpec, WorkerState
from tests.supervisor.support import spec
from tests.waiting import async_eventually

POOL = Pool("orders", "handle_order")
NOW = 1_000_000.0
MIB = 2**20


def worker(slot: int = 0, **fields: object) -> ObservedWorker:
    plain = ObservedWorker(POOL, slot, 100 + slot, WorkerState.READY, "one", NOW - 1000.0, heartbeat_at=NOW - 1.0)
    return replace(plain, **fields)


@pytest.mark.parametrize(
    ("fields", "limits", "memory", "reason"),
    [
        ({}, Limits(), 2**40, None),
        ({"heartbeat_at": NOW - 130}, Limits(watchdog=120), None, "no heartbeat for 130 s (watchdog 120 s)"),
        ({"heartbeat_at": NOW - 119}, Limits(watchdog=120), None, None),
        ({"heartbeat_at": None}, Limits(watchdog=120), None, "no heartbeat for 1000 s (watchdog 120 s)"),
        ({"heartbeat_at": None, "started_at": NOW - 5}, Limits(watchdog=120), None, None),
        ({"heartbeat_at": None, "state": WorkerState.STARTING}, Limits(watchdog=120), None, None),  # slow import
        (
            {
                "heartbeat_at": NOW - 121,
                "state": WorkerState.STARTING,
                "consumer_tag": "c",
            },  # lost its broker, and hung
            Limits(watchdog=120),
            None,
            "no heartbeat for 121 s (watchdog 120 s)",
        ),
        ({"heartbeat_at": NOW - 200, "state": WorkerState.STOPPING}, Limits(watchdog=120), None, None),
        ({"pid": None, "state": WorkerState.STARTING}, Limits(max_age=1), None, None),
        ({"state": WorkerState.BACKOFF}, Limits(max_age=1), None, None),
        (
            {"in_flight_since": NOW - 301},
            Limits(message_timeout=300),
            None,
            "one message in hand for 301 s (message_timeout 300 s)",
        ),
        ({"in_flight_since": NOW - 299}, Limits(message_timeout=300), None, None),
        ({"in_flight_since": None, "last_message_at": 5.0}, Limits(message_timeout=300), None, None),
        ({"in_flight_since": 5.0}, Limits(message_timeout=2000), None, None),  # told nonsense: not older than itself
        ({}, Limits(max_memory=512 * MIB), 600 * MIB, "600 MiB of private memory (max_memory 512 MiB)"),
        ({}, Limits(max_memory=512 * MIB), 512 * MIB, None),
        ({}, Limits(max_memory=512 * MIB), None, None),
        ({"processed": 990, "failed": 10}, Limits(max_messages=1000), None, "1000 messages (max_messages 1000)"),
        ({"processed": 899}, Limits(max_messages=1000), None, None),
        ({"processed": 0}, Limits(max_messages=1), None, None),
        ({"processed": 1}, Limits(max_messages=1), None, "1 messages (max_messages 1)"),
        ({"started_at": NOW - 3601}, Limits(max_age=3600), None, "3601 s old (max_age 3600 s)"),
        ({"started_at": NOW - 3200}, Limits(max_age=3600), None, None),
    ],
)
def test_when_and_in_which_words(
    fields: dict[str, object], limits: Limits, memory: int | None, reason: str | None
) -> None:
    assert overdue(worker(**fields), limits, NOW, memory) == reason


def test_only_what_changes_with_time_has_to_be_watched() -> None:
    assert not is_watched(Limits(nice=5, cpu_affinity=(0,), user="x", rlimits={"nofile": 10}))
    assert is_watched(Limits(watchdog=1.0))


@given(st.integers(0, 10_000), st.floats(0, 2e9))
def test_jitter_is_bounded_and_stays_the_same(slot: int, started_at: float) -> None:
    one = worker(slot, started_at=started_at)
    assert 1.0 - JITTER <= share(one) <= 1.0
    assert share(one) == share(replace(one, processed=5, heartbeat_at=1.0, state=WorkerState.STARTING))


def test_workers_that_start_together_do_not_reach_their_limits_together() -> None:
    shares = [share(worker(slot)) for slot in range(100)]
    assert len(set(shares)) == 100
    assert max(shares) - min(shares) > JITTER * 0.9


@dataclass
class StandIn:
    """A slot of which the test says what is seen."""

    spec: WorkerSpec
    seen: ObservedWorker
    restarted: list[str] = field(default_factory=list)

    def observe(self) -> ObservedWorker:
        return self.seen

    def restart(self, why: str) -> None:
        self.restarted.append(why)
        self.seen = replace(self.seen, state=WorkerState.STOPPING)

    def becomes(self, **fields: object) -> None:
        self.seen = replace(self.seen, **fields)


def stand_in(slot: int, limits: Limits, **fields: object) -> StandIn:
    seen = worker(slot, **fields)
    return StandIn(replace(spec(pool=seen.pool), limits=limits), seen)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def checkup_of(slots: list[StandIn], loop: asyncio.AbstractEventLoop, began: float = NOW) -> Checkup:
    """One that has looked at them before."""
    made = Checkup(lambda: slots, loop)
    made.look(began)
    assert not any(slot.restarted for slot in slots)
    return made


def test_one_of_a_pool_at_a_time_and_the_longest_over_first(loop: asyncio.AbstractEventLoop) -> None:
    slots = [stand_in(n, Limits(max_messages=100)) for n in range(3)]
    check = checkup_of(slots, loop)
    slots[2].becomes(processed=100)
    slots[0].becomes(state=WorkerState.BACKOFF)
    check.look(NOW + 1)  # seen, but another one is away
    slots[1].becomes(processed=100)
    slots[0].becomes(state=WorkerState.READY, processed=100)
    assert not any(slot.restarted for slot in slots)
    check.look(NOW + 2)
    check.look(NOW + 3)
    assert [len(slot.restarted) for slot in slots] == [0, 0, 1]
    slots[2].becomes(state=WorkerState.STARTING, pid=900, processed=0, started_at=NOW + 3)
    check.look(NOW + 4)
    assert [len(slot.restarted) for slot in slots] == [0, 0, 1]
    slots[2].becomes(state=WorkerState.READY)
    check.look(NOW + 5)
    assert [len(slot.restarted) for slot in slots] == [1, 0, 1]


def test_pools_do_not_wait_for_each_other_nor_for_what_has_ended(loop: asyncio.AbstractEventLoop) -> None:
    other = Pool("emails", "send_email")
    slots = [
        stand_in(0, Limits(max_age=10.0)),
        stand_in(0, Limits(max_age=10.0), pool=other, pid=7),
        stand_in(1, Limits(max_age=10.0), pool=other, pid=8, state=WorkerState.FATAL),
    ]
    check = checkup_of(slots, loop)
    check.look(NOW + 1)
    assert [len(slot.restarted) for slot in slots] == [1, 1, 0]


def test_a_hung_one_is_replaced_whoever_else_is_away(loop: asyncio.AbstractEventLoop) -> None:
    limits = Limits(watchdog=3.0)
    slots = [
        stand_in(0, limits, state=WorkerState.BACKOFF),
        stand_in(1, limits, heartbeat_at=NOW),
        stand_in(2, limits, heartbeat_at=NOW),
    ]
    check = checkup_of(slots, loop)
    for second in range(1, 4):
        check.look(NOW + second)
    assert not any(slot.restarted for slot in slots)
    check.look(NOW + 4)
    assert [slot.restarted for slot in slots] == [[], *[["no heartbeat for 4 s (watchdog 3 s)"]] * 2]


def test_one_that_was_adopted_is_given_time_to_be_heard(loop: asyncio.AbstractEventLoop) -> None:
    slots = [stand_in(0, Limits(watchdog=3.0), heartbeat_at=None)]  # it started long ago
    check = checkup_of(slots, loop)
    for second in range(1, 4):
        check.look(NOW + second)
    assert not slots[0].restarted
    check.look(NOW + 4)
    assert slots[0].restarted


def test_nobody_pays_for_the_time_that_the_daemon_was_away(loop: asyncio.AbstractEventLoop) -> None:
    limits = Limits(watchdog=3.0, message_timeout=100.0)
    slots = [stand_in(0, limits, heartbeat_at=NOW, in_flight_since=NOW)]
    check = checkup_of(slots, loop)
    check.look(NOW + 1000)
    assert not slots[0].restarted
    slots[0].becomes(in_flight_since=None, heartbeat_at=NOW + 1000.5)  # what it had said is read now
    check.look(NOW + 1001)
    assert not slots[0].restarted


def test_a_breach_that_is_over_is_forgotten(loop: asyncio.AbstractEventLoop) -> None:
    slots = [stand_in(0, Limits(message_timeout=10.0), in_flight_since=NOW - 20), stand_in(1, Limits())]
    slots[1].becomes(state=WorkerState.STARTING)
    check = checkup_of(slots, loop)
    check.look(NOW + 1)
    slots[0].becomes(in_flight_since=NOW + 1)
    slots[1].becomes(state=WorkerState.READY)
    check.look(NOW + 2)
    assert not slots[0].restarted


async def test_without_limits_nothing_is_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "EVERY", 0.02)
    slots = [stand_in(0, Limits(nice=3))]
    looks = 0

    def given() -> list[StandIn]:
        nonlocal looks
        looks += 1
        return slots

    check = Checkup(given, asyncio.get_running_loop())
    check.wake()
    check.wake()
    await asyncio.sleep(0.2)
    assert looks == 1
    slots[0].spec = replace(slots[0].spec, limits=Limits(max_age=1.0))
    check.wake()
    await async_eventually(lambda: slots[0].restarted)
    slots[0].spec = replace(slots[0].spec, limits=Limits())
    await asyncio.sleep(0.1)
    looks = 0
    await asyncio.sleep(0.1)
    assert looks == 0
    check.close()
