"""Records on disk: there from the first spawn, kept for a while after the end, bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.supervisor import records as module
from reconciler.supervisor.records import Record, Records
from state.processes import Pool, WorkerState
from tests.supervisor.support import POOL, TELL, fields, is_gone, spec, supervised
from tests.waiting import async_eventually


def read_all(folder: Path) -> list[dict[str, object]]:
    return [fields(path) for path in (folder / "processes").glob("*.json")]


async def test_on_disk_from_the_start(tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = TELL + f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\ntell('READY=1')\nwait()\n"
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(waits, env={"SECRET": "s"}), 0)
        await async_eventually(lambda: it.kinds() == ["started"])
        (record,) = read_all(tmp_path)
        assert (record["pid"], record["slot"], record["ready_since"]) == (it.worker().pid, 0, None)
        assert "SECRET" in json.dumps(record)
        go.touch()
        await async_eventually(lambda: it.state() is WorkerState.READY)
        assert read_all(tmp_path)[0]["ready_since"]
        it.supervisor.stop_worker(POOL, 0)
        assert read_all(tmp_path)[0]["stopping"]
        await async_eventually(lambda: it.supervisor.observe() == ())
        (record,) = read_all(tmp_path)
        assert (record["exit_code"], record["reason"]) == (0, "stopped")
        assert record["ended_at"]
        assert "SECRET" not in json.dumps(record)
    (path,) = (tmp_path / "processes").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_ended_are_known_to_the_next_daemon(tmp_path: Path) -> None:
    async with supervised(tmp_path) as it:
        it.supervisor.start_worker(spec(), 0)
        await async_eventually(lambda: it.state() is WorkerState.READY)
        worker = it.worker()
    assert is_gone(worker.pid or 0)
    async with supervised(tmp_path) as it:
        found = it.supervisor.find(worker.pid or 0)
        assert found
        assert (found.state, found.log_path) == (WorkerState.EXITED, worker.log_path)
        assert it.supervisor.history() == (found,)


def ended(folder: Path, number: int, pool: Pool = POOL, pid: int | None = None) -> Record:
    log = folder / "logs" / f"{number}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("x")
    pid = number if pid is None else pid
    return Record(pid, number, "boot", spec(pool=pool), 0, str(log), float(number), ended_at=float(number))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    (tmp_path / "processes").mkdir()
    return Records(tmp_path / "processes", tmp_path / "logs")


def test_bounded_for_each_pool_and_in_all(tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_PER_POOL", 3)
    monkeypatch.setattr(module, "KEPT_IN_ALL", 7)
    for number in range(5):
        records.end(ended(tmp_path, number))
    assert [record.pid for record in records.ended()] == [4, 3, 2]
    for number in range(5, 15):
        records.end(ended(tmp_path, number, Pool(f"q{number}", "w")))
    assert [record.pid for record in records.ended()] == list(range(14, 7, -1))
    assert len(read_all(tmp_path)) == len(list((tmp_path / "logs").iterdir())) == 7


def test_a_number_used_twice_means_the_newest(tmp_path: Path, records: Records) -> None:
    records.end(ended(tmp_path, 1, pid=77))
    records.end(ended(tmp_path, 2, pid=77))
    again = Records(tmp_path / "processes", tmp_path / "logs")
    assert again.load() == []
    assert [record.start_time for record in again.ended()] == [2, 1]


def test_a_file_outside_is_never_removed(tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_PER_POOL", 1)
    precious = tmp_path / "precious"
    precious.write_text("x")
    record = ended(tmp_path, 1)
    record.log_path = str(precious)
    records.end(record)
    records.end(ended(tmp_path, 2))
    assert [record.pid for record in records.ended()] == [2]
    assert precious.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', '{"spec": {"pool": 3}}'])
def test_a_damaged_record_is_dropped(tmp_path: Path, records: Records, text: str) -> None:
    (tmp_path / "processes" / "1-1.json").write_text(text)
    assert records.load() == []
    assert read_all(tmp_path) == []


def test_a_full_disk_is_survived(tmp_path: Path, records: Records) -> None:
    record = ended(tmp_path, 1)
    (tmp_path / "processes" / f"{record.pid}-{record.start_time}.json").mkdir()
    records.save(record)
    assert list((tmp_path / "processes").glob("*.tmp")) == []


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_a_line_that_is_not_whole_counts_for_nothing(tmp_path: Path, records: Records, keep: int) -> None:
    record = ended(tmp_path, 1)
    record.ended_at = None
    records.save(record)
    (path,) = (tmp_path / "processes").iterdir()
    whole = path.read_bytes()
    record.stopping = True
    records.save(record)
    path.write_bytes(path.read_bytes()[: len(whole) + keep])
    (loaded,) = Records(tmp_path / "processes", tmp_path / "logs").load()
    assert not loaded.stopping
    again = Records(tmp_path / "processes", tmp_path / "logs")
    again.load()
    again.save(record)
    assert Records(tmp_path / "processes", tmp_path / "logs").load() == [record]


def test_a_record_that_changes_all_the_time_stays_small(tmp_path: Path, records: Records) -> None:
    record = ended(tmp_path, 1)
    record.ended_at = None
    records.save(record)
    for number in range(2000):
        record.ready_since = float(number)
        records.save(record)
    (path,) = (tmp_path / "processes").iterdir()
    assert path.stat().st_size < 200_000
    assert Records(tmp_path / "processes", tmp_path / "logs").load() == [record]
