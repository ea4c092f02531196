"""Lines of many logs merged by time: nothing of the selection is missing, whatever the logs look like."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.journal import Origin, Selection, read_page
from reconciler.journal import search as search_all
from reconciler.journal.levels import LEVELS, level_of
from reconciler.journal.merge import position_at
from reconciler.journal.parts import delete_log
from reconciler.journal.reader import OpenLog, open_log
from reconciler.journal.stamps import parse_time, time_of
from tests.journal.logs import make_log

BASE = 1_764_000_000
anywhere = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)


def stamp(second: float) -> str:
    return datetime.fromtimestamp(BASE + second, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def text_line(second: float, text: str, level: str = "INFO") -> str:
    return f"{stamp(second)} {level: <7} [q/w 1] {text}"


def json_line(second: float, text: str, level: str = "INFO") -> str:
    return json.dumps({"time": stamp(second), "level": level, "queue": "q", "worker": "w", "pid": 1, "message": text})


def origin(folder: Path, number: int, lines: list[str], ended_at: float | None = None, files: int = 1) -> Origin:
    path = folder / f"{number}-x.log"
    delete_log(path)
    raw = [f"{line}\n".encode() for line in lines]
    cuts = [len(raw) * n // files for n in range(files + 1)]
    make_log(path, [b"".join(raw[a:b]) for a, b in pairwise(cuts)], [True] * files)
    return Origin(100 + number, number, "w", "q", path, float(BASE), ended_at)


LOGS = st.lists(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["INFO", "ERROR"]), st.booleans()), max_size=30), max_size=5
)


@given(LOGS, st.integers(1, 60), st.integers(1, 3), st.integers(1, 20), st.integers(0, 100))
@anywhere
def test_the_newest_of_all(
    tmp_path: Path, made: list[list[tuple[int, str, bool]]], lines: int, files: int, page: int, since: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reconciler.journal.merge.PAGE", page)
        patch.setattr("reconciler.journal.merge.FIRST_PAGE", page)
        patch.setattr("reconciler.journal.merge.PROBE", 64)
        origins, everything = [], []
        for number, log in enumerate(made):
            texts = []
            for at, (second, level, is_json) in enumerate(sorted(log)):
                text = f"{number}.{at}"
                texts.append((json_line if is_json else text_line)(second, text, level))
                everything.append((second, level, texts[-1]))
                if not is_json and level == "ERROR":
                    texts.append(f"  trace of {text}")
                    everything.append((second, level, texts[-1]))
            origins.append(origin(tmp_path, number, texts, files=files))
        for wanted, keeps in (
            (Selection(), lambda second, level, text: True),
            (Selection(level="ERROR"), lambda second, level, text: level == "ERROR"),
            (Selection(q="TRACE"), lambda second, level, text: "trace" in text),
            (Selection(since=BASE + since), lambda second, level, text: second >= since),
            (Selection(until=BASE + since), lambda second, level, text: second <= since),
        ):
            found, partial = search_all(origins, wanted, lines, seconds=60)
            matching = [one for one in everything if keeps(*one)]
            assert not partial
            assert len(found) == min(lines, len(matching))
            times = sorted(second for second, _, _ in matching)[-lines:]
            assert [round(line.time - BASE) for line in found] == times
            assert {line.text for line in found} <= {text for _, _, text in matching}
            for line in found[:2]:
                assert read_page(line.origin.path, 1, before=line.offset).lines == [line.text]


def test_lines_of_one_log_keep_their_order(tmp_path: Path) -> None:
    lines = [text_line(1, "a"), "  more of a", "  and more", text_line(1, "b"), text_line(2, "c")]
    found, _ = search_all([origin(tmp_path, 0, lines)], Selection(), seconds=60)
    assert [line.text for line in found] == lines
    assert [line.time - BASE for line in found] == [1, 1, 1, 1, 2]


def test_far_back_in_a_long_log_it_does_not_read_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent, pread = 0, OpenLog.pread

    def counted(self: OpenLog, size: int, position: int) -> bytes:
        nonlocal spent
        data = pread(self, size, position)
        spent += len(data)
        return data

    one = origin(tmp_path, 0, [text_line(number, f"{number} " + "x" * 200) for number in range(200_000)], files=4)
    with open_log(one.path) as log:
        at = position_at(log, BASE + 1000.0)
        assert abs(at - log.size * 1000 / 200_000) < 200_000
        size = log.size
    monkeypatch.setattr(OpenLog, "pread", counted)
    found, partial = search_all([one], Selection(since=BASE + 990.5, until=BASE + 1000.5), 1000, seconds=60)
    print(f"{spent:,} of {size:,} bytes")
    assert 0 < spent < size / 10
    assert [line.text.split()[4] for line in found] == [str(number) for number in range(991, 1001)]
    assert not partial


def test_ended_workers_are_read_only_as_far_as_they_count(tmp_path: Path) -> None:
    newest = origin(tmp_path, 0, [text_line(5000 + n, "new") for n in range(200)], BASE + 5200)
    gone = Origin(1, 0, "w", "q", tmp_path / "gone.log", float(BASE), BASE + 100.0)
    found, partial = search_all([newest, gone], Selection(), 500, seconds=60)
    assert (len(found), partial) == (200, False)


def test_it_stops_in_time_and_says_so(tmp_path: Path) -> None:
    origins = [origin(tmp_path, n, [text_line(s, "hay") for s in range(3000)]) for n in range(30)]
    began = time.thread_time()
    found, partial = search_all(origins, Selection(q="needle", level="INFO"), 100, seconds=0.05)
    assert time.thread_time() - began < 2
    assert (found, partial) == ([], True)


@pytest.mark.parametrize(
    ("line", "second"),
    [
        (text_line(1.5, "x"), 1.5),
        (json_line(1.5, "x"), 1.5),
        (stamp(1.5).replace("T", " ").replace("Z", "+00:00") + " x", 1.5),
        (f"[{stamp(1.5)}] x", 1.5),
        (json.dumps({"level": "info", "ts": BASE + 1.5}), 1.5),
        (json.dumps({"level": "info", "time": int((BASE + 1.5) * 1000)}), 1.5),
        ('{"time": "yesterday"}', None),
        ('{"x": 1}', None),
        ("2026-13-45T99:99:99Z x", None),
        ("9999-12-31T23:59:59-05:00 never", None),
        ("0001-01-01T00:00:00+01:00 Go's zero time", None),
        ("  File x", None),
        ("", None),
    ],
)
def test_when_a_line_was_written(line: str, second: float | None) -> None:
    found = time_of(line)
    assert (found is None) if second is None else (found == pytest.approx(BASE + second))


def test_a_json_line_of_ours_names_its_level() -> None:
    assert level_of(json_line(1, "all is INFO", "ERROR")) == LEVELS["ERROR"]
    assert level_of(json_line(1, "level=ERROR", "DEBUG")) == LEVELS["DEBUG"]


@pytest.mark.parametrize(
    ("text", "time_"),
    [("90s", 910.0), ("15m", 100.0), ("5", 5.0), ("1970-01-01T00:00:07Z", 7.0), ("1970-01-01T01:00:07 01:00", 7.0)],
)
def test_times_as_people_ask_for_them(text: str, time_: float) -> None:
    assert parse_time(text, 1000.0) == time_


@pytest.mark.parametrize("text", ["soon", "-5", "NaN", "1e400", "2026-99-99", "9999999999999"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text, 1000.0)


def test_two_hundred_logs_are_merged_quickly(tmp_path: Path) -> None:
    chance = random.Random(1)
    origins = []
    for number in range(200):
        seconds = sorted(chance.uniform(0, 3600) for _ in range(300))
        origins.append(origin(tmp_path, number, [text_line(s, "x" * 60) for s in seconds]))
    began = time.monotonic()
    found, partial = search_all(origins, Selection(), 1000, seconds=60)
    print(f"{time.monotonic() - began:.3f} s")
    assert (len(found), partial) == (1000, False)
    assert [line.time for line in found] == sorted(line.time for line in found)
