"""The watch on the file and the workers' folder, on a real kernel."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler import watch
from reconciler.saves import Save
from reconciler.watch import PATIENCE_SECONDS, Watch
from tests.waiting import async_eventually


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "queues.yaml"
        self.workers = folder / "workers"
        self.workers.mkdir(parents=True)
        self.file.write_text("old")
        self.woken = 0
        self.watch = Watch(self.file, self.workers, self.wake)

    def wake(self) -> None:
        self.woken += 1

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.watch.run())
        await asyncio.sleep(0)  # up to its first wait: the folders are watched now
        try:
            yield
        finally:
            running.cancel()

    async def wakes(self, do: Callable[[], object]) -> None:
        """`do` wakes, and at once: what may be half of something would not wake in these tests."""
        before = self.woken
        do()
        await async_eventually(lambda: self.is_woken(before), every=0.005)

    async def is_woken(self, before: int) -> bool:
        return self.woken > before


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Whoever is woken was not woken by waiting: only that is as sure on a busy machine."""
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 3600.0)
    return Site(tmp_path / "site")


def replace(path: Path, text: str) -> None:
    beside = path.with_name("beside")
    beside.write_text(text)
    os.replace(beside, path)


async def test_a_save_in_place_wakes_at_once_and_is_seen_to_be_closed(site: Site) -> None:
    async with site.watched():
        await site.wakes(lambda: site.file.write_text("new"))
        assert site.watch.look().save is Save.CLOSED


async def test_a_file_renamed_into_its_place_wakes_at_once_and_is_seen_to_be_whole(site: Site) -> None:
    async with site.watched():
        for _ in range(2):
            await site.wakes(lambda: replace(site.file, "new"))
            assert site.watch.look().save is Save.WHOLE


async def test_as_git_and_vim_write_it_deleted_and_made_anew(site: Site) -> None:
    async with site.watched():
        site.file.unlink()
        assert site.watch.look().save is Save.OPEN
        await site.wakes(lambda: site.file.write_text("new"))
        assert site.watch.look().save is Save.CLOSED


async def test_a_writer_who_has_not_closed_it_is_seen_and_wakes_a_little_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", PATIENCE_SECONDS)
    async with site.watched():
        before = site.woken
        with site.file.open("w") as file:
            file.write("half")
            file.flush()
            assert site.watch.look().save is Save.OPEN
            await async_eventually(lambda: site.is_woken(before))
            assert site.watch.look().save is Save.OPEN
        assert site.watch.look().save is Save.CLOSED


async def test_what_happens_between_two_looks_is_seen_without_waiting(site: Site) -> None:
    async with site.watched():
        before = site.watch.look()
        site.file.write_text("new")
        assert site.watch.look().serial > before.serial
        assert site.watch.look() == site.watch.look()


async def test_a_log_in_the_same_folder_wakes_nobody(site: Site) -> None:
    log = site.folder / "app.log"
    log.write_text("line\n")
    async with site.watched():
        before = site.watch.look(), site.woken
        with log.open("a") as file:
            for _ in range(100):
                file.write("line\n")
                file.flush()
        assert (site.watch.look(), site.woken) == before
        await site.wakes(lambda: site.file.write_text("new"))


async def test_a_worker_module_wakes(site: Site) -> None:
    async with site.watched():
        await site.wakes(lambda: (site.workers / "send.py").write_text("x = 1\n"))
        await site.wakes(lambda: (site.workers / "send.py").write_text("x = 2\n"))


async def test_a_link_that_points_elsewhere_wakes_and_its_new_folder_is_watched(site: Site) -> None:
    for name in ("one", "two"):
        (site.folder / name).mkdir()
        (site.folder / name / "real.yaml").write_text(name)
    site.file.unlink()
    site.file.symlink_to("one/real.yaml")
    async with site.watched():
        await site.wakes(lambda: (site.folder / "one" / "real.yaml").write_text("new"))
        beside = site.folder / "beside"
        beside.symlink_to("two/real.yaml")
        await site.wakes(lambda: os.replace(beside, site.file))

        async def is_watched() -> bool:
            (site.folder / "two" / "real.yaml").write_text("new")
            return site.watch.look().save is Save.CLOSED

        await async_eventually(is_watched)


async def test_a_folder_that_is_made_anew_is_watched_again(site: Site) -> None:
    async with site.watched():
        site.workers.rmdir()
        site.workers.mkdir()
        before = site.woken
        await async_eventually(lambda: site.is_woken(before))

        async def is_watched() -> bool:
            before = site.woken
            (site.workers / "send.py").write_text("x = 1\n")
            site.watch.look()
            return site.woken > before

        await async_eventually(is_watched)


async def test_a_folder_that_may_not_be_entered_for_a_while_ends_no_watch(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, refusals = site.watch.folders, iter([PermissionError(errno.EACCES, "Permission denied")])

    def refused_once() -> dict[Path, tuple[int, int]]:
        for error in refusals:
            raise error
        return look()

    monkeypatch.setattr(site.watch, "folders", refused_once)
    async with site.watched():
        await async_eventually(lambda: site.is_woken(0))
        await site.wakes(lambda: replace(site.file, "new"))
