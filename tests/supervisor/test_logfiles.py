"""The lines that we add to a worker's log ourselves: when it starts, and how it has ended."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from reconciler.journal.levels import LEVELS, level_of
from reconciler.journal.stamps import time_of
from reconciler.supervisor.logfiles import append_line, exit_line, last_lines, open_log, start_line
from reconciler.supervisor.oom import oom_kills
from reconciler.supervisor.reason import ending, explain, is_abnormal
from state.processes import Pool
from tests.journal.logs import pack_here, rotate

POOL = Pool("orders eu", "handle_order")
NOW = 1764032523.456


def test_both_lines_read_like_the_runtimes_own() -> None:
    started = start_line(POOL, 3, 4711, "0123456789abcdef", "new code", NOW)
    assert started == (
        "2025-11-25T01:02:03.456Z INFO    [orders_eu/handle_order 4711] started: slot 3, spec 0123456789ab, new code"
    )
    ended = exit_line(POOL, 3, 4711, "exit code 1", NOW, abnormal=True)
    assert ended == "2025-11-25T01:02:03.456Z WARNING [orders_eu/handle_order 4711] ended: slot 3, exit code 1"
    assert (level_of(started), level_of(ended)) == (LEVELS["INFO"], LEVELS["WARNING"])
    assert time_of(started) == time_of(ended) == NOW


KILL, TERM = -signal.SIGKILL, -signal.SIGTERM


@pytest.mark.parametrize(
    ("code", "told", "killed", "out_of_memory", "words", "abnormal"),
    [
        (0, False, False, False, "exit code 0", False),
        (0, True, False, False, "exit code 0 after it was told to stop", False),
        (3, False, False, False, "exit code 3", True),
        (TERM, True, False, False, "killed by SIGTERM after it was told to stop", False),
        (TERM, False, False, False, "killed by SIGTERM", True),
        (KILL, True, True, False, "killed by SIGKILL by us: grace was over after it was told to stop", True),
        (KILL, False, False, True, "killed by SIGKILL: out of memory", True),
        (KILL, False, False, False, "killed by SIGKILL", True),
        (1, False, False, True, "exit code 1", True),
        (None, False, False, False, "exit status unknown", True),
    ],
)
def test_how_it_ended(
    code: int | None, told: bool, killed: bool, out_of_memory: bool, words: str, abnormal: bool
) -> None:
    assert ending(code, told_to_stop=told, killed=killed, out_of_memory=out_of_memory) == words
    assert is_abnormal(code, told_to_stop=told) is abnormal


def test_the_reason_is_what_the_process_said_not_what_we_did() -> None:
    started = start_line(POOL, 3, 4711, "0123", "first start", NOW)
    assert explain(1, [started]) == "exit code 1"
    assert explain(1, [started, "it broke"]) == "exit code 1: it broke"
    said = "2025-11-25T01:02:03.456Z ERROR   [orders/handle_order 4711 message-9] cannot reach it"
    assert explain(1, [said]) == "exit code 1: cannot reach it"


def test_a_line_of_ours_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "p" / "0.log"
    open_log(path)
    append_line(path, "started")
    with path.open("ab") as file:
        file.write(b"cut sh")
    append_line(path, "ended")
    assert path.read_bytes() == b"started\ncut sh\nended\n"


def test_it_is_added_where_the_process_wrote_last(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"one\n")
    renamed = rotate(path)
    append_line(path, "ended")
    assert renamed.read_bytes() == b"one\nended\n"
    assert not path.exists()
    assert last_lines(path) == ["one", "ended"]
    path.write_bytes(b"two\n")
    assert last_lines(path) == ["one", "ended", "two"]
    pack_here(renamed)
    assert last_lines(path) == ["two"]
    path.unlink()
    append_line(path, "a log that is gone stays gone")
    assert not path.exists()


def test_kills_for_want_of_memory(tmp_path: Path) -> None:
    assert oom_kills() >= 0
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert oom_kills(tmp_path) == 2
    assert oom_kills(tmp_path / "none") == 0
