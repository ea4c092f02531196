"""Since when a queue has been paused."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.pauses import Pauses


def test_a_pause_is_as_old_as_when_it_was_first_seen_and_ends_when_it_is_seen_no_more() -> None:
    pauses = Pauses()
    pauses.look(["a"], 100)
    pauses.look(["a", "b"], 200)
    assert pauses.since == {"a": 100, "b": 200}
    pauses.look(["b"], 300)
    pauses.look(["a", "b"], 400)
    assert pauses.since == {"a": 400, "b": 200}


def test_the_next_daemon_knows_it(tmp_path: Path) -> None:
    Pauses(tmp_path / "pauses.json").look(["a/b ü"], 100)
    later = Pauses(tmp_path / "pauses.json")
    later.look(["a/b ü"], 500)
    assert later.since == {"a/b ü": 100}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": "x"}', b'{"a": null}', b"\xff", b"[" * 100_000])
def test_a_file_that_cannot_be_read_costs_the_age_and_no_more(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pauses.json").write_bytes(content)
    pauses = Pauses(tmp_path / "pauses.json")
    pauses.look(["a"], 100)
    assert pauses.since == Pauses(tmp_path / "pauses.json").since == {"a": 100}


def test_nor_does_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    pauses = Pauses(tmp_path / "gone" / "pauses.json")
    pauses.look(["a"], 100)
    assert pauses.since == {"a": 100}
