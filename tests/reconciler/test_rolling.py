"""To a new spec step by step: one first, then a share of the pool at a time, and halted where the first one fails."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.actions import Adjust, Held, Restart, Start, Stop
from reconciler.diff import PoolDiffers, RestartWish
from reconciler.plan import Plan, make_plan
from state.processes import ObservedWorker
from tests.reconciler.support import POOL, spec, terms, worker


def plan(count: int, *workers: ObservedWorker, restart: Any = (), **more: Any) -> Plan:
    """`restart`: the slots of which somebody wants the process replaced."""
    by_slot = {w.slot: w for w in workers}
    wishes = {
        (slot, by_slot[slot].pid): RestartWish(POOL, slot, by_slot[slot].pid, at_once)
        for slot, at_once in dict(restart).items()
    }
    more = {"spec": spec("new"), "restarts": wishes, **more}
    return make_plan([PoolDiffers(POOL, count, seen=workers, **more)])


def slot_of(action: Any) -> int:
    match action:
        case Start(_, slot) | Adjust(_, slot):
            return slot
        case Stop(found):
            return found.slot
        case Restart(wish):
            return wish.slot
    raise AssertionError(action)


def steps(count: int, *workers: ObservedWorker, **more: Any) -> list[tuple[str, int]]:
    return [(type(a).__name__.lower(), slot_of(a)) for a in plan(count, *workers, **more).actions]


def old(*slots: int, state: str = "ready", **more: Any) -> list[ObservedWorker]:
    return [worker(slot, state, digest="old", **more) for slot in slots]


def halted(count: int, *workers: ObservedWorker) -> str:
    """Why nothing is done."""
    found = plan(count, *workers)
    assert found.actions == ()
    (held,) = found.held
    assert (held.queue, held.worker, held.name) == ("q", "w", "q/w")
    return held.reason


class TestTheFirst:
    @pytest.mark.parametrize("count", [1, 2, 8, 100])
    def test_goes_alone(self, count: int) -> None:
        assert steps(count, *old(*range(count))) == [("stop", count - 1)]

    def test_is_started_beside_the_one_that_still_drains_and_nobody_follows_yet(self) -> None:
        assert steps(8, *old(*range(7)), worker(7, "stopping", digest="old")) == [("start", 8)]
        assert steps(8, *old(*range(7))) == [("start", 7)]
        assert steps(8, *old(*range(7)), worker(8, "starting")) == []

    def test_loses_least(self) -> None:
        assert steps(4, *old(0, 2, 3, busy=True), *old(1)) == [("stop", 1)]
        assert steps(4, *old(0, 1, 3), *old(2, state="backoff")) == [("stop", 2)]
        assert steps(3, *old(0, 1, 2, state="starting")) == [("stop", 2)], "the broker is away: none of them works"

    def test_may_be_one_that_was_to_be_started_anyway(self) -> None:
        assert steps(9, *old(*range(8))) == [("start", 8)]
        assert steps(9, *old(*range(8)), worker(8, "starting")) == []


class TestTheOthers:
    @pytest.mark.parametrize(("count", "batch"), [(2, 1), (5, 1), (7, 1), (8, 2), (20, 5), (100, 25)])
    def test_follow_a_quarter_at_a_time(self, count: int, batch: int) -> None:
        assert len(steps(count, worker(0), *old(*range(1, count)))) == min(batch, count - 1)

    @pytest.mark.parametrize(("share", "batch"), [("50%", 4), ("100%", 7), (1, 1), (3, 3), (99, 7), ("1%", 1)])
    def test_follow_as_many_at_a_time_as_the_file_says(self, share: Any, batch: int) -> None:
        assert len(steps(8, worker(0), *old(*range(1, 8)), max_unavailable=share)) == batch

    def test_wait_until_the_new_ones_work(self) -> None:
        assert steps(4, *old(0, 1), worker(3), worker(4, "starting")) == []
        assert steps(4, *old(0, 1), worker(3), worker(4)) == [("stop", 1)]

    def test_that_do_not_work_anyway_are_replaced_at_once(self) -> None:
        workers = [*old(0, state="backoff"), *old(1, state="fatal"), worker(2), worker(3)]
        assert {slot for _, slot in steps(4, *workers)} == {0, 1}

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["starting", "ready", "backoff", "fatal", "stopping"]),
                st.sampled_from(["new", "old"]),
                st.booleans(),
                st.integers(0, 2),
            ),
            min_size=1,
            max_size=24,
        ),
        st.sets(st.integers(0, 23)),
    )
    def test_three_quarters_of_what_works_go_on_working(
        self, seen: list[tuple[str, str, bool, int]], restart: set[int]
    ) -> None:
        workers = [
            worker(slot, state, digest, returns=returns and state == "stopping", restarts=restarts)
            for slot, (state, digest, returns, restarts) in enumerate(seen)
        ]
        count = sum(not w.leaves for w in workers)
        ready = {w.slot for w in workers if w.state == "ready"}
        wished = {slot: False for slot in restart if slot < len(workers)}
        done = steps(count, *workers, restart=wished)
        replaced = [slot for kind, slot in done if kind in ("stop", "restart")]
        assert len(replaced) == len(set(replaced)), "nobody is told twice"
        missing = count - len(ready - set(replaced))
        assert not ready & set(replaced) or missing <= max(1, math.floor(count / 4))
        failing = [w for w in workers if w.digest == "new" and w.state in ("backoff", "fatal")]
        assert not failing or all(w.digest == "new" for w in workers if w.slot in replaced)


class TestAFirstThatFails:
    @pytest.mark.parametrize("state", ["backoff", "fatal"])
    def test_halts_the_roll_and_says_why_and_how_many_go_on_with_the_old_code(self, state: str) -> None:
        reason = halted(8, *old(*range(7)), worker(7, state, reason="exit code 1: no database", restarts=1))
        assert reason.startswith(
            "w: roll halted after 1 of 8: exit code 1: no database; the other 7 stay on the old code"
        )
        assert "reconciler restart q" in reason

    def test_halts_it_also_while_it_is_tried_again(self) -> None:
        reason = halted(8, *old(*range(7)), worker(7, "starting", reason="exit code 1", restarts=1))
        assert "roll halted after 1 of 8: exit code 1;" in reason

    def test_or_one_of_a_later_batch_halts_it_too(self) -> None:
        workers = [worker(0), worker(1, "backoff", reason="exit code 1"), *old(2, 3, 4, 5, 6, 7)]
        assert "halted after 2 of 8: exit code 1; the other 6" in halted(8, *workers)

    def test_leaves_alone_even_those_of_the_old_that_do_not_work(self) -> None:
        assert "halted" in halted(4, *old(0, 1), *old(2, state="starting"), worker(3, "backoff"))

    def test_that_has_no_word_for_it_says_its_state(self) -> None:
        assert "after 1 of 2: one is in fatal;" in halted(2, *old(0), worker(1, "fatal"))

    def test_that_works_at_last_lets_the_roll_go_on(self) -> None:
        assert steps(8, *old(*range(7)), worker(7, restarts=3)) == [("stop", 6), ("stop", 5)]

    def test_is_replaced_by_a_newer_spec_which_again_goes_first(self) -> None:
        workers = [*old(*range(7)), worker(7, "backoff", digest="bad")]
        assert steps(8, *workers) == [("stop", 7)]
        assert steps(8, *old(*range(7))) == [("start", 7)]

    def test_is_replaced_when_the_spec_goes_back_to_the_old_one(self) -> None:
        workers = [*(worker(slot) for slot in range(7)), worker(7, "backoff", digest="bad")]
        assert steps(8, *workers) == [("stop", 7)]

    def test_leaves_a_pool_of_one_without_a_worker_and_no_roll_to_halt(self) -> None:
        found = plan(1, worker(0, "backoff"))
        assert found == Plan()

    def test_is_tried_once_more_when_somebody_asks(self) -> None:
        workers = [*old(*range(7)), worker(7, "backoff", reason="exit code 1")]
        found = plan(8, *workers, restart=dict.fromkeys(range(8), False))
        assert [slot_of(a) for a in found.actions] == [7]
        assert isinstance(found.actions[0], Restart)
        assert "roll halted" in found.held[0].reason

    def test_holds_up_no_process_that_somebody_wants_replaced_by_its_pid(self) -> None:
        workers = [*old(*range(7)), worker(7, "backoff")]
        assert steps(8, *workers, restart={2: True}) == [("stop", 2)]

    def test_does_not_hold_up_scaling(self) -> None:
        workers = [*old(*range(7)), worker(7, "backoff")]
        assert steps(10, *workers) == [("start", 8), ("start", 9)]
        down = steps(4, *workers)
        assert [slot for kind, slot in down if kind == "stop"][:4] == [7, 6, 5, 4]


class TestScalingMeanwhile:
    def test_down_takes_the_old_ones_first(self) -> None:
        assert steps(2, worker(2), worker(3), *old(0, 1)) == [("stop", 1), ("stop", 0)]

    def test_to_nothing_is_no_roll(self) -> None:
        found = plan(0, *old(0, 1), worker(2, "backoff"))
        assert {slot_of(a) for a in found.actions} == {0, 1, 2}
        assert found.held == ()

    def test_of_a_paused_pool_says_that_it_is_paused(self) -> None:
        (stop,) = plan(0, worker(0), paused=True).actions
        assert str(stop) == "stop worker q/w[0] (its queue is paused)"


class TestARestart:
    def test_of_a_pool_goes_batch_by_batch(self) -> None:
        everyone = dict.fromkeys(range(8), False)
        workers = [worker(slot) for slot in range(8)]
        assert steps(8, *workers, restart=everyone) == [("restart", 7), ("restart", 6)]
        workers[7] = worker(7, "stopping", returns=True)
        workers[6] = worker(6, "starting")
        rest = dict.fromkeys(range(6), False)
        assert steps(8, *workers, restart=rest) == []

    def test_of_one_that_waits_or_was_given_up_costs_nothing(self) -> None:
        workers = [worker(0, "backoff"), worker(1, "fatal"), worker(2), worker(3)]
        assert steps(4, *workers, restart=dict.fromkeys(range(4), False)) == [("restart", 1), ("restart", 0)]

    def test_of_one_process_by_its_pid_waits_for_nobody(self) -> None:
        assert steps(2, worker(0), worker(1, "backoff"), restart={0: False}) == []
        assert steps(2, worker(0), worker(1, "backoff"), restart={0: True}) == [("restart", 0)]

    def test_of_one_of_the_old_spec_is_its_roll(self) -> None:
        assert steps(2, *old(0), worker(1), restart={0: False}) == [("stop", 0)]

    def test_of_a_process_that_is_there_no_more_is_none(self) -> None:
        wishes = {(0, 4711): RestartWish(POOL, 0, 4711)}
        assert plan(1, worker(0), restarts=wishes) == Plan()

    def test_costs_a_restart(self) -> None:
        (action,) = plan(1, worker(0), restart={0: False}).actions
        assert (str(action), action.cost) == ("restart worker q/w[0] (a restart was asked for)", "restart")


class TestOneThatIsStoppedAndComesBack:
    """Such as one over its max_memory: the supervisor fills its slot again."""

    def test_holds_its_place(self) -> None:
        assert steps(2, worker(0), worker(1, "stopping", returns=True)) == []

    def test_is_the_first_to_go_for_good(self) -> None:
        assert steps(1, worker(0), worker(1, "stopping", returns=True)) == [("stop", 1)]


class TestOtherTerms:
    """What the supervisor alone applies costs no process."""

    def test_are_told_to_those_that_go_on(self) -> None:
        workers = (worker(0, terms="2"), worker(1, terms="1"), worker(2, "backoff", terms="1"))
        found = plan(3, *workers, spec=terms("2"))
        assert found.actions == (Adjust(terms("2"), 2), Adjust(terms("2"), 1))
        assert str(found.actions[0]) == "apply the new limits to worker q/w[2]"
        assert found.actions[0].cost == "in place"

    def test_are_not_told_where_nobody_knows_the_present_ones(self) -> None:
        assert plan(1, worker(0), spec=terms("2")) == Plan()

    def test_come_with_the_new_process_to_those_that_are_replaced_or_leave(self) -> None:
        assert steps(1, *old(0, terms="1"), spec=terms("2")) == [("stop", 0)]
        assert steps(0, worker(0, terms="1"), spec=terms("2")) == [("stop", 0)]


def test_what_is_held_of_a_queue_alone_has_the_queues_name() -> None:
    assert Held("q", "why").name == "q"
