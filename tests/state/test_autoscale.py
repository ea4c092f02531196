"""`autoscale` in the file: what is taken, with which defaults, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import pytest

from state.autoscale import Policy
from state.faults import Rejected
from state.processes import Pool
from state.reader import parse

POOL = Pool("q", "w")


def policies(worker: str, defaults: str = "{}", queue: str = "") -> dict[Pool, Policy]:
    text = f"version: 1\ndefaults: {{worker: {defaults}}}\nqueues:\n  q:\n    {queue}workers:\n      w: {worker}\n"
    return parse(text.encode()).scaling()


def faults(worker: str, **more: Any) -> str:
    with pytest.raises(Rejected) as rejected:
        policies(worker, **more)
    return str(rejected.value)


def test_the_short_and_the_whole_form() -> None:
    assert policies("{autoscale: {max: 50, backlog: 100}}") == {POOL: Policy(0, 50, 100, 60, 300)}
    whole = "{autoscale: {min: 1, max: 5, backlog: 10, cooldown: 2m, window: 30s}}"
    assert policies(whole) == {POOL: Policy(1, 5, 10, 120, 30)}
    assert policies("3") == {}


def test_a_default_of_the_other_kind_gives_way() -> None:
    scale = "{autoscale: {max: 5, backlog: 10}}"
    assert set(policies(scale, defaults="{count: 3}")) == {POOL}
    assert policies("3", defaults=scale) == {}
    assert policies("{count: 3}", defaults=scale) == {}
    assert set(policies("{}", defaults=scale)) == {POOL}
    assert policies("{autoscale: null}", defaults=scale) == {}


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ("{count: 2, autoscale: {max: 5, backlog: 1}}", "6:18: queues.q.workers.w.count: count and autoscale exclude"),
        ("{autoscale: {min: 6, max: 5, backlog: 1}}", "autoscale.min: min is 6 and max is 5 (min is at most max)"),
        ("{autoscale: {max: 5}}", "autoscale.backlog: the key backlog is missing"),
        ("{autoscale: {max: 0, backlog: 1}}", "autoscale.max: 0 is too small (at least 1)"),
        ("{autoscale: {max: 5, backlog: 0}}", "autoscale.backlog: 0 is too small (at least 1)"),
        ("{autoscale: {max: 5, backlog: 1.5}}", "autoscale.backlog: 1.5 is not a whole number"),
        ("{autoscale: {max: 5, backlog: 1, cooldown: soon}}", "autoscale.cooldown: 'soon' does not fit (a duration is"),
        ("{autoscale: {max: 5, backlog: 1, windows: 5}}", "unknown key 'windows' (did you mean window?)"),
        ("{autoscale: 5}", "autoscale: 5 is not a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(worker: str, words: str) -> None:
    assert words in faults(worker)


def test_a_stream_keeps_its_messages_so_that_nothing_follows_it() -> None:
    said = faults("{autoscale: {max: 5, backlog: 1}}", queue="type: stream\n    ")
    assert "autoscale cannot follow a stream" in said
