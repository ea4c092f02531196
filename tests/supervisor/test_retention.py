"""What is kept of the logs of many workers: the newest, within the bounds, and always what is being written."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.journal.parts import STEP
from reconciler.supervisor.records import Record, Records
from reconciler.supervisor.retention import tidy
from state.processes import LogRules, WorkerState
from tests.supervisor.support import POOL, spec, supervised
from tests.waiting import async_eventually

KB = 1024
DAY = 86400.0
NO_BOUND = 2**40


def put(path: Path, age: float, size: int = 64 * KB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def older(log: Path, number: int, age: float, packed: bool = True) -> Path:
    name = f"{log.stem}.{number * STEP}-{(number + 1) * STEP}.log" + (".gz" if packed else "")
    return put(log.with_name(name), age)


def left(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_of_many_workers_the_oldest_ended_go_first(tmp_path: Path) -> None:
    ended = [put(tmp_path / f"pool{n % 20}" / f"{n}-ended.log", age=1000 - n) for n in range(200)]
    living = {put(tmp_path / f"pool{n % 20}" / f"{n}-living.log", age=5000): LogRules() for n in range(200)}
    archives = [older(log, 0, age=3000 - n) for n, log in enumerate(living)]
    tidy(tmp_path, living, total=300 * 64 * KB)
    assert left(tmp_path) == {*ended[100:], *archives, *living}
    tidy(tmp_path, living, total=150 * 64 * KB)
    assert left(tmp_path) == {*archives[50:], *living}
    tidy(tmp_path, living, total=0)
    assert left(tmp_path) == set(living), "what a living worker writes is never removed"


def test_all_of_one_ended_worker_before_the_next(tmp_path: Path) -> None:
    first, second = put(tmp_path / "p" / "a.log", age=500), put(tmp_path / "p" / "b.log", age=400)
    archives = [older(first, 0, age=520), older(second, 0, age=900)]
    tidy(tmp_path, {}, total=2 * 64 * KB)
    assert left(tmp_path) == {second, archives[1]}


def test_so_many_older_files_of_each(tmp_path: Path) -> None:
    log, gone = put(tmp_path / "p" / "a.log", age=0), put(tmp_path / "p" / "b.log", age=100)
    files = [[older(one, n, age=1000 - n) for n in range(8)] for one in (log, gone)]
    tidy(tmp_path, {log: LogRules(keep=3)}, NO_BOUND)
    assert left(tmp_path) == {log, gone, *files[0][5:], *files[1][3:]}


def test_the_renamed_file_that_its_worker_has_not_let_go_of_stays(tmp_path: Path) -> None:
    log = tmp_path / "p" / "a.log"
    files = [older(log, n, age=90 * DAY, packed=False) for n in range(3)]
    tidy(tmp_path, {log: LogRules(keep=1, max_age=DAY)}, total=0)
    assert left(tmp_path) == {files[-1]}


def test_too_old(tmp_path: Path) -> None:
    silent = put(tmp_path / "p" / "a.log", age=100 * DAY)
    archives = [older(silent, 0, age=40 * DAY), older(silent, 1, age=20 * DAY)]
    orphan, recent = put(tmp_path / "p" / "b.log", age=31 * DAY), put(tmp_path / "p" / "c.log", age=29 * DAY)
    tidy(tmp_path, {silent: LogRules()}, NO_BOUND)
    assert left(tmp_path) == {silent, archives[1], recent}
    assert not orphan.exists()


def test_what_a_killed_packing_left_is_cleared(tmp_path: Path) -> None:
    log = put(tmp_path / "p" / "a.log", age=0)
    waiting, both = older(log, 0, 500, packed=False), older(log, 1, 400, packed=False)
    whole = older(log, 1, 400)
    half, stale = put(Path(f"{waiting}.gz.tmp"), 500), put(log.with_name("a.9-99.log.gz.tmp"), 500)
    foreign = put(tmp_path / "p" / "notes.txt", 100 * DAY)
    assert tidy(tmp_path, {log: LogRules()}, NO_BOUND) == [waiting]
    assert left(tmp_path) == {log, waiting, whole, half, foreign}
    assert not both.exists()
    assert not stale.exists()


def test_a_new_worker_that_nobody_has_told_of_yet_keeps_its_log(tmp_path: Path) -> None:
    fresh = put(tmp_path / "p" / "a.log", age=1)
    tidy(tmp_path, {}, total=0)
    assert fresh.exists()


def test_no_folder(tmp_path: Path) -> None:
    assert tidy(tmp_path / "none", {}, 0) == []


def test_ended_workers_expire_with_all_of_their_log(tmp_path: Path) -> None:
    (tmp_path / "processes").mkdir()
    records = Records(tmp_path / "processes", tmp_path / "logs")
    for pid, ended_at in ((1, 1000.0), (2, 2000.0)):
        log = put(tmp_path / "logs" / "p" / f"{pid}.log", 0)
        older(log, 0, 0)
        records.end(Record(pid, pid, "boot", spec(), 0, str(log), 1.0, ended_at=ended_at))
    records.expire(1500.0 + LogRules().max_age)
    assert [record.pid for record in records.ended()] == [2]
    assert {path.name.split(".")[0] for path in left(tmp_path / "logs")} == {"2"}
    assert len(left(tmp_path / "processes")) == 1


@pytest.mark.parametrize("count", [200])
def test_a_look_at_the_whole_folder_is_quick(tmp_path: Path, count: int) -> None:
    living = {put(tmp_path / f"p{n % 10}" / f"{n}.log", 0, 1): LogRules() for n in range(count)}
    for log in living:
        for number in range(5):
            older(log, number, 100)
    began = time.process_time()
    tidy(tmp_path, living)
    spent = time.process_time() - began
    print(f"{spent:.4f} s for {6 * count} files")
    assert spent < 0.5


async def test_the_log_of_one_that_has_ended_is_kept_as_its_file_said(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(replace(spec(), log=LogRules(keep=9, max_age=90 * DAY)), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        log = Path(it.worker().log_path or "")
        files = [older(log, number, age=40 * DAY) for number in range(8)]
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.history())
        await it.supervisor._rotation.tidy(it.supervisor._writers())
        assert all(file.exists() for file in files)
