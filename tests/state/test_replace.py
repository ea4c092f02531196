"""One file in the place of another, on a real file system: with others who write, and processes that are killed."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import state.replace
from state.edit import set_value
from state.file import Conflict, DesiredFile, Edit, WriteFailed
from state.reader import parse
from state.replace import folder_lock, is_being_written

ROOT = Path(__file__).parents[2]
TEXT = "version: 1\nqueues:\n  a: {}\n"
THEIRS = TEXT + "  theirs: {}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "queues.yaml"
    path.write_text(TEXT)
    return path


def adding(name: str) -> Edit:
    return lambda text: set_value(text, ("queues", name), {})


def queues(path: Path) -> list[str]:
    return list(parse(path.read_bytes()).queues)


def by_rename(path: Path, text: str) -> None:
    other = path.with_name("other")
    other.write_text(text)
    other.replace(path)


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


Write = Callable[[Path, str], None]


@pytest.fixture
def before_exchange(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What is done, one after the other, each right before the kernel is asked to change two names."""
    todo: list[Callable[[], None]] = []
    real = state.replace._rename

    def rename(old: str, new: Path, flags: int) -> None:
        if todo:
            todo.pop(0)()
        real(old, new, flags)

    monkeypatch.setattr(state.replace, "_rename", rename)
    return todo


class TestSomebodyWritesInTheLastMoment:
    @pytest.mark.parametrize("write", [by_rename, in_place])
    def test_and_both_changes_are_there(
        self, path: Path, before_exchange: list[Callable[[], None]], write: Write
    ) -> None:
        before_exchange.append(lambda: write(path, THEIRS))
        DesiredFile(path).edit(adding("ours"))
        assert queues(path) == ["a", "theirs", "ours"]
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("write", [by_rename, in_place])
    def test_and_once_more_while_their_content_is_put_back(
        self, path: Path, before_exchange: list[Callable[[], None]], write: Write
    ) -> None:
        before_exchange += [
            lambda: write(path, THEIRS),
            lambda: write(path, THEIRS + "  newer: {}\n"),
        ]
        DesiredFile(path).edit(adding("ours"))
        assert queues(path) == ["a", "theirs", "newer", "ours"]
        assert os.listdir(path.parent) == [path.name]

    def test_and_the_first_file_is_theirs(self, path: Path, before_exchange: list[Callable[[], None]]) -> None:
        path.unlink()
        before_exchange.append(lambda: in_place(path, THEIRS))
        DesiredFile(path).edit(adding("ours"), may_create=True)
        assert queues(path) == ["a", "theirs", "ours"]

    def test_and_what_cannot_be_read_is_put_back_too(
        self, path: Path, before_exchange: list[Callable[[], None]]
    ) -> None:
        def make_folder() -> None:
            path.unlink()
            path.mkdir()

        before_exchange.append(make_folder)
        with pytest.raises(Conflict, match="directory"):
            DesiredFile(path).edit(adding("ours"))
        assert path.is_dir()
        assert os.listdir(path.parent) == [path.name]

    def test_and_takes_the_file_away(self, path: Path, before_exchange: list[Callable[[], None]]) -> None:
        before_exchange.append(path.unlink)
        with pytest.raises(Conflict, match="missing"):
            DesiredFile(path).edit(adding("ours"))
        assert os.listdir(path.parent) == []

    def test_and_lets_the_link_point_elsewhere(self, path: Path, tmp_path: Path) -> None:
        link, other = tmp_path / "link.yaml", tmp_path / "other.yaml"
        other.write_text(THEIRS)
        link.symlink_to(path.name)

        def edit(text: str) -> str:
            if link.readlink() != Path(other.name):
                link.unlink()
                link.symlink_to(other.name)
            return adding("ours")(text)

        DesiredFile(link).edit(edit)
        assert (queues(path), queues(other)) == (["a"], ["a", "theirs", "ours"])


class TestAFileSystemWithoutExchange:
    @pytest.fixture(autouse=True, params=[errno.EINVAL, errno.ENOSYS, errno.EPERM])
    def not_offered(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        def rename(*_: object) -> None:
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(state.replace, "_rename", rename)

    def test_is_written_by_a_plain_rename(self, path: Path) -> None:
        DesiredFile(path).edit(adding("ours"))
        assert queues(path) == ["a", "ours"]
        assert os.listdir(path.parent) == [path.name]

    def test_takes_a_first_file(self, path: Path) -> None:
        path.unlink()
        DesiredFile(path).edit(adding("ours"), may_create=True)
        assert queues(path) == ["ours"]

    def test_notices_what_came_before(self, path: Path) -> None:
        seen = []

        def edit(text: str) -> str:
            seen.append(text)
            if len(seen) == 1:
                path.write_text(THEIRS)
            return adding("ours")(text)

        DesiredFile(path).edit(edit)
        assert queues(path) == ["a", "theirs", "ours"]


class TestSomebodyWritesInPlace:
    def test_and_is_let_finish(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("state.file.WRITER_SECONDS", 60.0)  # this writer may take its time
        with path.open("w") as half:
            half.write("version: 1\nqueues: {}\n")  # cut short, the file is valid, and says that `a` is to go
            half.flush()
            assert is_being_written(path)
            editing = threading.Thread(target=DesiredFile(path).edit, args=(adding("ours"),))
            editing.start()
            editing.join(0.2)
            assert editing.is_alive()
            half.seek(0)
            half.write(THEIRS)
        editing.join()
        assert queues(path) == ["a", "theirs", "ours"]

    def test_without_end_and_the_edit_gives_up(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("state.file.WRITER_SECONDS", 0.1)
        with path.open("r+"), pytest.raises(WriteFailed, match=r"has queues\.yaml open for writing"):
            DesiredFile(path).edit(adding("ours"))
        assert path.read_text() == TEXT

    def test_readers_do_not_count(self, path: Path) -> None:
        with path.open():
            assert not is_being_written(path)


class TestProcesses:
    def test_of_two_that_edit_at_once_nothing_is_lost(self, path: Path) -> None:
        program = (
            "import sys; from pathlib import Path\n"
            "from state.edit import set_value; from state.file import DesiredFile\n"
            "file = DesiredFile(Path(sys.argv[1]))\n"
            "for n in range(40): file.edit(lambda text: set_value(text, ('queues', f'{sys.argv[2]}{n}'), {}))"
        )
        command = [sys.executable, "-c", program, str(path)]
        both = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("x", "y")]
        assert [process.wait(100) for process in both] == [0, 0]
        assert set(queues(path)) == {"a", *(f"{name}{n}" for name in ("x", "y") for n in range(40))}

    def test_one_that_holds_the_folder_is_waited_for(self, path: Path) -> None:
        fd = os.open(path.parent, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        editing = threading.Thread(target=DesiredFile(path).edit, args=(adding("ours"),))
        editing.start()
        editing.join(0.2)
        assert (editing.is_alive(), queues(path)) == (True, ["a"])
        os.close(fd)
        editing.join()
        assert queues(path) == ["a", "ours"]

    def test_but_not_for_ever(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("state.replace.LOCK_SECONDS", 0.1)
        with folder_lock(path.parent), pytest.raises(WriteFailed, match="another process holds the lock"):
            DesiredFile(path).edit(adding("ours"))

    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("how", [[], ["foreign"]], ids=["alone", "with somebody else who writes"])
    def test_killed_at_any_line_leave_a_whole_file_and_after_the_next_start_nothing_else(self, how: list[str]) -> None:
        memory = Path("/dev/shm")  # no disk to wait for a thousand times
        with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
            command = [sys.executable, str(Path(__file__).with_name("killed.py")), folder, *how]
            done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 100, "each of so many lines was the last of a process"


class TestWhatStays:
    def test_extended_attributes(self, path: Path) -> None:
        os.setxattr(path, "user.owner", b"mail team")
        DesiredFile(path).edit(adding("b"))
        assert os.getxattr(path, "user.owner") == b"mail team"

    def test_the_access_list_and_none_that_the_folder_gives_to_new_files(self, path: Path, tmp_path: Path) -> None:
        os.setxattr(tmp_path, "system.posix_acl_default", access_list(1234))
        os.setxattr(path, "system.posix_acl_access", access_list(4321))
        DesiredFile(path).edit(adding("b"))
        assert os.getxattr(path, "system.posix_acl_access") == access_list(4321)
        os.removexattr(path, "system.posix_acl_access")
        DesiredFile(path).edit(adding("c"))
        assert "system.posix_acl_access" not in os.listxattr(path)

    def test_the_old_content_under_the_other_name_of_a_hard_link(self, path: Path, tmp_path: Path) -> None:
        os.link(path, tmp_path / "snapshot")
        DesiredFile(path).edit(adding("b"))
        assert (tmp_path / "snapshot").read_text() == TEXT
        assert queues(path) == ["a", "b"]

    def test_a_chain_of_links(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "one" / "link").symlink_to("../queues.yaml")
        (tmp_path / "two").symlink_to(tmp_path / "one" / "link")
        DesiredFile(tmp_path / "two").edit(adding("b"))
        assert (tmp_path / "two").is_symlink()
        assert (tmp_path / "one" / "link").is_symlink()
        assert queues(path) == ["a", "b"]


def access_list(user: int) -> bytes:
    """The owner and one more user may read and write, as the kernel keeps it: tag, permissions, id."""
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 6, user), (4, 4, nobody), (0x10, 6, nobody), (0x20, 0, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


class TestRefusals:
    def test_a_file_that_nobody_may_write(self, path: Path) -> None:
        path.chmod(0o444)
        with pytest.raises(WriteFailed, match=r"Permission denied \(check the modes.*the old file stands\)") as failed:
            DesiredFile(path).edit(adding("b"))
        assert failed.value.errno == errno.EACCES
        assert os.listdir(path.parent) == [path.name]

    def test_a_file_that_is_not_ours_to_write_in_a_folder_that_is(self, foreigners: Path) -> None:
        with pytest.raises(WriteFailed, match="Permission denied"):
            DesiredFile(foreigners).edit(adding("b"))
        assert foreigners.read_text() == TEXT

    def test_a_link_to_nowhere_says_where_to(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to("gone.yaml")
        with pytest.raises(Conflict, match=r"it is a link to .*gone\.yaml, which is not there"):
            DesiredFile(link).edit(adding("b"))
        DesiredFile(link).edit(adding("b"), may_create=True)
        assert (link.is_symlink(), queues(tmp_path / "gone.yaml")) == (True, ["b"])

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(WriteFailed, match=r"make the folder .*nowhere first"):
            DesiredFile(tmp_path / "nowhere" / "queues.yaml").edit(adding("b"), may_create=True)

    def test_what_is_no_file_is_not_replaced(self, path: Path) -> None:
        path.unlink()
        path.mkdir()
        with pytest.raises(Conflict, match="directory"):
            DesiredFile(path).put(TEXT.encode())
        assert path.is_dir()


@pytest.fixture
def foreigners(tmp_path: Path) -> Iterator[Path]:
    """Root's file in everybody's folder, seen by a user who may only read it; as that user for whom modes count."""
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="foreigners-", dir="/tmp"))
    path = folder / "queues.yaml"
    path.write_text(TEXT)
    path.chmod(0o644 if user == 0 else 0o444)
    folder.chmod(0o777)
    if user == 0:
        os.seteuid(65534)
    try:
        yield path
    finally:
        os.seteuid(user)
        path.unlink()
        folder.rmdir()


class TestSweeping:
    def test_leaves_alone_what_it_does_not_know(self, path: Path) -> None:
        names = [
            ".queues.yaml.swp",
            ".queues.yaml.tmp",
            ".queues.yaml.x.aaaa.bbbb.reconciler.tmp",
            "queues.yaml~",
            ".other.tmp",
        ]
        for name in names:
            path.with_name(name).write_text("theirs")
        DesiredFile(path).sweep()
        assert {*os.listdir(path.parent)} == {path.name, *names}

    def test_removes_what_was_being_written(self, path: Path) -> None:
        path.with_name(".queues.yaml.abc.reconciler.part").write_text("vers")
        DesiredFile(path).sweep()
        assert os.listdir(path.parent) == [path.name]
