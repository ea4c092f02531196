"""queues.yaml on disk: no edit is lost, nobody else's change is overwritten, and it is valid at every instant."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from state.edit import set_value
from state.faults import Rejected
from state.file import Conflict, DesiredFile, Edit, WriteFailed, write_atomically
from state.reader import parse, revision_of

TEXT = "# ours\nversion: 1\nqueues:\n  a: {}   # first\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "queues.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def file(path: Path) -> DesiredFile:
    return DesiredFile(path)


def adding(name: str) -> Edit:
    return lambda text: set_value(text, ("queues", name), {})


def leftovers(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir() if p.name.startswith(".")]


class TestPutting:
    @pytest.mark.parametrize("before", [None, b"", b"version: 1\nqueues: [\n", b"\xff", TEXT.encode()])
    def test_takes_the_place_of_whatever_is_there(self, file: DesiredFile, path: Path, before: bytes | None) -> None:
        path.unlink()
        if before is not None:
            path.write_bytes(before)
        written = file.put(b"\xef\xbb\xbfversion: 1\r\nqueues: {}\r\n")
        assert path.read_bytes() == written.after == b"\xef\xbb\xbfversion: 1\r\nqueues: {}\r\n"
        assert written.before == before
        assert file.written == written.revision == revision_of(path.read_bytes())


def test_a_file_of_any_size_is_looked_at_in_a_moment_and_refused(file: DesiredFile, path: Path) -> None:
    os.truncate(path, 400 * 2**30)
    snapshot = file.snapshot()
    assert snapshot.data is None
    assert snapshot.error == "the file has 429,496,729,600 bytes (at most 33,554,432)"
    with pytest.raises(Conflict, match="has 429,496,729,600 bytes"):
        file.edit(adding("b"))


class TestAnEdit:
    def test_changes_what_it_must_and_says_which_revision_came_of_it(self, file: DesiredFile, path: Path) -> None:
        written = file.edit(adding("b"))
        assert path.read_text() == TEXT + "  b: {}\n"
        assert (written.revision, written.number) == (revision_of(path.read_bytes()), 1)
        assert (written.before, written.after) == (TEXT.encode(), path.read_bytes())

    def test_that_changes_nothing_writes_nothing(self, file: DesiredFile, path: Path) -> None:
        before = path.stat()
        assert file.edit(lambda text: text).revision == revision_of(TEXT.encode())
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_that_would_break_the_file_is_refused(self, file: DesiredFile, path: Path) -> None:
        with pytest.raises(Rejected, match="belong to RabbitMQ"):
            file.edit(lambda text: text + "  amq.x: {}\n")
        assert path.read_text() == TEXT
        assert not leftovers(path)

    def test_of_a_faulty_file_waits_until_it_is_mended(self, file: DesiredFile, path: Path) -> None:
        path.write_text(TEXT + "  a: {}\n")
        with pytest.raises(Conflict, match=r"queues.yaml:5:3: queues\.a: duplicate key"):
            file.edit(adding("b"))
        assert path.read_text() == TEXT + "  a: {}\n"

    def test_does_not_start_a_file_where_one_was_lost(self, file: DesiredFile, path: Path) -> None:
        path.unlink()
        with pytest.raises(Conflict, match="missing"):
            file.edit(adding("b"))
        assert not path.exists()

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (None, "version: 1\nqueues:\n  b: {}\n"),
            ("", "version: 1\nqueues:\n  b: {}\n"),
            ("# mine\n", "# mine\nversion: 1\nqueues:\n  b: {}\n"),
            ("{}  # none\n", "{version: 1, queues: {b: {}}}  # none\n"),
            ("---\n# mine\n", "---\nversion: 1\nqueues:\n  b: {}\n# mine\n"),
            ("# mine\nversion: 1\nqueues:  # none yet\n", "# mine\nversion: 1\nqueues:  # none yet\n  b: {}\n"),
            ("version: 1\nqueues: {}", "version: 1\nqueues:\n  b: {}"),
            ("\ufeff# mine\r\n", "\ufeff# mine\r\nversion: 1\r\nqueues:\r\n  b: {}\r\n"),
        ],
    )
    def test_may_start_the_first_file(self, file: DesiredFile, path: Path, before: str | None, after: str) -> None:
        path.unlink()
        if before is not None:
            path.write_bytes(before.encode())
        file.edit(adding("b"), may_create=True)
        assert path.read_bytes().decode() == after
        assert list(parse(path.read_bytes()).queues) == ["b"]

    @pytest.mark.parametrize("before", ["queues: {a: {}}\n", "version: 2\n", "[]\n", "version: 1\nqueues: [\n"])
    def test_starts_none_where_something_is_said(self, file: DesiredFile, path: Path, before: str) -> None:
        path.write_text(before)
        with pytest.raises(Conflict, match="faults"):
            file.edit(adding("b"), may_create=True)
        assert path.read_text() == before

    def test_never_starts_anew_what_has_content(self, file: DesiredFile, path: Path) -> None:
        file.edit(adding("b"), may_create=True)
        assert list(parse(path.read_bytes()).queues) == ["a", "b"]

    def test_keeps_the_mode(self, file: DesiredFile, path: Path) -> None:
        path.chmod(0o640)
        file.edit(adding("b"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def test_keeps_the_owner(self, file: DesiredFile, path: Path) -> None:
        if os.getuid() == 0:
            os.chown(path, 1234, 4321)
        before = path.stat()
        file.edit(adding("b"))
        assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)

    def test_keeps_the_byte_order_mark_and_the_line_endings(self, file: DesiredFile, path: Path) -> None:
        path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
        file.edit(adding("b"))
        assert path.read_bytes() == b"\xef\xbb\xbf" + (TEXT + "  b: {}\n").replace("\n", "\r\n").encode()

    def test_follows_a_link_and_leaves_it_one(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "elsewhere" / "linked.yaml"
        link.symlink_to(Path("..") / path.name)
        DesiredFile(link).edit(adding("b"))
        assert link.is_symlink()
        assert path.read_text() == TEXT + "  b: {}\n"
        assert os.listdir(link.parent) == ["linked.yaml"]


class TestSomebodyElseWrites:
    def test_between_reading_and_renaming_and_neither_change_is_lost(self, file: DesiredFile, path: Path) -> None:
        seen = []

        def edit(text: str) -> str:
            seen.append(text)
            if len(seen) == 1:
                path.write_text(TEXT + "  theirs: {}\n")
            return adding("ours")(text)

        file.edit(edit)
        assert seen == [TEXT, TEXT + "  theirs: {}\n"], "the edit is redone on the newest content"
        assert list(parse(path.read_bytes()).queues) == ["a", "theirs", "ours"]
        assert not leftovers(path)

    def test_something_faulty_meanwhile_and_it_stands(self, file: DesiredFile, path: Path) -> None:
        def edit(text: str) -> str:
            path.write_text("half a fi")
            return adding("ours")(text)

        with pytest.raises(Conflict, match="faults"):
            file.edit(edit)
        assert path.read_text() == "half a fi"

    def test_without_end_and_the_edit_gives_up(self, file: DesiredFile, path: Path) -> None:
        turns = iter(range(1000))

        def edit(text: str) -> str:
            path.write_text(TEXT + f"# {next(turns)}\n")
            return adding("ours")(text)

        with pytest.raises(WriteFailed, match="keeps changing"):
            file.edit(edit)
        assert list(parse(path.read_bytes()).queues) == ["a"]
        assert not leftovers(path)

    def test_takes_the_file_away_meanwhile_and_it_stays_away(self, file: DesiredFile, path: Path) -> None:
        def edit(text: str) -> str:
            path.unlink()
            return adding("ours")(text)

        with pytest.raises(Conflict, match="missing"):
            file.edit(edit)
        assert not path.exists()


@contextmanager
def read_all_the_while(path: Path) -> Iterator[list[str]]:
    """Reads and parses without a pause; collects what was ever wrong."""
    wrong: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                parse(path.read_bytes())
            except (OSError, Rejected) as error:
                wrong.append(str(error))

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield wrong
    finally:
        stop.set()
        reader.join()


def test_a_hundred_writers_at_once_lose_nothing_and_the_file_is_valid_at_every_instant(
    file: DesiredFile, path: Path
) -> None:
    with read_all_the_while(path) as wrong, ThreadPoolExecutor(100) as pool:
        results = list(pool.map(lambda n: file.edit(adding(f"q{n}")), range(100)))
    assert parse(path.read_bytes()).queues.keys() == {"a", *(f"q{n}" for n in range(100))}
    assert not wrong
    assert sorted(written.number for written in results) == list(range(1, 101))
    assert len({written.revision for written in results}) == 100
    assert not leftovers(path)


class TestADiskThatRefuses:
    def test_leaves_the_old_file_whole(self, full_disk: Path) -> None:
        path = full_disk / "queues.yaml"
        with pytest.raises(WriteFailed, match=r"No space left on device.*the old file stands") as failed:
            DesiredFile(path).edit(lambda text: text + "#" * 100_000)
        assert failed.value.errno == errno.ENOSPC
        assert path.read_text() == TEXT
        assert not leftovers(path)

    def test_also_leaves_whole_a_file_that_is_replaced_without_an_edit(self, full_disk: Path) -> None:
        path = full_disk / "queues.yaml"
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"#" * 100_000)
        assert path.read_text() == TEXT
        assert not leftovers(path)

    def test_in_a_folder_that_cannot_be_written(self, read_only: Path) -> None:
        path = read_only / "queues.yaml"
        with pytest.raises(WriteFailed, match=r"cannot be written: Permission denied \(.*the old file stands\)"):
            DesiredFile(path).edit(adding("b"))
        assert path.read_text() == TEXT

    def test_to_replace_a_file_that_is_mounted_alone(self, mounted_alone: Path) -> None:
        with pytest.raises(WriteFailed, match="mount its folder instead of the file"):
            DesiredFile(mounted_alone).edit(adding("b"))
        assert mounted_alone.read_text() == TEXT
        assert not leftovers(mounted_alone)


def mount(*what: str) -> bool:
    """Is False in a container that may not mount."""
    return subprocess.run(["mount", *what], capture_output=True, check=False).returncode == 0


def fails_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with our file in it, on a disk without room for another byte."""
    is_mounted = mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path))
    (tmp_path / "queues.yaml").write_text(TEXT)
    if is_mounted:
        fill(tmp_path / "ballast")
    else:
        monkeypatch.setattr(os, "fsync", fails_with(errno.ENOSPC))
    yield tmp_path
    if is_mounted:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.fixture
def mounted_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Our file as `docker run -v ./queues.yaml:/queues.yaml` gives it: it cannot be renamed over."""
    path, source = tmp_path / "queues.yaml", tmp_path / "source"
    path.write_text(TEXT)
    source.write_text(TEXT)
    is_mounted = mount("--bind", str(source), str(path))
    if not is_mounted:
        monkeypatch.setattr(os, "replace", fails_with(errno.EBUSY))
    yield path
    if is_mounted:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder in which nothing can be made, seen by a user for whom modes count: root's would not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "queues.yaml").write_text(TEXT)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


class TestLookingAtTheFile:
    def test_tells_its_content_and_its_age(self, file: DesiredFile, path: Path) -> None:
        snapshot = file.snapshot()
        assert (snapshot.data, snapshot.error) == (TEXT.encode(), None)
        assert snapshot.changed_at == path.stat().st_mtime

    @pytest.mark.parametrize(
        ("make", "why"),
        [
            (lambda path: None, "the file is missing"),
            (lambda path: path.mkdir(), "Is a directory|pipe or a device"),
            (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
            (lambda path: path.symlink_to("nowhere"), "the file is missing"),
            (os.mkfifo, "pipe or a device"),
            (lambda path: path.symlink_to("/dev/zero"), "pipe or a device"),
        ],
    )
    @pytest.mark.timeout(60)
    def test_says_in_words_why_there_is_none(
        self, file: DesiredFile, path: Path, make: Callable[[Path], None], why: str
    ) -> None:
        path.unlink()
        make(path)
        snapshot = file.snapshot()
        assert snapshot.data is None
        assert any(part in (snapshot.error or "") for part in why.split("|"))
