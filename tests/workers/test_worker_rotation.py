"""SIGHUP: the log goes on in the file that has its name now, and no line is lost or torn on the way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.workers.worker_bench import VERBS, Bench, until

LONG = 9000  # characters: more than Python writes at once
# As fast as it can until the file {enough} is there; if nobody rotates for a while, it waits for that.
TORRENT = """
n = 0
while n <= 100 or not os.path.exists({enough!r}):
    {write}
    while os.fstat(1).st_size > 5_000_000 and not os.path.exists({enough!r}):
        time.sleep(0.001)
print('end', n)
"""


def rotate(path: Path, to: str) -> Path:
    return path.rename(path.with_name(to))


def outputs(pid: int) -> set[str]:
    return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)}


def test_a_rename_is_followed_while_a_handler_runs(bench: Bench) -> None:
    bench.queue()
    path = bench.root / "0.log"
    worker = bench.start("work", VERBS, LOG_FILE=str(path)).ready()
    bench.publish("print('before'); time.sleep(60)")
    worker.says("(?m)^before")
    old = rotate(path, "0.log.1")
    worker.popen.send_signal(signal.SIGHUP)
    until(path.exists)
    until(lambda: outputs(worker.pid) == {str(path)})
    assert path.stat().st_mode & 0o777 == 0o600
    assert "before" in old.read_text()
    assert len(os.listdir(f"/proc/{worker.pid}/fd")) < 20
    worker.popen.send_signal(signal.SIGTERM)
    worker.says("told to stop")
    assert "told to stop" not in old.read_text()


def test_lines_at_full_speed_are_all_there(bench: Bench) -> None:
    bench.queue()
    path = bench.root / "0.log"
    worker = bench.start("work", VERBS, LOG_FILE=str(path)).ready()
    chunk = "sys.stdout.write(''.join(f'line {i} x\\n' for i in range(n, n + 1000))); n += 1000"
    bench.publish(
        TORRENT.format(enough="enough1", write=chunk),
        TORRENT.format(enough="enough2", write="print('line', n, 'x'); n += 1"),
        TORRENT.format(enough="enough3", write=f"print('line', n, 'x' * {LONG}); n += 1"),
    )
    files: list[Path] = []

    def rotated() -> bool:
        assert worker.popen.poll() is None
        if path.exists() and path.stat().st_size > 100_000:
            files.append(rotate(path, f"0.log.{len(files) + 1}"))
            worker.popen.send_signal(signal.SIGHUP)
        return len(files) >= most

    for number in (1, 2, 3):
        most = len(files) + 10
        until(rotated)
        (bench.root / f"enough{number}").touch()
        worker.told(X_PROCESSED=str(number))
    until(path.exists)
    assert worker.stop() == 0
    assert len(files) > 10
    texts = [file.read_text() for file in [*files, path]]
    assert all(text.endswith("\n") for text in texts if text)
    check("".join(texts).splitlines())


def check(lines: list[str]) -> None:
    numbers = ends = 0
    for line in lines:
        match line.split(" "):
            case ["line", number, tail]:
                assert int(number) == numbers
                assert tail in ("x", "x" * LONG)
                numbers += 1
            case ["end", count]:
                assert int(count) == numbers > 100
                numbers, ends = 0, ends + 1
            case _:
                assert "xx" not in line
    assert ends == 3


def test_without_a_file_to_open_it_stays_the_same(bench: Bench) -> None:
    bench.queue()
    for env, words in (
        ({}, "LOG_FILE is not set"),
        ({"LOG_FILE": "/nowhere/x"}, "cannot open /nowhere/x: No such file"),
    ):
        worker = bench.start("work", VERBS, **env).ready()
        for _ in range(5):
            worker.popen.send_signal(signal.SIGHUP)
            time.sleep(0.02)
        worker.says(words)
        assert worker.stop() == 0
        assert worker.log.count(words) == 1
        assert "worker work stops" in worker.log


def test_a_rename_during_a_slow_import(bench: Bench) -> None:
    bench.queue()
    path = bench.root / "0.log"
    slow = (
        "import time\nfrom pathlib import Path\nprint('importing')\nwhile not Path('go').exists(): time.sleep(0.01)\n"
    )
    source = slow + bench.write("verbs.py", VERBS).read_text()
    worker = bench.start("work", source, LOG_FILE=str(path))
    worker.says("importing")
    old = rotate(path, "0.log.1")
    worker.popen.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    (bench.root / "go").touch()
    worker.ready()
    assert outputs(worker.pid) == {str(path)}
    assert "importing" in old.read_text()
    assert worker.stop() == 0


def test_a_child_of_the_handler_dies_of_sighup_as_any_process(bench: Bench) -> None:
    fork = "import multiprocessing as m; p = m.get_context('fork').Process(target=time.sleep, args=[60]); p.start(); "
    run = "import subprocess as s; c = s.Popen(['sleep', '60']); c.send_signal(1); print('program', c.wait())"
    bench.queue()
    bench.publish(fork + "os.kill(p.pid, signal.SIGHUP); p.join(); print('child', p.exitcode)", run)
    worker = bench.start("work", VERBS)
    worker.says("(?m)^child -1")
    worker.says("(?m)^program -1")
    assert worker.stop() == 0
    assert "reopen" not in worker.log


@pytest.mark.parametrize("attempt", range(3))
def test_a_rename_at_the_very_end_does_not_end_it(bench: Bench, attempt: int) -> None:
    """SIGHUP all the way through Python's last instructions: the exit status stays what it was."""
    bench.queue()
    worker = bench.start("work", VERBS, LOG_FILE=str(bench.root / "0.log")).ready()
    worker.popen.send_signal(signal.SIGTERM)
    while worker.popen.poll() is None:
        worker.popen.send_signal(signal.SIGHUP)
    assert worker.popen.returncode == 0
