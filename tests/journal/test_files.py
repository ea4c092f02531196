"""A log of several files, some packed, some with a hole, read as one; also while it is rotated."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.journal import LogFollower, LogLine, cursor, follow, logs, pack, parts, read_page
from reconciler.journal.holes import BLOCK, first_data, punch
from reconciler.journal.parts import STEP, delete_log, log_of, older_parts
from reconciler.journal.reader import open_log
from tests.journal.logs import make_log, pack_here, packed, rotate
from tests.journal.test_logs import joined, pages, whole
from tests.waiting import async_eventually

anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
PIECES = [b"\n", b"a", b"b\n", b"\xff", "ü☃".encode(), b"long" * 9, b"\r\n"]
contents = st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join)
files = st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=5)


def emptied(folder: Path) -> Path:
    path = folder / "0-20261125T010203.000001Z.log"
    delete_log(path)
    return path


@given(files, st.integers(1, 10), st.integers(1, 40), st.integers(1, 30))
@anywhere
def test_paging_gives_all_of_it(
    tmp_path: Path, made: list[tuple[bytes, bool]], lines: int, chunk: int, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "CHUNK", chunk)
        patch.setattr(pack, "BLOCK", block)
        path = emptied(tmp_path)
        make_log(path, [content for content, _ in made], [is_packed for _, is_packed in made])
        everything = whole(b"".join(content for content, _ in made))
        found = pages(path, lines=lines)
        assert joined(found) == everything
        ends = [end for page in reversed(found) for end in page.ends]
        assert ends == sorted(set(ends)), "an address stands for two lines"
        for at, end in enumerate(ends):
            assert read_page(path, lines=1, before=end).lines == [everything[at]]


@given(files, st.integers(1, 30))
@anywhere
def test_following_gives_all_of_it_from_anywhere(tmp_path: Path, made: list[tuple[bytes, bool]], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "BLOCK", block)
        patch.setattr(cursor, "QUIET", -1.0)
        path = emptied(tmp_path)
        make_log(path, [content for content, _ in made], [is_packed for _, is_packed in made])
        everything = whole(b"".join(content for content, _ in made))
        seen = asyncio.run(followed(path, 0))
        assert [line.text for line in seen] == everything
        for at, line in enumerate(seen[:3]):
            again = asyncio.run(followed(path, line.end))
            assert again == seen[at + 1 :]


async def followed(path: Path, offset: int) -> list[LogLine]:
    async with aclosing(LogFollower().follow(path, offset, lambda: True)) as lines:
        return [line async for line in lines]


def test_an_address_outlives_rotation_and_packing(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    path.write_bytes(b"one\ntwo\n")
    (page,) = pages(path, lines=2)
    first = rotate(path)
    for _ in range(2):
        path.write_bytes(b"three\n")
        assert read_page(path, lines=1, before=page.ends[0]).lines == ["one"]
        assert asyncio.run(followed(path, page.ends[0]))[0] == LogLine("two", 4, 8)
        packed(first)
    assert not first.exists()
    assert read_page(path).ends == [4, 8, STEP + 6]


def test_what_is_packed_is_gzip_for_everyone(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    content = b"".join(b"line %d of many\n" % number for number in range(100_000))
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    older = rotate(path)
    assert packed(older) == 0
    (part,) = older_parts(path)
    assert part.packed
    assert not older.exists()
    assert gzip.decompress(part.path.read_bytes()) == content
    assert part.path.stat().st_mtime == 1e9
    assert part.path.stat().st_size < len(content) / 5


def test_what_somebody_writes_to_is_not_packed(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    path.write_bytes(b"one\n")
    with path.open("ab") as still:
        older = rotate(path)
        assert packed(older) == pack.BUSY
        still.write(b"two\n")
    assert read_page(path).lines == ["one", "two"]
    assert packed(older) == 0
    assert read_page(path).lines == ["one", "two"]
    assert packed(older) == 0, "done already"


def test_a_late_line_in_the_older_file_does_not_move_the_newer(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    path.write_bytes(b"one\n")
    older = rotate(path)
    path.write_bytes(b"three\n")
    before = read_page(path, lines=1)
    with older.open("ab") as still:
        still.write(b"two\n")
    assert read_page(path, lines=1) == before
    assert read_page(path).lines == ["one", "two", "three"]


def numbered(count: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(count))


def test_a_hole_is_the_beginning(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    content = numbered(50_000)
    path.write_bytes(content)
    last = read_page(path, lines=1)
    with path.open("r+b") as file:
        begin = punch(file.fileno(), 100_000)
        assert first_data(file.fileno()) == begin
    assert path.stat().st_size == len(content)
    assert path.stat().st_blocks * 512 <= 100_000 + 2 * BLOCK
    left = whole(content[content.index(b"\n", begin) + 1 :])
    assert joined(pages(path, lines=700)) == left
    assert pages(path, lines=700)[-1].offset == 0
    assert read_page(path, lines=1) == last
    assert [line.text for line in asyncio.run(followed(path, 0))] == left
    assert [line.text for line in asyncio.run(followed(path, 3))] == left
    assert packed(rotate(path)) == 0
    assert joined(pages(path, lines=700)) == left
    assert read_page(path, lines=1) == last
    assert [line.text for line in asyncio.run(followed(path, 0))] == left


@pytest.mark.parametrize("what", ["cut", "foreign", "empty", "garbled"])
def test_a_damaged_packed_file_costs_only_itself(tmp_path: Path, what: str) -> None:
    path = emptied(tmp_path)
    make_log(path, [numbered(1000), b"more\n"], [True, False])
    (part,) = older_parts(path)
    raw = part.path.read_bytes()
    damaged = {"cut": raw[:50], "foreign": gzip.compress(b"x\n"), "empty": b"", "garbled": raw[:60] + b"?" + raw[61:]}
    part.path.write_bytes(damaged[what])
    assert read_page(path, lines=1).lines == ["more"]
    assert read_page(path).lines[-1] == "more"
    seen = asyncio.run(asyncio.wait_for(followed(path, 0), 60))
    assert [line.text for line in seen][-1] == "more"


def test_the_log_of_a_file_and_its_end(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    other = path.with_name("0-20261125T010203.000001Z2.log")
    make_log(path, [b"1\n", b"2\n", b"3\n"], [True, False])
    make_log(other, [b"1\n", b"2\n"], [True])
    assert {log_of(file) for file in tmp_path.iterdir()} == {path, other}
    delete_log(path)
    assert {log_of(file) for file in tmp_path.iterdir()} == {other}
    with pytest.raises(FileNotFoundError):
        read_page(path)


def test_reading_while_it_is_rotated_and_packed(tmp_path: Path) -> None:
    """Each page is all of what was there: nothing is missing, doubled, or at another address."""
    path = emptied(tmp_path)
    path.write_bytes(b"")
    stop = threading.Event()
    written = 0

    def rotating() -> None:
        nonlocal written
        while not stop.is_set() and written < 400:
            with path.open("ab") as file:
                file.write(b"line %d\n" % written)
            written += 1
            if written % 4 == 0:
                older = rotate(path)
                path.touch()
                pack_here(older)

    thread = threading.Thread(target=rotating)
    thread.start()
    addresses: dict[str, int] = {}
    try:
        over = False
        while not over:
            over = not thread.is_alive()  # before the look: the last one sees all of it
            least = written
            page = read_page(path, lines=10_000)
            assert page.lines == [f"line {number}" for number in range(len(page.lines))]
            assert len(page.lines) >= least
            for text, end in zip(page.lines, page.ends, strict=True):
                assert addresses.setdefault(text, end) == end
    finally:
        stop.set()
        thread.join()
    assert len(addresses) == 400


async def test_a_follower_crosses_any_number_of_rotations(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    path.write_bytes(b"")
    seen: list[LogLine] = []

    async def follow() -> None:
        over = False

        def ended() -> bool:
            return over

        async with aclosing(LogFollower().follow(path, 0, ended)) as lines:
            async for line in lines:
                seen.append(line)
                over = line.text == "line 2999"

    task = asyncio.create_task(follow())
    number = 0
    for round_ in range(30):
        for _ in range(100):
            with path.open("ab") as file:
                file.write(b"line %d\n" % number)
            number += 1
        if round_ < 29:
            older = rotate(path)
            path.touch()
            if round_ % 3 == 0:
                await asyncio.to_thread(packed, older)
            if round_ % 5 == 0:
                await asyncio.sleep(0.15)
    await asyncio.wait_for(task, 60)
    assert [line.text for line in seen] == [f"line {n}" for n in range(3000)]
    assert [line.end for line in seen] == joined_ends(path)


def joined_ends(path: Path) -> list[int]:
    return [end for page in reversed(pages(path, lines=10_000)) for end in page.ends]


async def test_the_follower_is_quick_again_after_a_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of each line; looking now and then would take too long."""
    monkeypatch.setattr(follow, "AT_LEAST", 600_000)
    path = emptied(tmp_path)
    path.write_bytes(b"one\n")
    seen: list[str] = []

    async def collect() -> None:
        async with aclosing(LogFollower().follow(path)) as lines:
            async for line in lines:
                seen.append(line.text)  # noqa: PERF401

    task = asyncio.create_task(collect())
    await async_eventually(lambda: seen == ["one"])
    rotate(path)
    path.write_bytes(b"two\n")
    await async_eventually(lambda: seen == ["one", "two"])
    await asyncio.sleep(0.5)  # so that no look is due that follows the rotation
    with path.open("ab") as file:
        file.write(b"three\n")
    await async_eventually(lambda: "three" in seen)
    task.cancel()
    await asyncio.wait([task])


def test_bytes_of_all_files(tmp_path: Path) -> None:
    path = emptied(tmp_path)
    make_log(path, [b"one\n", b"two\n", b"three\n"], [True, False])
    with open_log(path) as log:
        delete_log(path)
        assert log.pread(100, 0) == b"one\ntwo\nthree\n"
        assert log.pread(4, 2) == b"e\ntw"
        assert [log.position(log.number(at)) for at in range(14)] == list(range(14))


def test_a_look_that_misses_a_file_being_packed_moves_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its two names a file may be in neither half of a folder's listing."""
    path = emptied(tmp_path)
    make_log(path, [b"one\n", b"two\n"], [True])
    right, names = read_page(path), parts._names
    looks: list[int] = []

    def missing(folder: Path) -> list[str]:
        looks.append(1)
        return [name for name in names(folder) if len(looks) > 1 or not name.endswith(".gz")]

    monkeypatch.setattr(parts, "_names", missing)
    assert read_page(path) == right
