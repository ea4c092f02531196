"""Counters never go back: not when a process is replaced, nor when a slot goes, nor over a restart of the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.tally import Counts, Tallies
from state.processes import ObservedWorker, Pool
from tests.reconciler.support import POOL, worker

SINCE = 1000.0


def seen(pid: int, processed: int, slot: int = 0, started: float = SINCE, **more: object) -> ObservedWorker:
    return replace(worker(slot), pid=pid, processed=processed, started_at=started, **{"heartbeat_at": 1.0, **more})


def total(tallies: Tallies, pool: Pool = POOL) -> Counts:
    return next(counts for found, counts, _ in tallies.pools([pool]) if found == pool)


def test_the_successor_of_a_process_counts_on_where_it_left_off() -> None:
    tallies = Tallies(SINCE)
    tallies.take(seen(1, 10), cpu_seconds=2.0)
    tallies.take(seen(1, 12))  # as it ended
    assert tallies.take(seen(2, 0)).counts.processed == 12
    assert tallies.take(seen(2, 30), cpu_seconds=1.0).counts == Counts(42, 0, 0, 0, 3.0)
    assert total(tallies).processed == 42


def test_what_came_and_went_between_two_looks_is_counted_from_its_end() -> None:
    tallies = Tallies(SINCE)
    for pid in range(1, 6):
        tallies.take(seen(pid, 7, failed=1))
    assert total(tallies) == Counts(35, 5)


def test_a_slot_that_is_gone_stays_in_the_sum_of_its_pool() -> None:
    tallies = Tallies(SINCE)
    tallies.take(seen(1, 5))
    tallies.take(seen(2, 9, slot=1))
    assert total(tallies).processed == 14


def test_a_worker_of_an_earlier_daemon_begins_where_it_first_tells() -> None:
    """Else the rate after a restart of the daemon would show all that it ever did, at once."""
    tallies = Tallies(SINCE)
    adopted = {"started": SINCE - 500}
    assert tallies.take(seen(1, 0, heartbeat_at=None, **adopted)).counts.processed == 0
    assert tallies.take(seen(1, 70_000, **adopted)).counts.processed == 0
    assert tallies.take(seen(1, 70_003, **adopted)).counts.processed == 3


def test_a_pool_that_is_not_wanted_any_more_is_forgotten() -> None:
    tallies = Tallies(SINCE)
    tallies.take(seen(1, 5))
    assert list(tallies.pools([])) == []
    assert total(tallies).processed == 0


def test_restarts_are_summed_over_the_slots_that_had_the_number() -> None:
    tallies = Tallies(SINCE)
    for restarts in (0, 1, 4, 0, 2):
        tallies.take(seen(1, 0, restarts=restarts))
    assert [restarts for _, _, restarts in tallies.pools([POOL])] == [6]


def lives() -> st.SearchStrategy[list[list[int]]]:
    """What each process of a row has processed whenever it is looked at."""
    return st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=5).map(sorted), min_size=1, max_size=6)


def looks(found: list[list[int]]) -> Iterator[ObservedWorker]:
    for pid, counts in enumerate(found, 1):
        yield replace(seen(pid, 0), pid=None)  # waits to be spawned
        yield from (seen(pid, count) for count in counts)
        yield seen(pid, 0)  # its report is gone, and it is still seen


@given(lives())
def test_whatever_the_workers_do_the_counter_only_rises_to_the_true_sum(found: list[list[int]]) -> None:
    tallies = Tallies(SINCE)
    counters = [tallies.take(process).counts.processed for process in looks(found)]
    assert counters == sorted(counters)
    assert counters[-1] == sum(counts[-1] for counts in found)
