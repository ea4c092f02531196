"""From the file to the queues: however it is saved, and whatever is wrong with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.intake import SETTLE_SECONDS
from tests.live.sites import Site, site_on
from tests.nodes import TestNode
from tests.system import ECHO
from tests.waiting import eventually

EMPTY = "version: 1\nqueues: {}\n"


def listing(*queues: str) -> str:
    return "version: 1\nqueues:\n" + "".join(f"  {name}: {{}}\n" for name in queues) if queues else EMPTY


@pytest.fixture(scope="module")
def shared(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("files")) as site:
        site.start()
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    """The running site of this module, with one queue `kept` and the usual modules."""
    restore(shared)
    return shared


def restore(site: Site) -> None:
    if site.file.is_dir() and not site.file.is_symlink():
        site.file.rmdir()
    site.file.unlink(missing_ok=True)
    site.worker("echo", ECHO)
    site.write(listing("kept"))
    site.settled()
    eventually(lambda: site.queues() == {"kept"})


def there(site: Site, *queues: str) -> None:
    """Waits until exactly these queues are at the broker."""
    eventually(lambda: site.queues() == set(queues))


# -- ways to save ------------------------------------------------------------------------------------------------


def test_a_queue_appears_and_vanishes_when_the_file_is_saved_in_place(site: Site) -> None:
    site.write(listing("kept", "new"))
    there(site, "kept", "new")
    site.write(listing("kept"))
    there(site, "kept")


def test_a_queue_adapts_to_what_the_file_says_of_its_workers(site: Site) -> None:
    site.write("version: 1\nqueues:\n  kept: {workers: {echo: 2}}\n")
    eventually(lambda: len(site.pids(queue_name="kept")) == 2)
    site.write("version: 1\nqueues:\n  kept: {workers: {echo: 1}}\n")
    eventually(lambda: len(site.list_workers(queue_name="kept")) == 1)
    site.write(listing("kept"))
    eventually(lambda: not site.list_workers())


def test_an_editor_that_replaces_the_file_is_followed_again_and_again(site: Site) -> None:
    for number in range(3):
        draft = site.folder / ".queues.yaml.swp"
        draft.write_text(listing("kept", f"saved-{number}"))
        site.file.rename(site.folder / "queues.yaml~")  # as vim does
        draft.rename(site.file)
        there(site, "kept", f"saved-{number}")


def test_a_checkout_of_another_branch_brings_its_queues(site: Site) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *who, *words], cwd=site.folder, check=True, capture_output=True)

    git("init")
    git("add", "queues.yaml")
    git("commit", "-m", "one queue")
    git("checkout", "-b", "more")
    site.write(listing("kept", "branch.a", "branch.b"))
    git("commit", "-am", "two more")
    there(site, "kept", "branch.a", "branch.b")
    git("checkout", "main")
    there(site, "kept")
    git("checkout", "more")
    there(site, "kept", "branch.a", "branch.b")
    git("checkout", "main")
    shutil.rmtree(site.folder / ".git")


def test_a_config_map_is_followed_through_its_swaps(site: Site) -> None:
    """Kubernetes: queues.yaml → ..data/queues.yaml, and ..data is a link that is replaced by rename."""

    def mount(version: str, text: str) -> None:
        folder = site.folder / f"..{version}"
        folder.mkdir()
        (folder / "queues.yaml").write_text(text)
        link = site.folder / "..data_tmp"
        link.symlink_to(folder.name)
        link.rename(site.folder / "..data")

    mount("first", listing("kept", "mounted"))
    site.file.unlink()
    site.file.symlink_to("..data/queues.yaml")
    there(site, "kept", "mounted")
    for number in range(2):
        mount(f"later-{number}", listing("kept", f"mounted-{number}"))
        there(site, "kept", f"mounted-{number}")
    shutil.rmtree(site.folder / "..first")  # as the kubelet does after a swap
    mount("last", listing("kept"))
    there(site, "kept")


def test_a_file_that_lives_in_another_folder_is_followed_through_the_link(site: Site, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.yaml"
    real.write_text(listing("kept"))
    site.file.unlink()
    site.file.symlink_to(real)
    site.settled()
    real.write_text(listing("kept", "linked"))
    there(site, "kept", "linked")
    (tmp_path / "draft").write_text(listing("kept"))
    (tmp_path / "draft").rename(real)
    there(site, "kept")


def test_an_edit_by_rest_goes_through_the_link_and_keeps_it(site: Site, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.yaml"
    real.write_text(listing("kept"))
    site.file.unlink()
    site.file.symlink_to(real)
    site.settled()
    assert site.post("/queue/create", {"queue_name": "by-rest"}).status_code == 201
    assert site.file.is_symlink()
    assert real.read_text() == listing("kept", "by-rest")


# -- half a file -------------------------------------------------------------------------------------------------


PAUSE = 0.15  # seconds between two pieces: that is what is tested


def write_slowly(site: Site, *pieces: str) -> bool:
    """Truncates the file and writes it piece by piece, as `cat > queues.yaml` from something slow does.

    What has stood for a while is believed: False if the machine has made one of the pauses nearly as long as that.
    """
    longest, changed = 0.0, time.monotonic()
    with site.file.open("w") as file:
        for piece in pieces:
            began = time.monotonic()
            file.write(piece)
            file.flush()
            longest, changed = max(longest, time.monotonic() - changed), began
            time.sleep(PAUSE)
    return longest < SETTLE_SECONDS - 0.05


def until_at_pace(attempt: Callable[[], bool]) -> None:
    """An attempt whose pauses were too long has shown nothing, and is made again."""
    assert any(attempt() for _ in range(50)), "the machine is too busy for it"


def test_a_file_written_in_pieces_deletes_nothing_on_the_way(site: Site) -> None:
    """Each piece ends in a valid file with fewer queues than there are."""
    names = ["kept", "second", "third"]

    def attempt() -> bool:
        site.write(listing(*names))
        site.settled()
        before = lines_said(site, "delete queue")
        pieces = "version: 1\nqueues:\n  kept: {}\n", "  second: {}\n", "  third: {}\n", "  fourth: {}\n"
        at_pace = write_slowly(site, *pieces)
        there(site, *names, "fourth")
        if at_pace:
            assert lines_said(site, "delete queue") == before
        return at_pace

    until_at_pace(attempt)


def test_a_file_written_in_pieces_makes_no_queue_of_half_its_properties(site: Site) -> None:
    """A queue's type cannot be changed later: one that was made too early would stay wrong."""

    def attempt() -> bool:
        restore(site)
        if not write_slowly(site, listing("kept") + "  fresh:\n    durable: true\n", "    type: quorum\n"):
            return False
        there(site, "kept", "fresh")
        assert site.vhost.queues()["fresh"]["type"] == "quorum"
        site.settled()
        return True

    until_at_pace(attempt)


def test_a_file_written_in_pieces_leaves_all_workers_alone(site: Site) -> None:
    """One piece ends within a number, another before a queue with workers."""
    head = "version: 1\nqueues:\n  kept:\n    workers:\n      echo:\n        prefetch: 1"
    middle, tail = "5\n", "  work: {workers: {echo: 1}}\n"

    def attempt() -> bool:
        site.write(head + middle + tail)
        site.settled()
        before = site.pids()
        assert len(before) == 2
        at_pace = write_slowly(site, head, middle, tail)
        site.settled()
        if at_pace:
            assert site.pids() == before
        return at_pace

    until_at_pace(attempt)


def test_an_empty_moment_while_the_file_is_saved_is_no_fault(site: Site) -> None:
    def attempt() -> bool:
        restore(site)
        before = lines_said(site, "is empty")
        at_pace = write_slowly(site, "", listing("kept", "slow"))
        there(site, "kept", "slow")
        if at_pace:
            assert lines_said(site, "is empty") == before
        return at_pace

    until_at_pace(attempt)


def lines_said(site: Site, words: str) -> int:
    return sum(words in line for line in site.said().splitlines())


# -- what is wrong with it ---------------------------------------------------------------------------------------


def refused(site: Site, *words: str) -> str:
    """Waits until the status names a fault in these words, the last good state in force; the fault."""

    def check() -> str:
        status = site.status()
        error = status["file_error"]
        assert error, "no fault is told"
        assert all(word in error for word in words), error
        assert not status["synced"]
        return str(error)

    error = eventually(check)
    assert site.queues() == {"kept"}
    eventually(lambda: error.splitlines()[0] in site.said())
    return error


def goes_on(site: Site) -> None:
    """A file that is right again is in force at once."""
    site.write(listing("kept", "again"))
    there(site, "kept", "again")
    site.settled()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("version: 1\nqueues:\n  kept: {}\n  kept: {}\n", ("queues.yaml:4:3: queues.kept:", "duplicate key")),
        ("version: 1\nqueues:\n  kept: {\n", ("queues.yaml:4:1:",)),
        (
            "version: 1\nqueues:\n  kept: {tpye: quorum}\n",
            ("queues.yaml:3:10: queues.kept.tpye:", "mean type?"),
        ),
        ("version: 1\nqueues:\n  amq.mine: {}\n", ("queues.yaml:3:3: queues.amq.mine:", "amq.")),
        ("version: 1\nqueues:\n  kept: {type: quorum, durable: false}\n", ("queues.yaml:3:3: queues.kept:", "durable")),
        ("version: 1\nqueues:\n  kept:\n    workers: {echo: many}\n", ("queues.yaml:4:21: queues.kept.workers.echo:",)),
        ("version: 1\nqueues:\n", ("queues.yaml:2:1: queues:",)),
        ("version: 1\n", ("queues.yaml:1:1:", "queues")),
        ("", ("queues.yaml:1:1:", "empty")),
        ("\n# nothing here\n", ("queues.yaml:", "empty")),
        ("- a\n- b\n", ("queues.yaml:1:1:", "mapping")),
        (b"version: 1\nqueues:\n  caf\xe9: {}\n", ("queues.yaml:3:6:", "UTF-8")),
    ],
)
def test_a_faulty_file_keeps_the_last_good_state_and_is_told_with_its_place(
    site: Site, text: str | bytes, words: tuple[str, ...]
) -> None:
    site.write(text)
    refused(site, *words)


def test_every_fault_of_a_file_is_told(site: Site) -> None:
    site.write("version: 1\nqueues:\n  kept: {colour: red}\n  amq.x: {}\n  b: {type: quorun}\n")
    error = refused(site, "queues.yaml:3:10:", "queues.yaml:4:3:", "queues.yaml:5:13:")
    assert len(error.splitlines()) == 3


def test_a_deleted_file_removes_nothing(site: Site) -> None:
    site.file.unlink()
    refused(site, "queues.yaml:1:1:", "missing")
    goes_on(site)


def test_a_folder_in_the_file_s_place_removes_nothing(site: Site) -> None:
    site.file.unlink()
    site.file.mkdir()
    refused(site, "queues.yaml:1:1:", "cannot be read", "directory")
    site.file.rmdir()
    goes_on(site)


def test_a_file_that_cannot_be_read_removes_nothing(site: Site) -> None:
    site.file.unlink()
    site.file.symlink_to("queues.yaml")  # a link to itself: not even root can read it
    refused(site, "queues.yaml:1:1:", "cannot be read")
    site.file.unlink()
    goes_on(site)


def test_a_link_into_nothing_removes_nothing(site: Site, tmp_path: Path) -> None:
    site.file.unlink()
    site.file.symlink_to(tmp_path / "not-there" / "queues.yaml")
    refused(site, "missing")
    (tmp_path / "not-there").mkdir()
    (tmp_path / "not-there" / "queues.yaml").write_text(listing("kept", "found"))
    there(site, "kept", "found")


def test_a_named_pipe_in_the_file_s_place_does_not_hang_the_daemon(site: Site) -> None:
    site.file.unlink()
    os.mkfifo(site.file)
    refused(site, "cannot be read")
    site.file.unlink()
    goes_on(site)


# -- its worker modules ------------------------------------------------------------------------------------------

WITH_WORKER = "version: 1\nqueues:\n  kept:\n    workers:\n      mailer: 1\n"
MAILER = ECHO.replace("Echo", "Mailer")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, ("mailer.py", "does not exist")),
        ("import no_such_thing\n", ("mailer.py:1", "no_such_thing")),
        ("def broken(:\n", ("mailer.py:1", "SyntaxError")),
        (MAILER + MAILER.replace("Mailer", "Another"), ("mailer.py", "2 workers", "Another, Mailer")),
        ("from .base import BaseWorker\n", ("mailer.py", "no subclass of BaseWorker")),
    ],
)
def test_a_module_that_cannot_run_is_a_fault_and_mending_it_puts_the_file_in_force(
    site: Site, source: str | None, words: tuple[str, ...]
) -> None:
    if source is not None:
        site.worker("mailer", source)
    site.write(WITH_WORKER)
    refused(site, "queues.yaml:5:7: queues.kept.workers.mailer:", *words)
    assert not site.list_workers()
    site.worker("mailer", MAILER)
    eventually(lambda: len(site.pids()) == 1)
    site.settled()
    site.write(listing("kept"))
    eventually(lambda: not site.list_workers())
    (site.workers / "mailer.py").unlink()


def test_a_module_that_breaks_later_leaves_its_running_workers_alone(site: Site) -> None:
    site.worker("mailer", MAILER)
    site.write(WITH_WORKER)
    site.settled()
    before = site.pids()
    site.worker("mailer", "import no_such_thing\n")
    refused(site, "queues.yaml:5:7: queues.kept.workers.mailer:", "no_such_thing")
    assert site.pids() == before
    site.worker("mailer", MAILER)
    site.settled()
    site.write(listing("kept"))
    eventually(lambda: not site.list_workers())
    (site.workers / "mailer.py").unlink()


# -- the daemon starts beside it ---------------------------------------------------------------------------------


def test_a_daemon_started_beside_a_broken_file_goes_on_with_the_last_good_state(site: Site) -> None:
    site.write("version: 1\nqueues:\n  kept: {workers: {echo: 1}}\n")
    site.settled()
    site.stop()
    site.write("version: 1\nqueues: {{\n")
    site.start()
    eventually(lambda: len(site.pids(queue_name="kept")) == 1)
    refused(site, "queues.yaml:3:1:")
    site.write(listing("kept"))
    site.settled()


def test_a_folder_that_is_replaced_as_a_whole_is_watched_again(site: Site) -> None:
    """A deployment that moves a new tree into the old one's place."""
    fresh = site.folder / "workers.new"
    shutil.copytree(site.workers, fresh)
    site.workers.rename(site.folder / "workers.old")
    fresh.rename(site.workers)
    site.write(WITH_WORKER)
    refused(site, "mailer.py", "does not exist")
    site.worker("mailer", MAILER)
    eventually(lambda: len(site.pids()) == 1)
    (site.workers / "mailer.py").unlink()
