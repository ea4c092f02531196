"""What counts as a difference between the file and the world."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.diff import (
    Difference,
    OwnershipDiffers,
    PoolDiffers,
    Properties,
    QueueDiffers,
    QueueMissing,
    QueueUnverified,
    QueueUnwanted,
    RestartWish,
    Wishes,
    compare,
    diff,
    same,
)
from state.desired import NOTHING, Desired, Queue
from state.ledger import Holdings, Owned
from state.observed import ObservedQueue
from tests.reconciler.support import POOL, broker, desired, specs, there, worker

ARGUMENTS = st.dictionaries(
    st.text(min_size=1, max_size=9).filter(lambda name: name not in ("x-queue-type", "x-dead-letter-exchange")),
    st.recursive(st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.booleans(), st.lists, max_leaves=4),
    max_size=3,
)
QUEUES = st.builds(
    Queue,
    type=st.sampled_from(["classic", "quorum"]),
    arguments=ARGUMENTS.map(lambda found: {k: v for k, v in found.items() if k != "x-max-priority"}),
    dead_letter=st.none() | st.just("lost"),
)


def differences(wanted: Desired, *queues: ObservedQueue, owned: dict[str, Owned] | None = None) -> list[Any]:
    return diff(wanted, broker(*queues), Holdings(queues=owned or {}), specs(wanted), ())


def as_the_broker_shows(name: str, queue: Queue) -> ObservedQueue:
    """With the type among the arguments, as RabbitMQ 4 puts it there whether it was sent or not."""
    arguments = {**queue.broker_arguments(), "x-queue-type": queue.type}
    return there(name, type=queue.type, durable=queue.durable, arguments=arguments)


@given(QUEUES)
def test_a_queue_that_is_as_the_file_says_is_no_difference(queue: Queue) -> None:
    assert not differences(Desired(version=1, queues={"lost": Queue(), "q": queue}), there("lost"),
                           as_the_broker_shows("q", queue))  # fmt: skip


@given(QUEUES, QUEUES)
def test_two_queues_differ_in_neither_or_both_directions(one: Queue, other: Queue) -> None:
    there_and_back = [*compare(Properties.wanted(one), Properties.wanted(other))]
    assert [Difference(d.key, d.have, d.wanted) for d in there_and_back] == [
        *compare(Properties.wanted(other), Properties.wanted(one))
    ]
    assert not list(compare(Properties.wanted(one), Properties.wanted(one)))


def test_a_queue_that_is_not_there_is_missing() -> None:
    assert differences(desired(q={})) == [QueueMissing("q", Queue())]


def test_so_is_the_dead_letter_queue_that_it_implies() -> None:
    names = {change.name for change in differences(desired(q={"dead_letter": "lost"}))}
    assert names == {"q", "lost"}


@pytest.mark.parametrize(
    ("seen", "key", "said"),
    [
        ({"type": "quorum"}, "type", "type is 'quorum' at the broker and 'classic' in the file"),
        ({"durable": False}, "durable", "durable is False at the broker and True in the file"),
        ({"auto_delete": True}, "auto_delete", "auto_delete is True at the broker and False in the file"),
        ({"exclusive": True}, "exclusive", "exclusive is True at the broker and False in the file"),
        ({"arguments": {"x-a": 1, "x-b": 2}}, "x-b", "x-b is 2 at the broker and not set in the file"),
        ({"arguments": {}}, "x-a", "x-a is not set at the broker and 1 in the file"),
        ({"arguments": {"x-a": "1"}}, "x-a", "x-a is '1' at the broker and 1 in the file"),
        ({"arguments": {"x-a": True}}, "x-a", "x-a is True at the broker and 1 in the file"),
    ],
)
def test_a_queue_with_another_property_says_which_and_both_values(seen: dict[str, Any], key: str, said: str) -> None:
    (change,) = differences(desired(q={"arguments": {"x-a": 1}}), there(**{"arguments": {"x-a": 1}, **seen}))
    assert isinstance(change, QueueDiffers)
    assert [(difference.key, str(difference)) for difference in change.differences] == [(key, said)]


def test_a_queue_whose_properties_nobody_sees_is_to_be_verified() -> None:
    assert differences(desired(q={}), ObservedQueue("q")) == [QueueUnverified("q", Queue())]


def test_a_queue_of_ours_that_left_the_file_is_unwanted_and_one_of_others_is_none_of_our_business() -> None:
    found = differences(NOTHING, there("ours"), there("theirs"), owned={"ours": Owned(), "gone": Owned()})
    assert found == [QueueUnwanted("ours", Owned(), there("ours")), QueueUnwanted("gone", Owned(), None)]


def test_what_the_file_says_on_removal_is_remembered_while_it_says_it() -> None:
    wanted = desired(q={"on_remove": "keep"})
    kept = Owned.as_wanted(wanted.queues["q"])
    assert differences(wanted, there(), owned={"q": Owned()}) == [OwnershipDiffers("q", kept)]
    assert not differences(wanted, there(), owned={"q": kept})


def test_without_a_sight_of_the_broker_only_workers_are_compared() -> None:
    wanted = desired(q={"workers": {"w": 1}})
    (change,) = diff(wanted, None, Holdings(queues={"gone": Owned()}), specs(wanted), ())
    assert isinstance(change, PoolDiffers)


class TestAPool:
    WANTED = desired(q={"workers": {"w": 2}})
    DIGEST = specs(WANTED)[POOL].digest

    def changes(self, *workers: Any, of: Desired | None = None) -> list[Any]:
        wanted = of or self.WANTED
        return diff(wanted, broker(there()), Holdings(), specs(wanted), workers)

    def test_of_as_many_as_wanted_is_no_difference(self) -> None:
        assert not self.changes(worker(0, digest=self.DIGEST), worker(7, digest=self.DIGEST))

    @pytest.mark.parametrize("state", ["starting", "backoff", "fatal"])
    def test_is_complete_though_one_does_not_work(self, state: str) -> None:
        """Whoever watches over the processes brings it back; another one beside it would be one too many."""
        assert not self.changes(worker(0, digest=self.DIGEST), worker(1, state, digest=self.DIGEST))

    def test_differs_by_number_by_spec_and_while_one_is_stopping(self) -> None:
        good = worker(0, digest=self.DIGEST)
        assert self.changes(good)
        assert self.changes(good, worker(1, digest="old"))
        assert self.changes(good, worker(1, digest=self.DIGEST), worker(2, digest=self.DIGEST))
        assert self.changes(good, worker(1, digest=self.DIGEST), worker(2, "stopping", digest=self.DIGEST))

    def test_differs_by_what_the_supervisor_applies_unless_nobody_knows_it(self) -> None:
        known = specs(self.WANTED)[POOL].terms
        good = worker(0, digest=self.DIGEST, terms=known)
        assert not self.changes(good, worker(1, digest=self.DIGEST, terms=known))
        assert not self.changes(good, worker(1, digest=self.DIGEST, terms=None))
        assert self.changes(good, worker(1, digest=self.DIGEST, terms="other"))

    def test_is_complete_while_one_is_stopped_and_comes_back(self) -> None:
        back = worker(1, "stopping", digest=self.DIGEST, returns=True)
        assert not self.changes(worker(0, digest=self.DIGEST), back)

    def test_has_the_number_that_is_wished_now(self) -> None:
        both = worker(0, digest=self.DIGEST), worker(1, digest=self.DIGEST)
        wishes = Wishes(counts={POOL: 0}, paused={"q"})
        (change,) = diff(self.WANTED, None, Holdings(), specs(self.WANTED), both, wishes)
        assert (change.count, change.paused) == (0, True)  # type: ignore[union-attr]

    def test_differs_as_long_as_somebody_wants_a_process_of_it_replaced(self) -> None:
        both = worker(0, digest=self.DIGEST), worker(1, digest=self.DIGEST)
        for slot, pid, differs in ((1, 101, 1), (1, 4711, 0), (0, 101, 0)):
            wishes = Wishes(restarts=[RestartWish(POOL, slot, pid)])
            assert len(diff(self.WANTED, None, Holdings(), specs(self.WANTED), both, wishes)) == differs

    def test_that_left_the_file_is_unwanted(self) -> None:
        (change,) = self.changes(worker(0), of=desired(q={}))
        assert (change.count, change.spec) == (0, None)

    def test_of_nobody_wanted_and_nobody_there_is_no_difference(self) -> None:
        assert not self.changes(of=desired(q={"workers": {"w": 0}}))


class TestSame:
    @given(st.recursive(st.integers() | st.text() | st.booleans(), st.lists, max_leaves=5))
    def test_whatever_it_is_it_is_the_same_as_itself(self, value: Any) -> None:
        assert same(value, value)

    @pytest.mark.parametrize(
        ("one", "other"), [(1, True), (0, False), ([1], [True]), ([1], [1, 2]), ("1", 1), (0, None)]
    )
    def test_a_truth_value_is_no_number_and_text_is_none_either(self, one: Any, other: Any) -> None:
        assert not same(one, other)
        assert not same(other, one)
