"""The rule by which a pool follows its queue: what a user may rely on whatever the load, and each reason in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.autoscale import KEPT, Decision, decide, remember
from state.autoscale import Policy, Sample

NOW = 10_000.0
MESSAGES = st.one_of(st.integers(0, 30), st.integers(0, 10_000))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    least = draw(st.integers(0, 20))
    seconds = st.sampled_from([0.0, 1.0, 30.0, 60.0, 300.0])
    most = draw(st.integers(max(1, least), 60))
    return Policy(least, most, draw(st.integers(1, 200)), draw(seconds), draw(seconds))


@st.composite
def histories(draw: st.DrawFn, missing: bool = True) -> tuple[Sample, ...]:
    """Samples of the last ten minutes, the newest from just now, with or without gaps in what is known."""
    ages = sorted(draw(st.lists(st.floats(1, 600), max_size=12)), reverse=True)
    counts = st.one_of(st.none(), MESSAGES) if missing else MESSAGES
    return tuple(Sample(NOW - age, draw(counts)) for age in [*ages, 0.0])


def seen(*messages: int | None, every: float = 10.0, until: float = NOW) -> tuple[Sample, ...]:
    """These counts, evenly spaced, the last one at `until`."""
    begin = until - every * (len(messages) - 1)
    return tuple(Sample(begin + i * every, count) for i, count in enumerate(messages))


def alone(messages: int, policy: Policy) -> int:
    """What these messages would ask for if there were nothing else to think of."""
    return policy.clamp(math.ceil(messages / policy.backlog))


# -- whatever the load --------------------------------------------------------------------------------------------


@given(policies(), histories(), st.integers(0, 100))
def test_the_number_is_never_outside_of_min_and_max(policy: Policy, history: tuple[Sample, ...], current: int) -> None:
    assert policy.min <= decide(policy, history, current, NOW).count <= policy.max


@given(policies(), histories(missing=False), st.integers(0, 60), st.integers(0, 5000), st.data())
def test_more_messages_never_mean_fewer_processes(
    policy: Policy, history: tuple[Sample, ...], current: int, more: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(history) - 1))
    heavier = list(history)
    heavier[at] = Sample(history[at].at, (history[at].ready or 0) + more)
    assert decide(policy, heavier, current, NOW).count >= decide(policy, history, current, NOW).count


@given(policies(), histories(), st.integers(0, 60))
def test_a_missing_metric_never_takes_a_process(policy: Policy, history: tuple[Sample, ...], current: int) -> None:
    kept = policy.clamp(current)
    gone = (*history[:-1], Sample(NOW, None))
    assert decide(policy, gone, current, NOW) == Decision(kept, f"metric missing: kept {kept}")
    assert decide(policy, (), current, NOW).count == kept
    assert decide(policy, history, current, NOW + 3600).count == kept, "an old sample is no metric"


@given(policies(), histories(), st.integers(0, 60), st.floats(0, 299))
def test_a_gap_in_the_window_never_takes_a_process(
    policy: Policy, history: tuple[Sample, ...], current: int, age: float
) -> None:
    """A broker that comes back may show an empty queue before it has counted."""
    if age < policy.window:
        gap = sorted([*history, Sample(NOW - age, None)], key=lambda sample: sample.at)
        if gap[-1].messages is not None:
            assert decide(policy, gap, current, NOW).count >= policy.clamp(current)


@given(policies(), histories(missing=False), st.integers(0, 60))
def test_it_goes_down_no_further_than_the_most_that_the_window_asked_for(
    policy: Policy, history: tuple[Sample, ...], current: int
) -> None:
    window = [s for s in history if s.at >= NOW - policy.window]
    most = max(alone(s.messages or 0, policy) for s in window)
    found = decide(policy, history, current, NOW).count
    assert found >= min(most, policy.clamp(current)) or found == 0  # zero is the cooldown's business: below


@given(policies(), histories(missing=False), st.integers(0, 60))
def test_what_is_too_few_by_more_than_the_tolerance_goes_up_at_once(
    policy: Policy, history: tuple[Sample, ...], current: int
) -> None:
    messages = history[-1].messages or 0
    if messages > 1.1 * policy.clamp(current) * policy.backlog:
        assert decide(policy, history, current, NOW).count == max(alone(messages, policy), policy.clamp(current))


@given(policies(), histories(), st.integers(1, 60))
def test_to_zero_only_when_no_message_was_there_for_the_whole_cooldown(
    policy: Policy, history: tuple[Sample, ...], current: int
) -> None:
    if decide(policy, history, current, NOW).count == 0:
        assert all(s.messages == 0 for s in history if s.at > NOW - policy.cooldown)
        assert history[0].at <= NOW - policy.cooldown, "what was before is not known"


@given(policies(), MESSAGES, st.integers(0, 60), st.floats(0.5, 20))
def test_a_constant_load_is_answered_once(policy: Policy, messages: int, current: int, every: float) -> None:
    """After the window and the cooldown the number stays where it is, and before that it only ever goes one way."""
    samples: tuple[Sample, ...] = ()
    counts = [policy.clamp(current)]
    for turn in range(int(policy.horizon / every) + 20):
        samples = remember(samples, Sample(NOW + turn * every, messages), policy.horizon)
        counts.append(decide(policy, samples, counts[-1], NOW + turn * every).count)
    steps = [after - before for before, after in pairwise(counts) if after != before]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)
    assert len(steps) <= 2  # down to one, and after the cooldown to zero
    if steps or alone(messages, policy) == policy.clamp(current):
        assert counts[-1] == alone(messages, policy)


@given(policies(), st.lists(st.integers(0, 109), min_size=1, max_size=20))
def test_from_zero_the_first_message_starts_a_process(policy: Policy, quiet: list[int]) -> None:
    samples = seen(*[0] * len(quiet), 1, every=0.5)
    assert decide(policy, samples, 0, NOW).count == max(1, policy.min)


# -- what is remembered -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0.01, 1), MESSAGES), min_size=1, max_size=80), st.booleans())
def test_thinned_out_samples_ask_for_no_less_than_all_of_them(said: list[tuple[float, int | None]], gap: bool) -> None:
    now, kept = NOW, ()
    every: list[Sample] = []
    said = [*said, (0.01, None), (0.01, 3), (1.0, 0)] if gap else said
    for step, messages in said:
        now += step
        every.append(Sample(now, messages))
        kept = remember(kept, every[-1], horizon=100.0)
    slack = 100.0 / KEPT  # the heaviest stands for its neighbours
    asked = [s.messages for s in every if s.at >= now - 100.0 + slack]
    left = [s.messages for s in kept if s.at >= now - 100.0]
    assert (None in left) >= (None in asked)
    if not gap:
        assert max(m or 0 for m in left) >= max(m or 0 for m in asked)


def test_a_day_of_samples_takes_the_room_of_a_few() -> None:
    kept: tuple[Sample, ...] = ()
    for i in range(20_000):
        kept = remember(kept, Sample(i * 0.5, i % 7), horizon=300.0)
    assert len(kept) <= KEPT + 4
    assert kept[-1] == Sample(19_999 * 0.5, 19_999 % 7)
    assert kept[0].at <= kept[-1].at - 300, "the window is known to its beginning"


# -- in words -----------------------------------------------------------------------------------------------------

HUNDRED = Policy(min=0, max=50, backlog=100, cooldown=60, window=60)
FULL: Sequence[int] = [0] * 12


@pytest.mark.parametrize(
    ("history", "current", "decision"),
    [
        (seen(812), 0, (9, "backlog 812 / 100")),
        (seen(812), 9, (9, "backlog 812 / 100")),
        (seen(1), 0, (1, "backlog 1 / 100")),
        (seen(99_999), 4, (50, "backlog 99999 / 100, at most 50")),
        (seen(812), 8, (8, "within tolerance: backlog 812 / 100")),
        (seen(None), 4, (4, "metric missing: kept 4")),
        ((), 4, (4, "metric missing: kept 4")),
        (seen(120), 9, (9, "stabilized: not all of the last 60 s is known (backlog 120 / 100)")),
        (seen(*FULL, 812, 120), 9, (9, "stabilized: 9 wanted within 60 s (backlog 120 / 100)")),
        (seen(*FULL, 412, 120), 9, (5, "stabilized: 5 wanted within 60 s (backlog 120 / 100)")),
        (seen(*[120] * 12), 9, (2, "backlog 120 / 100")),
        (seen(5, *[0] * 7), 9, (0, "no message for 60 s")),
        (seen(*[120] * 7, 0), 9, (2, "cooling down: zero in 50 s without a message")),
        (seen(*FULL), 9, (0, "no message for 60 s")),
        (seen(*FULL), 0, (0, "backlog 0 / 100")),
    ],
)
def test_the_reason_says_why(history: tuple[Sample, ...], current: int, decision: tuple[int, str]) -> None:
    assert decide(HUNDRED, history, current, NOW) == Decision(*decision)


def test_before_zero_one_process_waits_for_the_cooldown() -> None:
    slow = Policy(min=0, max=50, backlog=100, cooldown=60, window=10)
    assert decide(slow, seen(500, 0, 0, 0), 5, NOW) == Decision(1, "cooling down: zero in 30 s without a message")
    assert decide(slow, seen(500, *[0] * 6), 1, NOW) == Decision(0, "no message for 60 s")


def test_a_queue_that_stayed_empty_for_the_cooldown_does_not_wait_for_a_longer_window() -> None:
    usual = Policy(min=0, max=50, backlog=100, cooldown=60, window=300)
    assert decide(usual, seen(*[5000] * 40, *[0] * 5), 50, NOW).count == 50
    assert decide(usual, seen(*[5000] * 40, *[0] * 6), 50, NOW).count == 0


def test_a_gap_in_the_cooldown_may_have_hidden_a_message() -> None:
    slow = Policy(min=0, max=50, backlog=100, cooldown=60, window=10)
    assert decide(slow, seen(0, 0, 0, 0, None, 0, 0, 0), 1, NOW).count == 1
    assert decide(slow, seen(0, None, *[0] * 7), 1, NOW).count == 0


def test_messages_that_are_being_worked_on_count() -> None:
    busy = (Sample(NOW - 100, 0, 300), Sample(NOW, 0, 300))
    assert decide(HUNDRED, busy, 3, NOW).count == 3


def test_below_min_it_says_so() -> None:
    assert decide(Policy(2, 9, 100), seen(0), 0, NOW) == Decision(2, "backlog 0 / 100, at least 2")
