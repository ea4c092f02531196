"""What is known of how a file was saved, and which contents may be half of one."""

from __future__ import annotations

import pytest

from reconciler.saves import Save, Sight, save_between, takes_out
from state.desired import Desired
from state.reader import parse


def test_a_file_that_is_written_in_place_is_whole_once_its_writer_has_closed_it() -> None:
    sight = Sight().modified()
    assert sight.save is Save.OPEN
    assert sight.modified().save is Save.OPEN
    assert sight.closed().save is Save.CLOSED
    assert sight.closed().modified().save is Save.OPEN


def test_a_file_that_was_renamed_into_its_place_is_whole_at_once() -> None:
    assert Sight().modified().renamed().save is Save.WHOLE
    assert Sight().renamed().closed().save is Save.WHOLE, "opened for writing, and nothing written"
    assert Sight().renamed().modified().save is Save.OPEN


def test_of_what_was_not_seen_nothing_is_known() -> None:
    assert Sight().save is Save.UNKNOWN
    assert Sight().closed().save is Save.UNKNOWN
    assert Sight().renamed().lost().save is Save.UNKNOWN


def test_what_happens_while_it_is_read_leaves_it_unknown() -> None:
    before = Sight().modified().closed()
    assert save_between(before, before) is Save.CLOSED
    for after in (before.modified().closed(), before.renamed(), before.modified(), before.lost()):
        assert save_between(before, after) is Save.UNKNOWN


FULL = """\
version: 1
exchanges:
  events: {type: topic, bindings: [{exchange: amq.topic, routing_key: a}]}
queues:
  a:
    max_length: 5
    bindings: [{exchange: events, routing_key: a}, {exchange: events, routing_key: b}]
    workers: {echo: 1, send: 2}
  b: {}
policies:
  p: {pattern: x, definition: {max-length: 5}}
"""


def read(text: str) -> Desired:
    return parse(text.encode())


@pytest.mark.parametrize(
    "gone",
    [
        "  b: {}\n",
        "policies:\n  p: {pattern: x, definition: {max-length: 5}}\n",
        ", {exchange: events, routing_key: b}",
        ", send: 2",
        "    max_length: 5\n",
        ", bindings: [{exchange: amq.topic, routing_key: a}]",
    ],
)
def test_what_lacks_something_may_be_half_of_a_file(gone: str) -> None:
    assert gone in FULL
    assert takes_out(read(FULL), read(FULL.replace(gone, "")))
    assert not takes_out(read(FULL.replace(gone, "")), read(FULL))


def test_what_is_cut_short_at_any_line_may_be_half_of_a_file() -> None:
    lines = FULL.splitlines(keepends=True)
    for count in range(len(lines)):
        try:
            half = read("".join(lines[:count]))
        except Exception:  # it has faults, so it changes nothing
            continue
        assert takes_out(read(FULL), half)


@pytest.mark.parametrize(("old", "new"), [("max_length: 5\n", "max_length: 6\n"), ("b: {}", "b: {}\n  c: {}")])
def test_a_value_changed_or_a_line_added_is_no_half(old: str, new: str) -> None:
    assert not takes_out(read(FULL), read(FULL.replace(old, new)))
