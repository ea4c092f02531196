"""What holds for every edit, tried on 10,000 texts that no one would write by hand (`bench/edit` tries a million).

Each text comes from a seed, so that one which fails can be looked at: `document(seed, kind)`.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from state.edit import EditRefused, remove, set_value
from tests.state.documents import KINDS, document
from tests.state.judges import GONE, Path, check_text, comments, plain, put, read, try_edit

DOCUMENTS = 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_changes_what_it_was_asked_for_and_nothing_else(kind: str) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(-(-DOCUMENTS // len(KINDS))):
        try:
            outcomes[try_edit(seed, kind)] += 1
        except AssertionError as error:
            raise AssertionError(f"try_edit({seed}, {kind!r}): {error}\n{document(seed, kind)}") from error
    assert outcomes["done"] > outcomes.total() / 2, outcomes


class TestTheJudges:
    TEXT = "# head\n\n# of a\na: 1  # of a\n# of b\nb: 2\n"

    def test_take_what_is_right(self) -> None:
        check_text(self.TEXT, self.TEXT.replace("b: 2", "b: 3"), ("b",))
        check_text(self.TEXT, "# head\n\n# of b\nb: 2\n", ("a",))
        assert put(read(self.TEXT), ("a",), GONE) == plain({"b": 2})

    @pytest.mark.parametrize(
        ("result", "path"),
        [
            ("# head\n\n# of a\na: 1\n# of b\nb: 3\n", ("b",)),
            ("# head\n\n# of a\na: 1  # of  a\n# of b\nb: 3\n", ("b",)),
            ("# of a\n\n# head\na: 1  # of a\n# of b\nb: 3\n", ("b",)),
            ("# head\n\n# of b\nb: 2\n# more\n", ("a",)),
            ("# head\n\n# of a\na:  1  # of a\n# of b\nb: 3\n", ("b",)),
            ("# head\n# of a\na: 1  # of a\n# of b\nb: 3\n", ("b",)),
            ("\ufeff# head\n\n# of a\na: 1  # of a\n# of b\nb: 3\n", ("b",)),
            ("# head\n\n# of a\na: 1  # of a\n# of b\nb: 3\r\n", ("b",)),
        ],
    )
    def test_see_what_is_wrong(self, result: str, path: Path) -> None:
        with pytest.raises(AssertionError):
            check_text(self.TEXT, result, path)

    def test_tell_comments_from_text(self) -> None:
        text = "a: |  # one\n  text # no\n\n# two\nb: ['# no', # three\n 2]\nc: d#no  # four"
        assert comments(text) == ["# one", "# two", "# three", "# four"]


TOKENS = (
    "a", "b", "on", "1", " ", "  ", "\n", "\n  ", "\n- ", ":", ": ", ",", "{", "}", "[", "]", "- ", "? ", "&x ", "*x",
    "<<: ", "!!str ", "!!set ", "!!int ", "!t ", "|\n", ">+\n", "#", " # ", '"', "'", "---\n", "...\n", "%", "\t", "\r",
    "\x85", "\u2028", "\ufeff", "\x00", "\ud800", "2024-99-99", "=", "é",
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(TOKENS), max_size=25).map("".join), st.sampled_from([("a",), ("a", "b"), ("0",), ()]))
def test_any_text_is_edited_or_refused(text: str, path: Path) -> None:
    for edit in (lambda: set_value(text, path, "new"), lambda: remove(text, path)):
        with suppress(EditRefused):
            edit()
