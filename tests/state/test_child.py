"""Programs that are run to their end, or not to their end."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from pathlib import Path

import pytest

from state.child import run, watched
from tests.waiting import async_eventually


def children() -> set[int]:
    """Ours, ended or not, as long as nobody has taken them in."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, path.read_text().split()))


def holders(mark: str) -> set[int]:
    """The processes with this word in their command line."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


async def test_what_it_is_given_and_says(tmp_path: Path) -> None:
    much = b"line\n" * 1_000_000
    ended = await run(["sh", "-c", "cat; pwd >&2; exit 3"], stdin=much, cwd=tmp_path)
    assert (ended.status, ended.out, ended.err.decode().strip()) == (3, much, str(tmp_path))
    assert (await run(["sh", "-c", "kill -9 $$"])).status == -9
    assert (await run(["sh", "-c", 'echo "$A"'], env={"A": "b", "PATH": os.environ["PATH"]})).out == b"b\n"


async def test_one_that_is_not_there() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        await run(["no-such-program"])
    assert len(os.listdir("/proc/self/fd")) <= before  # fewer, if something of an earlier test is let go


async def test_one_that_cannot_be_watched_is_not_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    before = children()
    monkeypatch.setattr(os, "pidfd_open", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        await run(["sleep", "60"])
    assert children() <= before  # one of an earlier test may end meanwhile


@pytest.mark.parametrize("ticks", range(8))
async def test_cancelled_at_any_moment_it_ends_at_once_and_leaves_nothing(ticks: int) -> None:
    mark, before = f"{time.time_ns()}", children()
    task = asyncio.ensure_future(run(["sh", "-c", f"sleep 60 & sleep 60; echo {mark}"]))
    for _ in range(ticks):
        await asyncio.sleep(0)
    for _ in range(2):  # the second time while it is seen off
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()
    assert children() <= before
    await async_eventually(lambda: not holders(mark))


async def test_what_it_leaves_behind_holds_up_nobody() -> None:
    ended = await run(["sh", "-c", "setsid sleep 600 & echo $!"])
    os.kill(int(ended.out), signal.SIGKILL)  # which says so if it has ended: then it was waited for


async def test_watching_one_that_is_gone() -> None:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    with watched(pid) as over:
        async with asyncio.timeout(30):
            await over.wait()
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError), watched(pid):
        pass
