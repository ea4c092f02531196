"""Rotation on real processes: whatever they write, and whenever it is killed, each line is there once and in order."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.journal import holes, pack, read_page
from reconciler.journal.parts import older_parts, part_name
from reconciler.supervisor import packing, rotation
from reconciler.supervisor.rotation import Rotation, Writer
from state.processes import LogRules
from tests.supervisor.chatter import REOPENS, WAITS, assert_numbered, content_of, line_of, process, writer, writes
from tests.waiting import async_eventually, eventually

MB = 1024 * 1024
ALL = LogRules(max_bytes=1 * MB, keep=10_000)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "AT_ONCE", 0.01)
    monkeypatch.setattr(rotation, "SOON", 0.02)
    monkeypatch.setattr(rotation, "LATE", 0.05)
    monkeypatch.setattr(rotation, "HOLD_ON", 0.2)
    monkeypatch.setattr(packing, "AT_FIRST", 0.0)
    monkeypatch.setattr(packing, "AGAIN", 0.1)


def log_in(folder: Path) -> Path:
    return folder / "logs" / "pool" / "0-20261125T010203.000001Z.log"


def hang_up(pid: int) -> None:
    os.kill(pid, signal.SIGHUP)


@contextmanager
def rotating(folder: Path, *writers: Writer, total: int = 2**40) -> Iterator[Rotation]:
    made = Rotation(folder / "logs", hang_up, total=total)
    task = asyncio.get_running_loop().create_task(made.run(lambda: writers))
    try:
        yield made
    finally:
        task.cancel()
    assert not task.done() or task.exception() is None


async def settled(path: Path) -> None:
    """Once everything that can be packed is."""
    await async_eventually(lambda: all(part.packed for part in older_parts(path)), timeout=60)


@pytest.mark.parametrize("ticks", range(5))
async def test_it_ends_when_told_to_also_in_the_moment_of_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: int
) -> None:
    monkeypatch.setattr(packing, "AT_FIRST", 60.0)
    made = packing.Packing(lambda path: None)
    task = asyncio.get_running_loop().create_task(made.run())
    made.add(tmp_path / "one")
    await asyncio.sleep(0.01)
    made.add(tmp_path / "another")
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled()


async def test_a_writer_at_full_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine may be too busy for it to hear of a rename at once: it has as many bytes for that as by default.
    monkeypatch.setattr(rotation, "HOLD_ON", 60.0)
    monkeypatch.setattr(rotation, "PATIENCE", rotation.PATIENCE * LogRules().max_bytes // ALL.max_bytes)
    path, count = log_in(tmp_path), 1_500_000
    began = time.monotonic()
    with process(path, REOPENS + writes(count, batch=100)) as child, rotating(tmp_path, writer(child, path, ALL)):
        await async_eventually(lambda: child.poll() is not None, timeout=60)
        took = time.monotonic() - began
        await settled(path)
        await asyncio.sleep(0.2)
    assert child.returncode in (0, -signal.SIGHUP)  # which Python does not hear any more on its last few instructions
    parts = older_parts(path)
    assert len(parts) >= 2
    assert_numbered(content_of(path), count=count)
    assert not list(path.parent.glob("*.tmp"))
    print(f"{count / took:,.0f} lines/s over {len(parts)} files")


async def test_only_so_many_are_kept(tmp_path: Path) -> None:
    path = log_in(tmp_path)
    rules = LogRules(max_bytes=100_000, keep=2)
    script = REOPENS + writes(50_000, batch=10, rest=0.0001) + WAITS
    with process(path, script) as child, rotating(tmp_path, writer(child, path, rules)):
        await async_eventually(lambda: line_of(49_999) in content_of(path), timeout=60)

        def bounded() -> bool:  # one that was removed while it was packed may be there again for a moment
            parts = older_parts(path)
            few = 1 <= len(parts) <= 2 and all(part.packed for part in parts)
            return few and path.exists() and path.stat().st_size <= 3 * rules.max_bytes

        await async_eventually(bounded, timeout=60)
        content = content_of(path)
    assert_numbered(content, first=None)
    assert content.endswith(line_of(49_999))


async def test_a_foreign_program_is_trimmed_where_it_writes(tmp_path: Path) -> None:
    path, count = log_in(tmp_path), 300_000
    rules = LogRules(max_bytes=1 * MB)
    with process(path, writes(count, batch=10) + WAITS) as child:
        with rotating(tmp_path, writer(child, path, rules, reopens=False)):
            await async_eventually(lambda: path.stat().st_size == count * len(line_of(0)), timeout=60)
            await async_eventually(lambda: path.stat().st_blocks * 512 <= rules.max_bytes + 2 * holes.BLOCK)
        assert child.poll() is None
    assert older_parts(path) == []
    assert_numbered(content_of(path), first=None)
    page = read_page(path, lines=1)
    assert page.lines[0] == line_of(count - 1).decode().rstrip()
    assert page.end == count * len(line_of(0)), "offsets stay true"


async def test_a_module_that_took_sighup_back_is_trimmed_not_killed(tmp_path: Path) -> None:
    path = log_in(tmp_path)
    taken_back = REOPENS + "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    with process(path, taken_back + writes(100_000, batch=10) + WAITS) as child:
        with rotating(tmp_path, writer(child, path, LogRules(max_bytes=100_000))):
            await async_eventually(lambda: path.stat().st_size == 100_000 * len(line_of(0)), timeout=60)
            await async_eventually(lambda: path.stat().st_blocks * 512 <= 100_000 + 2 * holes.BLOCK)
        assert child.poll() is None


async def test_a_child_that_holds_the_file_keeps_it_from_being_renamed(tmp_path: Path) -> None:
    path = log_in(tmp_path)
    holder = "\nimport subprocess, sys\nchild = subprocess.Popen(['sleep', '600'])\n"
    let_go = "\nchild.kill(), child.wait()\n"
    go = tmp_path / "go"
    waits = f"\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    script = REOPENS + holder + writes(100_000, batch=10) + waits + let_go + writes(1000) + WAITS
    rules = LogRules(max_bytes=200_000, keep=1000)
    with process(path, script) as child, rotating(tmp_path, writer(child, path, rules)):
        await async_eventually(lambda: path.stat().st_size >= 100_000 * len(line_of(0)), timeout=60)
        await async_eventually(lambda: path.stat().st_blocks * 512 <= 4 * rules.max_bytes + 2 * holes.BLOCK)
        assert older_parts(path) == []
        go.touch()
        await async_eventually(lambda: len(older_parts(path)) == 1)
        await async_eventually(path.exists)
        await async_eventually(lambda: content_of(path).endswith(line_of(999)))


async def test_a_module_with_a_sighup_of_its_own_is_bounded_in_the_renamed_file(tmp_path: Path) -> None:
    path = log_in(tmp_path)
    own = "import signal\nsignal.signal(signal.SIGHUP, lambda *_: None)\n"
    with process(path, own + writes(200_000, batch=10) + WAITS) as child:
        with rotating(tmp_path, writer(child, path, LogRules(max_bytes=100_000))):
            size = 200_000 * len(line_of(0))
            await async_eventually(lambda: bool(older_parts(path)))
            (older,) = older_parts(path)
            await async_eventually(lambda: older.path.stat().st_size == size, timeout=60)
            await async_eventually(lambda: older.path.stat().st_blocks * 512 <= 600_000)
            assert read_page(path, lines=1).end == size
        assert child.poll() is None


async def test_a_file_system_that_cannot_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cannot(*_: object) -> int:
        raise holes.CannotPunch(95, "Operation not supported")

    monkeypatch.setattr(rotation, "punch", cannot)
    path = log_in(tmp_path)
    rules = LogRules(max_bytes=10_000)
    with process(path, writes(20_000) + WAITS) as child, rotating(tmp_path, writer(child, path, rules, reopens=False)):
        await async_eventually(lambda: "cannot punch holes" in caplog.text)
        await asyncio.sleep(0.3)
        assert caplog.text.count("cannot punch holes") == 1
        await async_eventually(lambda: content_of(path).endswith(line_of(19_999)))
    assert_numbered(content_of(path), count=20_000)


# -- killed at each step --------------------------------------------------------------------------------------------

# Runs rotation on one log until it is killed just before the Nth thing that changes a file, a process or a signal.
DOOMED = """
import asyncio, os, signal, sys
from pathlib import Path
from reconciler.supervisor import packing, rotation
from state.processes import LogRules
logs, path, pid, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rotation.AT_ONCE = rotation.SOON = rotation.LATE = 0.02
packing.AT_FIRST = 0.0
steps = 0
def count(event, args):
    global steps
    if event in ("os.rename", "os.remove", "os.kill", "subprocess.Popen"):
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
writer = rotation.Writer(pid, path, LogRules(max_bytes=100_000, keep=3), True)
made = rotation.Rotation(logs, lambda pid: os.kill(pid, signal.SIGHUP))
sys.addaudithook(lambda event, args: count(event, args) if args[:1] != (os.getpid(),) else None)
asyncio.run(made.run(lambda: [writer]))
"""


@pytest.mark.parametrize("step", range(1, 9))
def test_killed_at_any_step_another_goes_on(tmp_path: Path, step: int) -> None:
    path, rules = log_in(tmp_path), LogRules(max_bytes=100_000, keep=10_000)
    with process(path, REOPENS + writes(batch=2, rest=0.0005)) as child:
        doomed = DOOMED.replace("keep=3", "keep=10_000")
        command = [sys.executable, "-c", doomed, str(tmp_path / "logs"), str(path), str(child.pid), str(step)]
        killed = subprocess.run(command, check=False, timeout=60, env={**os.environ, "PYTHONPATH": os.getcwd()})
        assert killed.returncode == -signal.SIGKILL

        async def go_on() -> None:
            with rotating(tmp_path, writer(child, path, rules)):
                await async_eventually(lambda: len(older_parts(path)) >= 3, timeout=60)
                await async_eventually(path.exists)
                child.kill()
                await settled(path)

        asyncio.run(go_on())
    assert_numbered(content_of(path))


PACKED_BY = """
import os, runpy, signal, sys
steps, last = 0, int(sys.argv[2])
def count(event, args):
    global steps
    if event in ("open", "os.rename", "os.remove", "os.utime") and not str(args[0]).startswith("/proc"):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
script, path = sys.argv[3], sys.argv[1]
sys.argv = [script, path]
code = compile(open(script).read(), script, "exec")
import fcntl, struct, zlib, contextlib
sys.addaudithook(count)
exec(code, {"__name__": "__main__"})
"""


def test_packing_may_be_killed_at_any_step(tmp_path: Path) -> None:
    content = b"".join(map(line_of, range(20_000)))
    ends = set()
    for step in range(1, 100):
        path = log_in(tmp_path / str(step))
        path.parent.mkdir(parents=True)
        older = path.with_name(f"{path.stem}.0-4294967296.log")
        older.write_bytes(content)
        path.write_bytes(line_of(20_000))
        command = [sys.executable, "-I", "-S", "-c", PACKED_BY, str(older), str(step), pack.__file__]
        ended = subprocess.run(command, check=False, timeout=30).returncode
        ends.add(tuple(sorted(p.suffix for p in path.parent.iterdir())))
        assert_numbered(content_of(path), count=20_001)
        asyncio.run(Rotation(tmp_path / str(step) / "logs", hang_up).tidy([]))
        assert_numbered(content_of(path), count=20_001)
        if ended == 0:
            break
    assert ended == 0
    assert (".gz", ".log", ".log") in ends, "killed between the rename and the removal"


# -- a full disk ------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_hurts_no_worker(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as is_small:
        path = log_in(tmp_path / "disk")
        if not is_small:  # not root: the size that a file may have stands for the disk
            limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({3 * MB}, {resource.RLIM_INFINITY}))\n"
        script = REOPENS + ("" if is_small else limit) + writes(batch=10, rest=0.0002)
        rules = LogRules(max_bytes=1 * MB, keep=1)
        with process(path, script) as child:
            ballast = path.parent / "ballast"
            if is_small:
                ballast.write_bytes(b"x" * 2 * MB)
            with rotating(tmp_path / "disk", writer(child, path, rules)):
                await asyncio.sleep(2.0)
                assert child.poll() is None
                ballast.unlink(missing_ok=True)
                reached = last_number(path)
                await async_eventually(lambda: last_number(path) > reached + 50_000, timeout=60)
            assert child.poll() is None


def last_number(path: Path) -> int:
    """Of those that are whole: on a full disk some are cut, and the next one stands behind what is left."""
    whole = [
        re.fullmatch(r"line (\d{12}) of this worker, as long as lines are", line) for line in read_page(path).lines
    ]
    return max((int(found[1]) for found in whole if found), default=0)


# -- what it costs ----------------------------------------------------------------------------------------------------


def test_two_hundred_quiet_workers_cost_nearly_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "SOON", 1.0)
    monkeypatch.setattr(rotation, "LATE", 4.0)
    made = [Writer(os.getpid(), str(tmp_path / f"{number}.log"), LogRules(), True) for number in range(200)]
    for one in made:
        Path(one.log_path).write_bytes(b"x")

    async def minute() -> float:
        it = Rotation(tmp_path, hang_up)
        it.look(made, 0.0)
        began = time.process_time()
        for second in range(1, 61):
            it.look(made, float(second))
        return time.process_time() - began

    spent = min(asyncio.run(minute()) for _ in range(3))
    print(f"{spent / 60:.5%} of a core")
    assert spent / 60 < 0.001


async def test_one_that_was_silent_is_looked_at_only_once_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rules = log_in(tmp_path), LogRules(max_bytes=1 * MB, keep=1000)
    go = tmp_path / "go"
    script = f"import time\nwhile not __import__('os').path.exists({str(go)!r}): time.sleep(0.01)\n"
    looks: list[float] = []
    look_at = Rotation._look_at

    def counted(self: Rotation, *arguments: Any) -> None:
        looks.append(time.monotonic())
        look_at(self, *arguments)

    monkeypatch.setattr(Rotation, "_look_at", counted)
    with process(path, script + REOPENS + writes(200_000, batch=10) + WAITS) as child:
        with rotating(tmp_path, writer(child, path, rules)):
            await asyncio.sleep(3.0)  # sixty times LATE
            assert len(looks) <= 12, "only until it was found silent"
            go.touch()
            await async_eventually(lambda: line_of(199_999) in content_of(path), timeout=60)
            # For a moment nothing has that name: after a rename its worker has yet to open it again.
            await async_eventually(lambda: path.exists() and path.stat().st_size <= rules.max_bytes, timeout=60)
        assert older_parts(path)
    assert_numbered(content_of(path), count=200_000)


async def test_a_silent_one_whose_file_is_renamed_is_asked_to_open_the_name_again(tmp_path: Path) -> None:
    """As a daemon leaves it that is killed after the rename and before the request."""
    path = log_in(tmp_path)
    with process(path, REOPENS + writes(10) + WAITS) as child, rotating(tmp_path, writer(child, path, ALL)) as made:
        await async_eventually(lambda: line_of(9) in content_of(path))
        await async_eventually(lambda: [seen for seen in made._seen.values() if seen.due > time.monotonic() + 60])
        path.rename(part_name(path, 0, path.stat().st_size))
        await async_eventually(path.exists)
    assert_numbered(content_of(path), count=10)


async def test_a_log_that_somebody_removed_is_opened_again(tmp_path: Path) -> None:
    path = log_in(tmp_path)
    with process(path, REOPENS + writes(0, 10, 0.01)) as child, rotating(tmp_path, writer(child, path, ALL)):
        await async_eventually(lambda: line_of(9) in path.read_bytes())
        path.unlink()
        await async_eventually(path.exists)


def test_a_worker_that_ended_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    path = log_in(tmp_path)
    with process(path, "pass") as child:
        child.wait()
    path.write_bytes(b"x" * 1000)

    async def look() -> None:
        it = Rotation(tmp_path / "logs", lambda pid: None)
        one = Writer(child.pid, str(path), LogRules(max_bytes=10), True)
        it.look([one], 0.0)
        path.unlink()
        it.look([one], 10.0)

    asyncio.run(look())
    eventually(lambda: not path.exists())


PACE = {name: getattr(rotation, name) for name in ("AT_ONCE", "SOON", "LATE")}


@pytest.mark.parametrize(
    ("rate", "left", "seconds"),
    [
        (0, 100, 3.0),
        (1, 65, 3.0),
        (1, 20, 1.0),
        (100, 80, 0.4),
        (1e9, 1, 0.1),
        (5, -1, 0.1),
    ],
)
def test_a_file_is_looked_at_before_it_can_have_reached_its_bound(
    monkeypatch: pytest.MonkeyPatch, rate: float, left: float, seconds: float
) -> None:
    for name, value in PACE.items():
        monkeypatch.setattr(rotation, name, value)
    assert rotation._until_next(rate, left) == pytest.approx(seconds)
