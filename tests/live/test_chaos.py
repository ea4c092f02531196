"""Half a minute in which everything goes wrong that may; then each promise is asked about by name.

What happens is in chaos/acts.py, what is promised in chaos/invariants.py. CHAOS_SEED and CHAOS_SECONDS choose another
run; `python -m bench.chaos` is the long one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.live.chaos.acts import WEIGHTS, kills_the_daemon, schedule
from tests.live.chaos.chaos import Outcome, chaos
from tests.live.chaos.invariants import INVARIANTS

SEED = int(os.environ.get("CHAOS_SEED", "3"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))

pytestmark = pytest.mark.timeout(SECONDS + 900)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    with chaos(tmp_path_factory.mktemp("chaos"), SEED, SECONDS, print) as outcome:
        yield outcome


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
def test_whatever_happens(invariant: Callable[[Outcome], None], outcome: Outcome) -> None:
    try:
        invariant(outcome)
    except AssertionError as error:
        raise AssertionError(f"{invariant.__doc__}\n{error}\n{outcome.story()}") from None


def test_a_seed_says_what_happens_and_nothing_is_left_out() -> None:
    planned = schedule(7, 30, 1.5)
    assert planned == schedule(7, 30, 1.5)
    assert planned != schedule(8, 30, 1.5)
    assert {act for _, act in planned} == set(WEIGHTS)
    assert max(at for at, act in planned if act is kills_the_daemon) < 15
