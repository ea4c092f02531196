"""Pages of a log: whatever is in the file, paging through it gives each line once, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.journal import levels, logs, read_page
from reconciler.journal.logs import LogPage

anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
PIECES = [b"\n", b"a", b"b\n", b"\xff", b"\0", "ü☃".encode(), b"long" * 9, b"\r\n"]
contents = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "a.log"
    path.write_bytes(content)
    return path


def whole(content: bytes) -> list[str]:
    lines = content.split(b"\n")
    return [line.decode(errors="replace") for line in (lines if lines[-1] else lines[:-1])]


def pages(path: Path, **query: object) -> list[LogPage]:
    """All of them, newest first."""
    found = [read_page(path, **query)]  # type: ignore[arg-type]
    while found[-1].offset:
        found.append(read_page(path, before=found[-1].offset, **query))  # type: ignore[arg-type]
    return found


def joined(found: list[LogPage]) -> list[str]:
    return [line for page in reversed(found) for line in page.lines]


@given(contents, st.integers(1, 20), st.integers(1, 50))
@anywhere
def test_paging_gives_the_whole_file(tmp_path: Path, content: bytes, lines: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "CHUNK", chunk)
        path = write(tmp_path, content)
        found = pages(path, lines=lines)
        assert joined(found) == whole(content)
        assert found[0].end == len(content)
        assert all(len(page.lines) == lines for page in found[:-1])


@given(contents, st.integers(1, 20), st.integers(1, 50), st.integers(1, 40))
@anywhere
def test_filters_find_the_same_whatever_the_pages(
    tmp_path: Path, content: bytes, lines: int, chunk: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "CHUNK", chunk)
        path = write(tmp_path, content)
        for q in ("A", "gL", "ü", "b"):
            wanted = [line for line in whole(content) if q.lower() in line]
            assert joined(pages(path, lines=lines, q=q)) == wanted
        patch.setattr(logs, "MOST_TEXT", most)
        assert joined(pages(path, lines=lines)) == whole(content)


LEVELLED = st.lists(st.sampled_from(["DEBUG d", "INFO i", "WARNING w", "ERROR e", "  more", "word"]), max_size=40)


@given(LEVELLED, st.integers(1, 10), st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]))
@anywhere
def test_levels_are_inherited_whatever_the_pages(tmp_path: Path, lines: list[str], size: int, least: str) -> None:
    level, wanted = levels.UNKNOWN, []
    for line in lines:
        level = levels.level_of(line) or level
        if level >= levels.threshold(least):
            wanted.append(line)
    path = write(tmp_path, "".join(f"{line}\n" for line in lines).encode())
    assert joined(pages(path, lines=size, level=least)) == wanted


def test_newest_first_of_all_and_oldest_first_in_a_page(tmp_path: Path) -> None:
    path = write(tmp_path, b"one\ntwo\nthree\n")
    assert read_page(path, lines=2) == LogPage(["two", "three"], 4, 14, [8, 14])
    assert read_page(path, lines=2, before=4) == LogPage(["one"], 0, 4, [4])
    assert read_page(path, before=0) == LogPage([], 0, 0, [])
    assert read_page(path, before=10**12).lines == ["one", "two", "three"]
    assert read_page(path, lines=-5).lines == ["three"]


def test_a_last_line_without_newline(tmp_path: Path) -> None:
    path = write(tmp_path, b"one\ntw")
    assert read_page(path) == LogPage(["one", "tw"], 0, 6, [4, 6])
    assert read_page(path, partial=False) == LogPage(["one"], 0, 4, [4])
    assert read_page(write(tmp_path, b"tw"), partial=False) == LogPage([], 0, 0, [])
    assert read_page(write(tmp_path, b""), partial=False) == LogPage([], 0, 0, [])


def test_a_line_too_long_is_cut(tmp_path: Path) -> None:
    long = b"x" * 1024 * 1024
    path = write(tmp_path, b"before\n" + long + b"\nafter\n")
    before, cut, after = read_page(path).lines
    assert (before, after) == ("before", "after")
    assert cut == "x" * 65536 + " … (1,048,576 bytes)"
    (tmp_path / "a.log").write_bytes(b"y" * 65536 + b"\n")
    assert read_page(path).lines == ["y" * 65536]


def test_bytes_read_for_one_page_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_READ", 10_000)
    monkeypatch.setattr(logs, "CHUNK", 1000)
    path = write(tmp_path, b"needle\n" + b"hay\n" * 20_000)
    first = read_page(path, q="needle")
    assert (first.lines, first.end) == ([], 80_007)
    assert 69_000 < first.offset < 70_100
    assert joined(pages(path, q="needle")) == ["needle"]


def test_one_endless_line_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_READ", 10_000)
    monkeypatch.setattr(logs, "CHUNK", 1000)
    path = write(tmp_path, b"start\n" + b"z" * 35_000)
    found = joined(pages(path))
    assert found[0] == "start"
    assert "".join(found[1:]) == "z" * 35_000


def test_a_huge_sparse_file(tmp_path: Path) -> None:
    path = tmp_path / "huge.log"
    with path.open("wb") as file:
        file.truncate(10 * 1024**3)
        file.seek(0, 2)
        file.write(b"\nthe end\n")
    page = read_page(path, lines=1)
    assert page.lines == ["the end"]
    assert page.offset == 0, "a hole is the beginning"


def test_refusals(tmp_path: Path) -> None:
    path = write(tmp_path, b"x\n")
    with pytest.raises(ValueError, match=r"no such level: LOUD .*DEBUG, INFO"):
        read_page(path, level="LOUD")
    with pytest.raises(FileNotFoundError):
        read_page(tmp_path / "none.log")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-24T22:10:00.123Z INFO    message", "INFO"),
        ("2026-11-24T22:10:00.123Z SUCCESS done ERROR", "SUCCESS"),
        ("2026-11-24 22:10:00,123 - app.module - ERROR - no", "ERROR"),
        ("[2026-11-24 22:10:00] [WARN] careful", "WARNING"),
        ("WARNING:root:careful", "WARNING"),
        ("\x1b[31mCRITICAL\x1b[0m gone", "CRITICAL"),
        ('time=2026 level=error msg="x"', "ERROR"),
        ('{"ts": 1, "level": "warn", "msg": "INFO"}', "WARNING"),
        ("Traceback (most recent call last):", "ERROR"),
        ("    raise ERROR", None),
        ("an error happened, INFORMATION", None),
        ("", None),
    ],
)
def test_guessed_levels(line: str, level: str | None) -> None:
    assert levels.level_of(line) == (levels.threshold(level) if level else None)


def test_a_traceback_stays_with_its_line(tmp_path: Path) -> None:
    text = "INFO fine\nERROR bad\nTraceback (most recent call last):\n  File x\nValueError: y\nINFO on\n"
    path = write(tmp_path, text.encode())
    assert read_page(path, level="ERROR").lines == text.split("\n")[1:5]
    assert read_page(path, level="error", q="VALUE").lines == ["ValueError: y"]
