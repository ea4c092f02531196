"""The ledger knows what is ours. Whatever happens to it, it never comes to know of more than that."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.ledger import Holdings, Ledger, Owned

HERE, THERE = "rabbit@here /", "rabbit@there /"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.json"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    """One that owns the queues a and b here, and was asked to delete b with force."""
    ledger = Ledger.load(path)
    ledger.claim(HERE, {"a": Owned(), "b": Owned("keep")})
    ledger.request("b", True)
    return ledger


def test_what_was_claimed_is_known_to_the_next_daemon(ledger: Ledger, path: Path) -> None:
    again = Ledger.load(path)
    assert again.owned(HERE) == {"a": Owned("delete-if-empty"), "b": Owned("keep")}
    assert again.requests == {"b": True}
    assert again.broken is None


def test_it_is_on_disk_before_a_claim_returns(path: Path) -> None:
    Ledger.load(path).claim(HERE, {"a": Owned()})
    assert json.loads(path.read_bytes())["brokers"] == {HERE: {"a": {"on_remove": "delete-if-empty"}}}


def test_another_broker_owns_nothing(ledger: Ledger) -> None:
    assert ledger.owned(THERE) == {}


def test_a_lost_ledger_owns_nothing(ledger: Ledger, path: Path) -> None:
    path.unlink()
    assert Ledger.load(path).owned(HERE) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b"{}",
        b'{"brokers": [], "requests": {}}',
        b'{"brokers": {"b": {"q": {"owner": 1}}}, "requests": {}}',
        b'{"brokers": {"b": {"q": 1}}, "requests": {}}',
        b'{"brokers": {}, "requests": 1}',
        b"[" * 100_000,
        b'{"brokers": {"b": {"q": {"on_remove": 1}}}, "requests": {}}',
        b'{"brokers": {"b": {"q": {"on_remove": "explode"}}}, "requests": {}}',
        b'{"brokers": {}, "requests": {"q": "no"}}',
    ],
)
def test_a_broken_ledger_owns_nothing_and_is_kept_aside_and_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    ledger = Ledger.load(path)
    assert not any(ledger.brokers.values())
    assert not ledger.requests
    assert "ledger.broken.json" in str(ledger.broken)
    assert path.with_suffix(".broken.json").read_bytes() == content


def test_after_a_broken_one_it_works_again(path: Path) -> None:
    path.write_bytes(b"{")
    Ledger.load(path).claim(HERE, {"a": Owned()})
    assert Ledger.load(path).owned(HERE) == {"a": Owned()}


def test_looking_only_moves_nothing(path: Path) -> None:
    path.write_bytes(b"{")
    assert not Ledger.peek(path).brokers
    assert path.read_bytes() == b"{"
    assert not list(path.parent.glob("*.broken*"))


def test_what_is_released_is_not_ours_any_more_and_its_request_is_over(ledger: Ledger, path: Path) -> None:
    ledger.release(HERE, "b")
    assert Ledger.load(path).owned(HERE) == {"a": Owned()}
    assert Ledger.load(path).requests == {}


def test_releasing_what_is_not_ours_is_nothing(ledger: Ledger, path: Path) -> None:
    before = path.read_bytes()
    ledger.release(HERE, "never")
    ledger.release(THERE, "a")
    assert path.read_bytes() == before


def test_claiming_again_what_is_known_writes_nothing(ledger: Ledger, path: Path) -> None:
    inode = path.stat().st_ino
    ledger.claim(HERE, {"a": Owned()})
    assert path.stat().st_ino == inode


def test_claiming_again_with_another_word_on_removal_replaces_it(ledger: Ledger, path: Path) -> None:
    ledger.claim(HERE, {"a": Owned("delete")})
    assert Ledger.load(path).owned(HERE)["a"] == Owned("delete")


def test_requests_that_are_met_are_dropped_and_others_stay(ledger: Ledger, path: Path) -> None:
    ledger.request("a", False)
    ledger.drop_requests({"b", "never"})
    assert Ledger.load(path).requests == {"a": False}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No ledger can be written, until `undo`."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("state.ledger.write_atomically", refused)
        yield patch


def test_what_a_full_disk_has_not_taken_is_not_claimed_the_next_time_either(
    ledger: Ledger, path: Path, full: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            ledger.claim(HERE, {"new": Owned()})
    full.undo()
    ledger.claim(HERE, {"new": Owned()})
    assert "new" in Ledger.load(path).owned(HERE)


def test_nor_said_to_be_released_as_long_as_the_disk_still_owns_it(
    ledger: Ledger, path: Path, full: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            ledger.release_all(HERE, Holdings(queues={"a": Owned()}))
    full.undo()
    ledger.release_all(HERE, Holdings(queues={"a": Owned()}))
    assert "a" not in Ledger.load(path).owned(HERE)


def test_what_was_released_on_a_full_disk_is_put_there_later(
    ledger: Ledger, path: Path, full: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space"):
        ledger.release(HERE, "a")
    assert "a" in Ledger.peek(path).owned(HERE)
    full.undo()
    ledger.save_again()
    assert Ledger.load(path).owned(HERE).keys() == {"b"}
    before = path.stat().st_ino
    ledger.save_again()
    assert path.stat().st_ino == before, "written for nothing"


def test_entries_are_what_is_not_there_for_the_sake_of_another() -> None:
    assert Holdings({"q": Owned(), "q.dead": Owned(of="q"), "p": Owned()}).entries == 2


@given(st.dictionaries(st.text(max_size=9), st.sampled_from(["keep", "delete", "delete-if-empty"]), max_size=5))
@settings(max_examples=30, deadline=None)
def test_any_name_survives(tmp_path_factory: pytest.TempPathFactory, queues: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.json"
    owned = {name.encode(errors="ignore").decode(): Owned(on_remove) for name, on_remove in queues.items()}
    Ledger.load(path).claim(HERE, owned)
    assert Ledger.load(path).owned(HERE) == owned
