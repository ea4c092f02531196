"""Following a log while it is written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.journal import LogFollower, LogLine, follow
from tests.waiting import async_eventually


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


async def collect(
    follower: LogFollower, path: Path, into: list[LogLine], offset: int = 0, ended: Callable[[], bool] | None = None
) -> None:
    async with aclosing(follower.follow(path, offset, ended)) as lines:  # type: ignore[type-var]
        async for line in lines:
            into.append(line)  # noqa: PERF401  seen one by one


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_lines_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, b"old\n")
    seen: list[LogLine] = []
    task = asyncio.create_task(collect(LogFollower(), path, seen))
    await async_eventually(lambda: seen == [LogLine("old", 0, 4)])
    append(path, b"par")
    await asyncio.sleep(0.2)
    assert len(seen) == 1
    append(path, "tial ü\n".encode())
    await async_eventually(lambda: seen[1:] == [LogLine("partial ü", 4, 15)])
    await stop(task)


async def test_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of each line; looking now and then would take too long."""
    monkeypatch.setattr(follow, "AT_LEAST", 600_000)
    path = tmp_path / "a.log"
    append(path, b"")
    seen: list[LogLine] = []
    task = asyncio.create_task(collect(LogFollower(), path, seen))
    await asyncio.sleep(0.3)
    for number in range(5):
        append(path, b"line\n")
        await async_eventually(lambda number=number: len(seen) > number)
    await stop(task)


async def test_resumed_by_offset(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, b"one\ntwo\nthree\n")
    seen: list[LogLine] = []
    await collect(LogFollower(), path, seen, offset=4, ended=lambda: True)
    assert [line.text for line in seen] == ["two", "three"]
    again: list[LogLine] = []
    await collect(LogFollower(), path, again, offset=seen[0].end, ended=lambda: True)
    assert again == seen[1:]


async def test_ends_with_its_process_and_gives_the_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, b"one\nlast words")
    seen: list[LogLine] = []
    over = False
    task = asyncio.create_task(collect(LogFollower(), path, seen, ended=lambda: over))
    await async_eventually(lambda: len(seen) == 1)
    over = True
    await asyncio.wait_for(task, 30)
    assert seen[1:] == [LogLine("last words", 4, 14)]


async def test_ends_when_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    seen: list[LogLine] = []
    await collect(LogFollower(), path, seen)
    append(path, b"x\n")
    task = asyncio.create_task(collect(LogFollower(), path, seen))
    await async_eventually(lambda: len(seen) == 1)
    path.unlink()
    await asyncio.wait_for(task, 30)


async def test_begins_anew_in_a_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, b"a long first line\n")
    seen: list[LogLine] = []
    task = asyncio.create_task(collect(LogFollower(), path, seen))
    await async_eventually(lambda: len(seen) == 1)
    path.write_bytes(b"new\n")
    await async_eventually(lambda: seen[1:] == [LogLine("new", 0, 4)])
    await stop(task)


async def test_one_watcher_for_all_and_none_when_nobody_follows(tmp_path: Path) -> None:
    follower = LogFollower()
    seen: list[list[LogLine]] = [[] for _ in range(10)]
    paths = [tmp_path / f"{number}.log" for number in range(5)] * 2
    for path in paths:
        append(path, b"")
    tasks = [asyncio.create_task(collect(follower, *pair)) for pair in zip(paths, seen, strict=True)]
    await asyncio.sleep(0.3)
    await async_eventually(lambda: sum("inotify" in link for link in links()) == 1)
    for path in paths:
        append(path, b"hello\n")
    await async_eventually(lambda: all(len(lines) == 2 for lines in seen))
    for task in tasks:
        await stop(task)
    await async_eventually(lambda: len(asyncio.all_tasks()) == 1)
    await async_eventually(lambda: not any("inotify" in link for link in links()))


async def test_a_slow_consumer_takes_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    append(path, b"0123456789\n" * 200_000)
    async with aclosing(LogFollower().follow(path, ended=lambda: True)) as lines:  # type: ignore[type-var]
        first = await anext(lines)
        assert first.text == "0123456789"
        await asyncio.sleep(0.1)
        count = 1
        async for _ in lines:
            count += 1
    assert count == 200_000


async def test_without_inotify_it_still_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_inotify(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(follow, "awatch", no_inotify)
    path = tmp_path / "a.log"
    append(path, b"")
    seen: list[LogLine] = []
    task = asyncio.create_task(collect(LogFollower(), path, seen))
    await asyncio.sleep(0.1)
    append(path, b"x\n")
    await async_eventually(lambda: len(seen) == 1)
    await stop(task)


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"a", b"\n")), max_size=20), st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
def test_cutting_is_the_same_however_it_arrives(pieces: list[bytes], longest: int) -> None:
    whole = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "LONGEST_LINE", longest)
        patch.setattr("reconciler.journal.logs.LONGEST_LINE", longest)
        lines = follow._Lines(0)
        seen = [line for piece in pieces for line in lines.feed(piece, lines.position)] + list(lines.rest())
        again = follow._Lines(0)
        assert [*again.feed(whole, 0), *again.rest()] == seen
    assert b"".join(whole[line.start : line.end] for line in seen) == whole
    assert len(seen) == whole.count(b"\n") + (not whole.endswith(b"\n") and bool(whole))


def links() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return found
