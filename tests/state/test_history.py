"""The history: what it keeps, what bounds it, and what a disk that is full or broken does to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.history import HELD, PENDING, SUPERSEDED, SYNCED, AmbiguousRevision, History, UnknownRevision
from state.origin import Origin
from state.reader import revision_of

ANN = Origin("api", "Ann <ann@example.org>", "create queue a")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


def entered(history: History, *texts: bytes) -> None:
    for number, text in enumerate(texts):
        history.enter(ANN, text, 1000.0 + number)
    history.flush()


def test_is_there_again_after_a_restart_the_newest_first(folder: Path) -> None:
    entered(History(folder), b"one", b"two")
    two, one = History(folder)
    assert (two.revision, one.revision) == (revision_of(b"two"), revision_of(b"one"))
    assert (one.by, one.via, one.text, one.at) == (ANN.by, "api", "create queue a", 1000.0)
    assert History(folder).text(one.revision) == b"one"


def test_what_was_not_reached_when_the_next_came_is_superseded_and_what_was_stays(folder: Path) -> None:
    history = History(folder)
    for result in (PENDING, SYNCED, HELD):
        history.enter(ANN, result.encode(), 1)
        history.update(result=result)
    history.enter(ANN, b"last", 2)
    assert [entry.result for entry in history] == [PENDING, HELD, SYNCED, SUPERSEDED]


def test_the_same_revision_twice_is_two_entries_and_one_text(folder: Path) -> None:
    history = History(folder)
    entered(history, b"one", b"two", b"one")
    assert len(list(history)) == 3
    assert len(list(folder.glob("*.gz"))) == 2
    assert history.find(revision_of(b"one")[:8]) == revision_of(b"one")


def test_a_start_of_a_revision_that_is_not_one_is_refused(folder: Path) -> None:
    history = History(folder)
    texts = [b"%d" % number for number in range(600)]
    entered(history, *texts)
    starts = [revision_of(text)[:4] for text in texts]
    twice = next((start for start in starts if starts.count(start) > 1), None)
    if twice:
        with pytest.raises(AmbiguousRevision, match="give more of it"):
            history.find(twice)
    for unknown in ("", "abc", "zzzz", revision_of(b"-1")):
        with pytest.raises(UnknownRevision, match="reconciler history"):
            history.find(unknown)


def test_is_bounded_in_number(folder: Path) -> None:
    history = History(folder, kept=3)
    entered(history, b"1", b"2", b"3", b"4")
    assert [history.text(entry.revision) for entry in history] == [b"4", b"3", b"2"]
    assert len(list(folder.glob("*.gz"))) == 3
    assert history.text(revision_of(b"1")) is None


def test_is_bounded_in_bytes_and_keeps_the_newest_whatever_its_size(folder: Path) -> None:
    texts = [os.urandom(1000) for _ in range(5)]
    history = History(folder, max_bytes=2500)
    entered(history, *texts)
    assert [history.text(entry.revision) for entry in history] == [texts[4], texts[3]]
    entered(history, os.urandom(5000))
    assert len(list(history)) == 1
    assert len(list(History(folder))) == 1


def test_what_stood_in_the_way_of_a_rollback_is_kept_once_and_was_never_in_force(folder: Path) -> None:
    history = History(folder)
    entered(history, b"one")
    for _ in range(2):
        history.keep(Origin("file", "ann"), b"[", 5, result="faults", reason="cut short")
    history.update(result=SYNCED)
    kept, one = history
    assert (kept.in_force, kept.result, one.result) == (False, "faults", SYNCED)
    assert history.newest == one


@pytest.mark.parametrize("rubbish", [b"", b"{", b"[]\n\xff\n", b"null\n{}\n", b'{"revision": 1}\n'])
def test_what_cannot_be_read_is_left_out(folder: Path, rubbish: bytes) -> None:
    entered(History(folder), b"one")
    index = folder / "entries.jsonl"
    index.write_bytes(rubbish + b"\n" + index.read_bytes() + rubbish)
    assert [entry.revision for entry in History(folder)] == [revision_of(b"one")]


@pytest.mark.parametrize("rubbish", [b"", b"no gzip", None])
def test_a_text_that_is_not_what_it_was_is_none(folder: Path, rubbish: bytes | None) -> None:
    entered(History(folder), b"one")
    (path,) = folder.glob("*.gz")
    path.unlink() if rubbish is None else path.write_bytes(rubbish)
    assert History(folder).text(revision_of(b"one")) is None


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_made_up_for_when_there_is_room(full_disk: Path) -> None:
    (full_disk / "ballast").write_bytes(b"x" * 60_000)
    history = History(full_disk / "history")
    text = os.urandom(30_000)
    entered(history, text)
    assert "No space left" in (history.error or "")
    assert history.text(revision_of(text)) == text
    (full_disk / "ballast").unlink()
    history.flush()
    assert history.error is None
    assert History(full_disk / "history").text(revision_of(text)) == text
