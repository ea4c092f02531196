"""How the file comes into force: only whole, only valid, only once its workers import, and never by accident."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import intake
from reconciler.intake import Intake
from reconciler.saves import Save, Sight
from state.desired import NOTHING, Desired
from state.edit import set_value
from state.file import DesiredFile, Snapshot
from state.processes import Pool
from state.reader import revision_of

SETTLED = 3600.0  # seconds; the tests save a file so long ago, or a moment, and a busy machine makes no difference
TEXT = "version: 1\nqueues:\n  a: {}\n"
WITH_WORKER = "version: 1\nqueues:\n  a: {workers: {w: 1}}\n"


class FakeModules:
    """Verdicts on worker modules: None while they are out."""

    def __init__(self) -> None:
        self.verdict: dict[Pool, str] | None = {}

    def faults(self, desired: Desired) -> dict[Pool, str] | None:
        return self.verdict

    def code(self, desired: Desired) -> dict[str, str]:
        return {}


class Site:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "queues.yaml"
        self.last_good = folder / "last-good.yaml"
        self.modules = FakeModules()
        self.file = DesiredFile(self.path)
        self.sight = Sight()
        self.looks: Callable[[], Sight] = lambda: self.sight
        self.intake = self.restarted()
        self.save(TEXT)

    def restarted(self) -> Intake:
        return Intake(DesiredFile(self.path), self.modules, self.last_good, look=lambda: self.looks())  # type: ignore[arg-type]

    def save(self, text: str, seconds_ago: float = 2 * SETTLED) -> None:
        self.path.write_text(text)
        saved = time.time() - seconds_ago
        os.utime(self.path, (saved, saved))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(intake, "SETTLE_SECONDS", SETTLED)
    return Site(tmp_path)


async def test_a_good_file_is_in_force(site: Site) -> None:
    reading = await site.intake.read()
    assert reading.current
    assert list(reading.in_force.desired.queues) == ["a"]
    assert reading.in_force.revision == revision_of(TEXT.encode())


@pytest.mark.parametrize(
    "text", ["", "version: 1\n", "{", "version: 1\nqueues:\n", "version: 1\nqueues: {a: {x: 1}}\n"]
)
async def test_a_faulty_one_leaves_in_force_what_was(site: Site, text: str) -> None:
    before = (await site.intake.read()).in_force
    site.save(text)
    reading = await site.intake.read()
    assert reading.in_force == before
    assert reading.faults
    assert str(reading.faults[0]).startswith("queues.yaml:")


async def test_so_does_a_missing_one(site: Site) -> None:
    before = (await site.intake.read()).in_force
    site.path.unlink()
    reading = await site.intake.read()
    assert reading.in_force == before
    assert "missing" in str(reading.faults[0])


async def test_a_daemon_that_starts_beside_a_faulty_file_goes_on_with_the_last_good_one(site: Site) -> None:
    before = (await site.intake.read()).in_force
    await site.intake.remembered()
    site.save("{")
    assert (await site.restarted().read()).in_force == before


async def test_with_a_faulty_memory_too_nothing_is_in_force(site: Site) -> None:
    await site.intake.read()
    await site.intake.remembered()
    site.save("{")
    site.last_good.write_text("{")
    assert (await site.restarted().read()).in_force.desired == NOTHING


async def test_a_file_saved_this_moment_is_believed_a_moment_later(site: Site) -> None:
    await site.intake.read()
    site.save("version: 1\nqueues: {}\n", seconds_ago=1)
    reading = await site.intake.read()
    assert reading.waiting
    assert 0 < reading.settles_in <= SETTLED
    assert list(reading.in_force.desired.queues) == ["a"]
    site.save("version: 1\nqueues: {}\n", seconds_ago=SETTLED)
    assert (await site.intake.read()).in_force.desired.queues == {}


async def test_a_machine_that_stalls_makes_the_half_of_a_file_no_older(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.intake.read()
    site.sight = Sight(Save.OPEN)
    site.save("version: 1\nqueues: {}\n", seconds_ago=1)
    late = time.time() + 2 * SETTLED
    with monkeypatch.context() as patched:
        look = site.intake._file.snapshot

        def stalled() -> Snapshot:
            found = look()
            patched.setattr(time, "time", lambda: late)
            return found

        patched.setattr(site.intake._file, "snapshot", stalled)
        reading = await site.intake.read()
    assert reading.waiting
    assert list(reading.in_force.desired.queues) == ["a"]


MORE = TEXT + "  b: {}\n"


@pytest.mark.parametrize("sight", [Sight().renamed(), Sight().modified().closed()], ids=["renamed", "closed"])
async def test_a_file_that_is_known_to_be_whole_is_believed_at_once(site: Site, sight: Sight) -> None:
    await site.intake.read()
    site.sight = sight
    site.save(MORE, seconds_ago=1)
    assert list((await site.intake.read()).in_force.desired.queues) == ["a", "b"]


async def test_one_that_a_writer_has_not_closed_is_not(site: Site) -> None:
    await site.intake.read()
    site.sight = Sight().modified()
    site.save(MORE, seconds_ago=1)
    reading = await site.intake.read()
    assert reading.waiting
    assert 0 < reading.settles_in <= SETTLED


@pytest.mark.parametrize("text", ["", "version: 1\nqueues: {}\n", "version: 1\nqueues: {b: {}, c: {}, d: {}}\n"])
async def test_one_that_is_closed_and_takes_something_out_may_be_half_and_is_believed_later(
    site: Site, text: str
) -> None:
    before = (await site.intake.read()).in_force
    site.sight = Sight().modified().closed()
    site.save(text, seconds_ago=1)
    reading = await site.intake.read()
    assert (reading.in_force, reading.faults) == (before, ())
    assert reading.settles_in > 0
    site.save(text, seconds_ago=SETTLED)
    assert not (await site.intake.read()).waiting


async def test_one_that_takes_something_out_and_was_renamed_into_its_place_is_believed_at_once(site: Site) -> None:
    await site.intake.read()
    site.sight = Sight().renamed()
    site.save("version: 1\nqueues: {}\n", seconds_ago=1)
    assert (await site.intake.read()).in_force.desired.queues == {}


async def test_one_that_is_written_again_while_it_is_read_is_not_believed(site: Site) -> None:
    await site.intake.read()
    sights = iter([Sight().modified().closed(), Sight().modified().closed().modified().closed()])
    site.looks = lambda: next(sights)
    site.save(MORE, seconds_ago=1)
    assert (await site.intake.read()).settles_in > 0


async def test_one_that_somebody_has_open_for_writing_may_get_its_rest_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "OPEN_SECONDS", 3 * SETTLED)
    before = (await site.intake.read()).in_force
    site.sight = Sight().modified().closed()
    with site.path.open("ab"):
        site.save(MORE)
        reading = await site.intake.read()
        assert (reading.in_force, reading.faults) == (before, ())
        assert 0 < reading.settles_in <= SETTLED
        site.save(MORE, seconds_ago=3 * SETTLED)
        assert not (await site.intake.read()).waiting, "some writer never closes it"
    site.save(TEXT + "  c: {}\n")
    assert list((await site.intake.read()).in_force.desired.queues) == ["a", "c"]


async def test_one_that_is_saved_between_a_look_at_its_age_and_its_content_is_young(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.save(MORE)
    await site.intake.read()
    look = os.fstat

    def saved_meanwhile(fd: int) -> os.stat_result:
        found = look(fd)
        site.sight = site.sight.modified()
        site.path.write_text(TEXT)
        return found

    monkeypatch.setattr("state.file.os.fstat", saved_meanwhile)
    reading = await site.intake.read()
    assert reading.waiting
    assert list(reading.in_force.desired.queues) == ["a", "b"]


async def test_a_clock_that_was_put_back_does_not_keep_it_waiting(site: Site) -> None:
    site.save(TEXT, seconds_ago=-3600)
    assert (await site.intake.read()).current


async def test_what_we_wrote_ourselves_is_believed_at_once(site: Site) -> None:
    intake = Intake(site.file, site.modules, site.last_good)  # type: ignore[arg-type]
    site.file.edit(lambda text: set_value(text, ("queues", "b"), {}))
    reading = await intake.read()
    assert list(reading.in_force.desired.queues) == ["a", "b"]
    assert reading.write == 1


async def test_while_its_workers_are_being_imported_it_waits(site: Site) -> None:
    await site.intake.read()
    site.save(WITH_WORKER)
    site.modules.verdict = None
    reading = await site.intake.read()
    assert "imported" in reading.waiting[0]
    assert not reading.in_force.desired.queues["a"].workers
    assert (await site.intake.newest()).queues["a"].workers, "a write meanwhile knows what the file says"


async def test_a_worker_that_does_not_import_is_a_fault_at_its_line(site: Site) -> None:
    site.save(WITH_WORKER)
    site.modules.verdict = {Pool("a", "w"): "no module workers/w.py"}
    (fault,) = (await site.intake.read()).faults
    assert str(fault) == "queues.yaml:3:17: queues.a.workers.w: no module workers/w.py"


async def test_the_newest_of_a_faulty_file_is_what_is_in_force(site: Site) -> None:
    await site.intake.read()
    site.save("{")
    assert list((await site.intake.newest()).queues) == ["a"]


async def test_a_memory_that_cannot_be_written_keeps_no_good_file_out(site: Site) -> None:
    site.last_good.mkdir()
    assert (await site.intake.read()).current
    await site.intake.remembered()
    site.last_good.rmdir()
    await site.intake.read()
    await site.intake.remembered()
    assert site.last_good.read_text() == TEXT, "it is written once it can be"


async def test_what_was_recalled_is_not_judged_before_a_file_is(site: Site) -> None:
    await site.intake.read()
    await site.intake.remembered()
    site.save("{")
    intake = site.restarted()
    assert not (await intake.read()).in_force.judged
    site.save(TEXT)
    assert (await intake.read()).in_force.judged
    site.save("{")
    assert (await intake.read()).in_force.judged, "that is of a file that this daemon has judged"


async def test_a_user_that_this_machine_does_not_have_is_a_fault_at_its_line(site: Site) -> None:
    before = (await site.intake.read()).in_force
    site.save("version: 1\nqueues:\n  a:\n    workers:\n      w: {count: 1, user: nobody-at-all}\n")
    reading = await site.intake.read()
    assert reading.in_force == before
    (fault,) = reading.faults
    assert str(fault).startswith("queues.yaml:5:27: queues.a.workers.w.user: there is no user nobody-at-all")
