"""What is done, in which order, and what is held back until when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.actions import Drop
from reconciler.diff import (
    Change,
    Difference,
    Gone,
    OwnershipDiffers,
    PolicyUnwanted,
    PoolDiffers,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
)
from reconciler.plan import Claim, Context, Declare, Delete, Plan, Release, Start, Stop, make_plan
from state.desired import Queue
from state.ledger import Holdings, Owned
from state.observed import ObservedBinding, ObservedQueue
from state.processes import ObservedWorker, Pool
from tests.reconciler.support import POOL, desired, spec, there, worker


def unwanted(name: str = "q", on_remove: str = "delete-if-empty", **seen: Any) -> QueueUnwanted:
    return QueueUnwanted(name, Owned(on_remove), there(name, **seen))


def plan(*changes: Change, owned: int = 100, confirmed: bool = False, **requests: bool) -> Plan:
    return make_plan(changes, Context(owned, confirmed, requests))


def held(*changes: Change, **context: Any) -> str:
    """The reason why nothing of it is done."""
    found = plan(*changes, **context)
    assert found.actions == ()
    return found.held[0].reason


def removes(count: int, owned: int, **context: Any) -> Plan:
    return plan(*(unwanted(f"q{number}") for number in range(count)), owned=owned, **context)


def implied(name: str, of: str = "q", **seen: Any) -> QueueUnwanted:
    return QueueUnwanted(name, Owned(of=of, counts=name == f"{of}.rejected"), there(name, **seen))


class TestWhatRetriesImply:
    @pytest.mark.parametrize(("full", "empty"), [("q.retry.1s", "q.rejected"), ("q.rejected", "q.retry.1s")])
    def test_a_queue_stays_while_messages_come_back_to_it(self, full: str, empty: str) -> None:
        found = plan(unwanted(), implied(full, ready=3), implied(empty))
        assert found.actions == ()
        assert f"3 messages in {full} come back to it" in next(h.reason for h in found.held if h.name == "q")

    def test_only_force_does_not_wait_for_them(self) -> None:
        changes = unwanted(), implied("q.retry.1s", ready=3)
        assert plan(*changes, q=False).actions == ()
        assert plan(*changes, q=True).actions == (Delete("q", "classic", True, 0),)

    def test_what_was_made_for_its_sake_goes_after_it(self) -> None:
        names = ["q.retry.1s", "q.retry.1m", "q.rejected", "q.dead"]
        first = plan(unwanted(), *map(implied, names), owned=5)
        assert first.actions == (Delete("q", "classic", False, 0),)
        assert {held.reason for held in first.held} == {"it goes once queue q is gone"}
        assert {action.name for action in plan(*map(implied, names), owned=4).actions} == set(names)

    def test_an_old_delay_queue_goes_once_it_is_empty(self) -> None:
        assert plan(implied("q.retry.1s")).actions == (Delete("q.retry.1s", "classic", False, 0),)
        assert plan(implied("q.retry.1s", ready=1)).actions == ()

    def test_what_a_queue_still_rejects_to_stays(self) -> None:
        argument = Difference("x-dead-letter-routing-key", None, "q.rejected")
        found = plan(QueueDiffers("q", Queue(), (argument,), there("q")), implied("q.rejected"))
        assert found.actions == ()
        assert "still puts there what is rejected" in next(h.reason for h in found.held if h.name == "q.rejected")

    def test_what_a_policy_still_rejects_to_stays(self) -> None:
        found = plan(PolicyUnwanted("reconciler.q"), implied("q.rejected"))
        assert not [action for action in found.actions if isinstance(action, Delete)]
        assert "once policy reconciler.q is gone" in next(h.reason for h in found.held if h.name == "q.rejected")

    def test_what_is_rejected_to_is_made_first(self) -> None:
        file = desired(q={"retry": {"attempts": 2, "delays": [1]}}).all_queues()
        made = plan(*(QueueMissing(name, queue) for name, queue in reversed(file.items()))).actions
        assert [action.name for action in made][-1] == "q"

    def test_too_many_removals_hold_what_they_imply_too(self) -> None:
        changes = [change for n in range(9) for change in (unwanted(f"q{n}"), implied(f"q{n}.rejected", f"q{n}"))]
        assert plan(*changes, owned=18).actions == ()


def rejecting(name: str, to: str, of: str | None = None, **seen: Any) -> QueueUnwanted:
    """One that is to go, and whose arguments say where it rejects to."""
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to}
    return QueueUnwanted(name, Owned(of=of), there(name, arguments=arguments, **seen))


class TestWhatIsRejectedToOnTheWayOut:
    def test_it_stays_while_a_queue_that_rejects_there_is_held(self) -> None:
        found = plan(rejecting("q", "dlq", ready=1), unwanted("dlq"))
        assert found.actions == ()
        assert next(h.reason for h in found.held if h.name == "dlq") == "it goes once queue q is gone"

    def test_also_for_one_that_was_not_made_for_its_sake(self) -> None:
        assert plan(rejecting("q", "dlq", ready=1), implied("dlq", "a")).actions == ()

    def test_it_goes_after_it(self) -> None:
        assert plan(rejecting("q", "dlq"), unwanted("dlq")).actions == (Delete("q", "classic", False, 0),)
        assert plan(unwanted("dlq")).actions == (Delete("dlq", "classic", False, 0),)

    def test_those_that_reject_to_each_other_do_not_wait_for_each_other(self) -> None:
        circle = rejecting("a", "b"), rejecting("b", "c"), rejecting("c", "a"), rejecting("self", "self")
        assert {action.name for action in plan(*circle).actions} == {"a", "b", "c", "self"}

    def test_a_queue_does_not_wait_for_its_own_delay_queues(self) -> None:
        assert plan(unwanted(), rejecting("q.retry.1s", "q", of="q")).actions == (Delete("q", "classic", False, 0),)


class TestWhileAQueueIsMigrated:
    def test_what_it_rejected_to_before_stays_until_it_is_done(self) -> None:
        found = make_plan([implied("a")], Context(owned=100, under_way={"q": "migrating"}))
        assert found.actions == ()
        assert found.held[0].reason == "it goes once queue q is migrated"
        assert [action.name for action in make_plan([implied("a")], Context(owned=100)).actions] == ["a"]

    def test_its_bindings_that_are_away_meanwhile_are_not_forgotten(self) -> None:
        away, gone = (ObservedBinding("e", name, routing_key="out") for name in ("q", "other"))
        change = Gone(Holdings(bindings={away.key, gone.key}, policies={"p"}))
        (action,) = make_plan([change], Context(under_way={"q": "migrating"})).actions
        assert action == Drop(Holdings(bindings={gone.key}, policies={"p"}))
        assert make_plan([Gone(Holdings(bindings={away.key}))], Context(under_way={"q": "migrating"})).actions == ()


class TestQueues:
    def test_a_missing_one_is_made_and_ours_and_one_to_be_verified_is_not(self) -> None:
        assert plan(QueueMissing("q", Queue())).actions == (Declare("q", Queue(), claim=True),)
        assert plan(QueueUnverified("q", Queue())).actions == (Declare("q", Queue(), claim=False),)

    def test_one_with_other_properties_is_left_alone_and_shown_with_both_values(self) -> None:
        reason = held(QueueDiffers("q", Queue(), (Difference("durable", True, False),), there()))
        assert "durable is False at the broker and True in the file" in reason

    def test_what_the_file_says_on_removal_is_remembered(self) -> None:
        assert plan(OwnershipDiffers("q", Owned("keep"))).actions == (Claim("q", Owned("keep")),)

    def test_queues_are_made_before_workers_start_and_removed_after_workers_stop(self) -> None:
        changes = [
            unwanted("old"),
            PoolDiffers(POOL, 1, spec(), (worker(0), worker(1))),
            PoolDiffers(Pool("new", "w"), 1, spec(), ()),
            QueueUnwanted("gone", Owned(), None),
            OwnershipDiffers("kept", Owned("keep")),
            QueueMissing("new", Queue()),
        ]
        kinds = [type(action) for action in plan(*changes).actions]
        assert kinds == [Declare, Claim, Start, Stop, Delete, Release]


class TestRemovingAQueue:
    def test_an_empty_one_is_deleted(self) -> None:
        assert plan(unwanted()).actions == (Delete("q", "classic", False, 0),)

    def test_one_with_messages_waits_and_says_how_many(self) -> None:
        found = plan(unwanted(ready=5, unacknowledged=2))
        assert found.actions == ()
        assert found.held[0].messages == 7
        assert "7 messages are in it (5 ready, 2 in flight)" in found.held[0].reason

    def test_messages_in_flight_are_messages(self) -> None:
        assert "0 ready, 2 in flight" in held(unwanted(unacknowledged=2))

    def test_one_that_others_consume_waits(self) -> None:
        assert "1 consumers that are not ours" in held(unwanted(consumers=1))

    def test_one_whose_workers_still_stop_waits_for_them(self) -> None:
        stopping = PoolDiffers(POOL, 0, None, (worker(0, "stopping"),))
        assert held(unwanted(), stopping) == "its workers are stopping"

    def test_one_with_another_queues_workers_does_not(self) -> None:
        stopping = PoolDiffers(Pool("other", "w"), 0, None, (worker(0, "stopping", pool=Pool("other", "w")),))
        assert plan(unwanted(), stopping).actions == (Delete("q", "classic", False, 0),)

    def test_to_be_kept_it_is_only_forgotten(self) -> None:
        assert plan(unwanted(on_remove="keep", ready=5)).actions == (Release("q"),)

    def test_to_be_deleted_anyhow_it_is_deleted_with_its_messages(self) -> None:
        (action,) = plan(unwanted(on_remove="delete", ready=5)).actions
        assert action == Delete("q", "classic", True, 5)
        assert str(action) == "delete queue q with its 5 messages"

    def test_that_is_gone_by_itself_it_is_forgotten(self) -> None:
        assert plan(QueueUnwanted("q", Owned("delete"), None)).actions == (Release("q"),)

    def test_asked_for_by_name_it_goes_even_if_the_file_said_keep(self) -> None:
        assert plan(unwanted(on_remove="keep"), q=False).actions == (Delete("q", "classic", False, 0),)

    def test_asked_for_without_force_it_still_waits_for_its_messages(self) -> None:
        assert "5 ready" in held(unwanted(ready=5), q=False)

    def test_asked_for_with_force_it_goes_with_its_messages(self) -> None:
        assert plan(unwanted(ready=5), q=True).actions == (Delete("q", "classic", True, 5),)

    def test_a_request_for_one_queue_is_none_for_another(self) -> None:
        assert "5 ready" in held(unwanted(ready=5), other=True)


class TestRemovingMany:
    """More than 3 and more than 30 % of ours wait for a person."""

    @pytest.mark.parametrize(("count", "owned"), [(1, 1), (3, 3), (4, 14), (30, 100)])
    def test_few_or_a_small_share_go(self, count: int, owned: int) -> None:
        found = removes(count, owned)
        assert len(found.actions) == count
        assert not found.needs_confirmation

    @pytest.mark.parametrize(("count", "owned"), [(4, 4), (4, 13), (31, 100), (1000, 1000)])
    def test_more_than_both_wait(self, count: int, owned: int) -> None:
        found = removes(count, owned)
        assert found.actions == ()
        assert found.needs_confirmation
        assert f"{count} of {owned} managed queues" in found.held[0].reason
        assert "reconciler sync --confirm" in found.held[0].reason

    def test_confirmed_they_go(self) -> None:
        assert len(removes(9, 9, confirmed=True).actions) == 9

    def test_confirmed_or_not_messages_are_not_lost(self) -> None:
        changes = [unwanted(f"q{number}", ready=number) for number in range(9)]
        assert [action.name for action in plan(*changes, owned=9, confirmed=True).actions] == ["q0"]

    def test_what_goes_anyhow_counts_too(self) -> None:
        changes = [unwanted(f"q{number}", "delete", ready=5) for number in range(4)]
        assert plan(*changes, owned=4).actions == ()

    def test_what_is_kept_or_gone_is_no_deletion(self) -> None:
        kept = [unwanted(f"k{number}", "keep") for number in range(9)]
        gone = [QueueUnwanted(f"g{number}", Owned(), None) for number in range(9)]
        found = plan(*kept, *gone, unwanted(), owned=19)
        assert len(found.actions) == 19
        assert not found.held

    def test_what_was_asked_for_by_name_does_not_wait_and_does_not_count(self) -> None:
        found = removes(9, 9, **{f"q{number}": False for number in range(6)})
        assert sorted(action.name for action in found.actions) == [f"q{number}" for number in range(9)]

    def test_the_rest_of_the_plan_goes_on(self) -> None:
        changes = [unwanted(f"q{number}") for number in range(9)]
        found = plan(*changes, QueueMissing("new", Queue()), owned=9)
        assert [action.name for action in found.actions] == ["new"]

    def test_while_a_queue_waits_its_workers_go_on(self) -> None:
        changes = [unwanted(f"q{number}") for number in range(9)]
        pool = Pool("q0", "w")
        found = plan(*changes, PoolDiffers(pool, 0, None, (worker(0, pool=pool),)), owned=9)
        assert found.actions == ()

    @given(st.integers(0, 40), st.integers(0, 40), st.booleans())
    def test_never_more_than_both_without_a_person(self, count: int, others: int, confirmed: bool) -> None:
        owned = count + others
        done = len(removes(count, owned, confirmed=confirmed).actions)
        assert done == count or (done == 0 and not confirmed and count > 3 and count > 0.3 * owned)


def steps(count: int, *workers: ObservedWorker) -> list[tuple[str, int]]:
    """What is done to the pool, as kind and slot."""
    found = plan(PoolDiffers(POOL, count, spec("new"), workers)).actions
    return [(type(a).__name__.lower(), a.slot if isinstance(a, Start) else a.worker.slot) for a in found]  # type: ignore[union-attr]


class TestScaling:
    def test_up_fills_the_lowest_free_slots(self) -> None:
        assert steps(4, worker(1), worker(3)) == [("start", 0), ("start", 2)]

    def test_up_leaves_alone_a_slot_that_is_still_stopping(self) -> None:
        assert steps(2, worker(0, "stopping"), worker(1)) == [("start", 2)]

    def test_down_stops_what_does_not_run_first_then_what_starts_then_the_idle_and_the_busy_last(self) -> None:
        workers = [
            worker(0, "backoff"),
            worker(1, "fatal"),
            worker(2, "starting"),
            worker(3, busy=True),
            worker(4),
            worker(5, busy=True),
            worker(6),
        ]
        assert [slot for _, slot in steps(0, *workers)] == [1, 0, 2, 6, 4, 5, 3]
        assert [slot for _, slot in steps(5, *workers)] == [1, 0]

    def test_down_among_equals_stops_the_highest_slot(self) -> None:
        assert steps(2, worker(0), worker(1), worker(2), worker(3)) == [("stop", 3), ("stop", 2)]

    def test_to_nothing_stops_all(self) -> None:
        assert {slot for _, slot in steps(0, worker(0), worker(1, busy=True))} == {0, 1}

    def test_down_does_not_count_those_that_stop_already(self) -> None:
        assert steps(1, worker(0), worker(1, "stopping"), worker(2, "stopping")) == []

    def test_up_again_while_they_stop_starts_others(self) -> None:
        assert steps(2, worker(0), worker(1, "stopping")) == [("start", 2)]

    @given(
        st.integers(0, 12),
        st.lists(
            st.tuples(
                st.sampled_from(["starting", "ready", "stopping", "backoff", "fatal"]),
                st.booleans(),
                st.sampled_from(["new", "old"]),
            ),
            max_size=12,
        ),
    )
    def test_whatever_there_is_it_comes_to_the_wanted_number(
        self, count: int, seen: list[tuple[str, bool, str]]
    ) -> None:
        workers = [worker(slot, state, digest, busy=busy) for slot, (state, busy, digest) in enumerate(seen)]
        done = steps(count, *workers)
        stopped = [slot for kind, slot in done if kind == "stop"]
        started = [slot for kind, slot in done if kind == "start"]
        kept = [w for w in workers if w.state != "stopping" and w.slot not in stopped]
        replaced = [w for w in workers if w.slot in stopped and w.digest == "old"]
        assert len(kept) + len(started) <= count <= len(kept) + len(started) + len(replaced)
        assert len(set(stopped)) == len(stopped), "nobody is told twice"
        assert not {w.slot for w in workers if w.state == "stopping"} & set(stopped)
        assert not set(started) & {w.slot for w in workers}


@given(
    st.lists(
        st.one_of(
            st.builds(QueueMissing, st.sampled_from("abc"), st.just(Queue())),
            st.builds(
                lambda name, on_remove, ready, seen: QueueUnwanted(
                    name, Owned(on_remove), there(name, ready=ready) if seen else None
                ),
                st.sampled_from("defghijk"),
                st.sampled_from(["keep", "delete-if-empty", "delete"]),
                st.integers(0, 2),
                st.booleans(),
            ),
        ),
        max_size=9,
        unique_by=lambda change: change.name,
    ),
    st.booleans(),
)
def test_every_change_is_either_done_or_held_and_only_what_is_unwanted_is_deleted(
    changes: list[Change], confirmed: bool
) -> None:
    found = plan(*changes, owned=8, confirmed=confirmed)
    answered = [action.name for action in found.actions] + [one.queue for one in found.held]
    assert sorted(answered) == sorted(change.name for change in changes)  # type: ignore[union-attr]
    deleted = {action.name: action for action in found.actions if isinstance(action, Delete)}
    for change in changes:
        if getattr(change, "name", None) in deleted:
            assert isinstance(change, QueueUnwanted)
            assert isinstance(change.seen, ObservedQueue)
            assert change.owned.on_remove == "delete" or change.seen.messages == 0
            assert change.owned.on_remove != "keep"
