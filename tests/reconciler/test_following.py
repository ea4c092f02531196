"""Following a branch of a remote repository: what is taken, what is pushed, and what each kind of trouble leaves."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from reconciler.events import Events
from reconciler.settings import Followed
from reconciler.source import Following
from reconciler.source import following as module
from reconciler.source.checkout import IN_USE
from reconciler.source.following import RemoteUnreachable
from reconciler.web.answers import ApiError
from reconciler.web.edits import create_queue, set_counts
from state.file import Conflict, DesiredFile, MovedOn, WriteFailed
from state.history import History
from state.origin import API, GIT, Origin
from tests.repositories import Repository, served
from tests.waiting import async_eventually

TEXT = "version: 1\nqueues:\n  emails: {workers: {echo: 2}}\n"
SCALED = TEXT.replace("echo: 2", "echo: 1")
ANN = Origin(API, "Bo <bo@example.org>")


class Site:
    """A remote, somebody else's clone of it, and a daemon's end that follows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = Repository(folder / "remote.git", bare=True)
        self.other = Repository(folder / "other")
        self.other("remote", "add", "origin", str(self.remote.folder))
        self.other.commit("start", queues_yaml=TEXT, big="x" * 1000)
        self.other.push()
        self.file = folder / "queues.yaml"
        self.history = History(folder / "history")
        self.noted: dict[str, tuple[Origin, str | None]] = {}
        self.woken = 0
        self.following = self.made()

    def made(self, url: str | None = None, branch: str | None = "main", signers: str | None = None) -> Following:
        followed = Followed(
            url=url or str(self.remote.folder),
            branch=branch,
            interval=3600,
            workers_here=self.folder / "workers",
            signers=signers,
        )

        def note(revision: str, origin: Origin, commit: str | None) -> None:
            self.noted[revision] = origin, commit

        def on_news() -> None:
            self.woken += 1

        return Following(followed, self.folder / "git", DesiredFile(self.file), note, self.history, Events(), on_news)

    def pushed(self, message: str = "edit", **files: str | bytes) -> str:
        self.other.commit(message, **files)
        return self.other.push()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Following]:
        task = asyncio.create_task(self.following.run())
        try:
            yield self.following
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def look(self) -> dict[str, object]:
        """One look at the remote; what is known after it."""
        async with self.running():
            before = self.following.looks
            self.following.ask()
            await self.until(lambda: self.following.looks > before)
        return await self.view()

    async def view(self) -> dict[str, object]:
        view = await self.following.view(b"")
        assert view is not None
        return view

    async def until(self, true: Callable[[], bool]) -> None:
        await async_eventually(true, timeout=60)  # a look is a dozen processes

    async def scale(self, count: int = 1) -> None:
        await self.following.write(set_counts("emails", {"echo": count}), ANN)

    @property
    def text(self) -> str:
        return self.file.read_text()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# -- looking ---------------------------------------------------------------------------------------------------------


async def test_the_newest_commit_of_the_branch_is_here_with_its_author(site: Site) -> None:
    view = await site.look()
    assert site.text == TEXT
    assert (view["commit"], view["branch"], view["error"]) == (site.other.head, "main", None)
    assert site.noted[hashlib.sha256(TEXT.encode()).hexdigest()] == (
        Origin(GIT, "Ann <ann@example.org>"),
        site.other.head,
    )
    head = site.pushed(queues_yaml=SCALED)
    view = await site.look()
    assert (site.text, view["commit"], view["moved"]) == (SCALED, head, "forward")


async def test_without_a_branch_the_default_one_is_followed(site: Site) -> None:
    site.following = site.made(branch=None)
    assert (await site.look())["branch"] == "main"


async def test_many_commits_at_once_are_a_step_forward(site: Site) -> None:
    await site.look()
    for number in range(3):
        site.pushed(other=str(number))
    assert (await site.look())["moved"] == "forward"


async def test_a_branch_that_was_rewritten_is_the_truth_and_says_that_it_was(site: Site) -> None:
    site.pushed(queues_yaml=SCALED)
    await site.look()
    site.other("commit", "-q", "--amend", "-m", "other history", "--allow-empty")
    head = site.other.push("--force")
    view = await site.look()
    assert (view["commit"], view["moved"], view["error"]) == (head, "rewritten", None)
    site.other("reset", "-q", "--hard", "HEAD~1")
    site.other.push("--force")
    view = await site.look()
    assert (site.text, view["commit"], view["moved"]) == (TEXT, site.other.head, "rewritten")


async def test_a_remote_that_is_gone_leaves_what_was_taken(site: Site) -> None:
    await site.look()
    site.remote.folder.rename(site.folder / "away")
    view = await site.look()
    assert "remote.git" in str(view["error"])
    assert (site.text, view["commit"]) == (TEXT, site.other.head)
    with pytest.raises(RemoteUnreachable):
        await site.scale()
    assert site.text == TEXT
    (site.folder / "away").rename(site.remote.folder)
    assert (await site.look())["error"] is None


async def test_a_branch_that_is_gone_leaves_what_was_taken_and_is_not_made_again(site: Site) -> None:
    await site.look()
    site.remote("update-ref", "-d", "refs/heads/main")
    with pytest.raises(Conflict, match="there is no branch main"):
        await site.scale()
    view = await site.look()
    assert "there is no branch main" in str(view["error"])
    assert site.remote("for-each-ref") == ""
    assert site.text == TEXT


async def test_an_empty_repository_says_what_to_do(site: Site) -> None:
    empty = Repository(site.folder / "empty.git", bare=True)
    site.following = site.made(str(empty.folder), branch=None)
    assert "there is no default branch" in str((await site.look())["error"])


async def test_the_only_branch_is_meant_where_the_remote_names_one_that_nobody_pushed(site: Site) -> None:
    site.remote("symbolic-ref", "HEAD", "refs/heads/nobodys")
    site.following = site.made(str(site.remote.folder), branch=None)
    for _ in range(2):
        view = await site.look()
        assert (view["error"], view["branch"], site.text) == (None, "main", TEXT)
    site.remote("branch", "-m", "main", "another")
    assert "there is no default branch" in str((await site.look())["error"])
    assert site.text == TEXT


@pytest.mark.parametrize("kind", ["none", "folder", "link"])
async def test_a_commit_without_the_file_leaves_the_one_before(site: Site, kind: str) -> None:
    await site.look()
    head = site.other.head
    site.other("rm", "-q", "queues.yaml")
    if kind == "folder":
        site.other.write("queues.yaml/inner", "x")
    if kind == "link":
        (site.other.folder / "queues.yaml").symlink_to("/etc/passwd")
    site.pushed("gone")
    view = await site.look()
    assert "queues.yaml" in str(view["error"])
    assert site.other.head[:12] in str(view["error"])
    assert (site.text, view["commit"], view["newest_commit"]) == (TEXT, head, site.other.head)
    with pytest.raises(Conflict):
        await site.scale()


async def test_a_file_with_conflict_markers_is_here_for_its_faults_to_be_told(site: Site) -> None:
    await site.look()
    marked = "<<<<<<< HEAD\n" + TEXT + "=======\n" + SCALED + ">>>>>>> side\n"
    site.pushed(queues_yaml=marked)
    await site.look()
    assert site.text == marked
    with pytest.raises(Conflict, match="faults that must be mended first"):
        await site.scale()
    assert site.remote.show(commit="main") == marked.strip()


async def test_a_clone_that_broke_is_made_anew(site: Site) -> None:
    await site.look()
    for path in (site.folder / "git/clone/objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"rubbish")
    site.pushed(queues_yaml=SCALED)
    async with site.running():
        await site.until(lambda: site.text == SCALED)


async def test_locks_of_a_git_that_was_killed_do_not_stand_in_the_way(site: Site) -> None:
    await site.look()
    for name in ("shallow.lock", "config.lock", "refs/reconciler/tip.lock"):
        (site.folder / "git/clone" / name).touch()
    site.following = site.made()
    site.pushed(queues_yaml=SCALED)
    assert (await site.look())["error"] is None
    assert site.text == SCALED


async def test_a_gigabyte_beside_the_file_is_not_copied(site: Site) -> None:
    for number in range(8):
        site.other.write(f"media/{number}.bin", os.urandom(4_000_000))
    site.pushed("media")
    for url in (f"file://{site.remote.folder}", str(site.remote.folder)):
        site.following = site.made(url)
        assert (await site.look())["error"] is None
        size = sum(path.stat().st_size for path in (site.folder / "git").rglob("*") if path.is_file())
        assert size < 1_000_000
    await site.scale()
    assert site.remote.show(commit="main") == SCALED.strip()
    assert site.remote("ls-tree", "-r", "--name-only", "main").split() == [
        "big", *(f"media/{n}.bin" for n in range(8)), "queues.yaml",
    ]  # fmt: skip


async def test_what_is_changed_here_is_set_back_and_kept_in_the_history(site: Site) -> None:
    await site.look()
    site.file.write_text("version: 1\nqueues: {}\n")
    assert site.following.admits(hashlib.sha256(site.file.read_bytes()).hexdigest())
    async with site.running() as following:
        following.look()
        await site.until(lambda: site.text == TEXT)
    (kept,) = site.history
    assert (kept.in_force, site.history.text(kept.revision)) == (False, b"version: 1\nqueues: {}\n")
    assert site.following.admits(hashlib.sha256(TEXT.encode()).hexdigest()) is None


async def test_a_file_that_was_here_before_is_kept_in_the_history(site: Site) -> None:
    site.file.write_text("version: 1\nqueues: {mine: {}}\n")
    await site.look()
    assert site.text == TEXT
    (kept,) = site.history
    assert site.history.text(kept.revision) == b"version: 1\nqueues: {mine: {}}\n"


async def test_the_repository_brings_the_workers_that_lie_beside_the_file(site: Site) -> None:
    workers = site.folder / "git/site/workers"
    (site.folder / "workers").mkdir()
    (site.folder / "workers/here.py").touch()
    assert (await site.look())["workers"] is False
    assert [path.name for path in workers.iterdir()] == ["here.py"]
    site.pushed(workers__echo_py="one", workers__lib__inner_py="two")
    assert (await site.look())["workers"] is True
    assert ((workers / "echo.py").read_text(), (workers / "lib/inner.py").read_text()) == ("one", "two")
    for number in range(4):
        site.pushed(workers__echo_py=str(number))
        await site.look()
    assert (workers / "echo.py").read_text() == "3"
    assert len(list((site.folder / "git/trees").iterdir())) == 2
    site.other("rm", "-rq", "workers")
    site.pushed("no workers")
    assert (await site.look())["workers"] is False
    assert [path.name for path in workers.iterdir()] == ["here.py"]


async def test_a_checkout_stays_while_a_worker_runs_from_it(site: Site) -> None:
    site.pushed(workers__echo_py="the first")
    await site.look()
    first = (site.folder / "git/site/workers").resolve()
    with (first.parent / IN_USE).open() as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        for number in range(3):
            site.pushed(workers__echo_py=str(number))
            await site.look()
        assert (first / "echo.py").read_text() == "the first"
    site.pushed(workers__echo_py="the last")
    await site.look()
    assert not first.exists()


# -- writing ---------------------------------------------------------------------------------------------------------


async def test_a_write_is_a_commit_at_the_remote_and_then_here(site: Site) -> None:
    await site.look()
    await site.scale()
    assert site.remote.log("%an <%ae>: %s", "-1", "main") == ["Bo <bo@example.org>: scale emails/echo 2 → 1"]
    assert site.text.strip() == site.remote.show(commit="main") == SCALED.strip()
    assert site.remote("diff", "--name-only", "main~1", "main") == "queues.yaml"
    head = site.remote("rev-parse", "main")
    assert (await site.view())["commit"] == head
    woken = site.woken
    assert (await site.look())["commit"] == head
    assert site.woken == woken, "our own push is no news"


async def test_a_write_that_changes_nothing_is_no_commit(site: Site) -> None:
    await site.look()
    await site.scale(2)
    assert site.remote.log("%s", "main") == ["start"]


async def test_on_a_branch_that_moved_the_edit_is_done_again_on_the_new_head(site: Site) -> None:
    await site.look()
    site.pushed("other", queues_yaml=TEXT + "  b: {}  # theirs\n")
    await site.scale()
    assert site.remote.log("%s", "main") == ["scale emails/echo 2 → 1", "other", "start"]
    assert site.text == SCALED + "  b: {}  # theirs\n"


async def test_an_edit_that_the_new_head_does_not_take_is_refused_and_the_file_is_the_remotes(site: Site) -> None:
    await site.look()
    site.pushed("gone", queues_yaml="version: 1\nqueues: {other: {}}\n")
    with pytest.raises(ApiError, match="queue emails is not in"):
        await site.scale()
    assert site.text == "version: 1\nqueues: {other: {}}\n"
    assert site.remote.log("%s", "main") == ["gone", "start"]


async def test_a_branch_that_never_stands_still_is_given_up_after_three_tries(site: Site) -> None:
    """A hook of the remote that commits before each push: the branch has always moved."""
    await site.look()
    hook = site.remote.folder / "hooks/pre-receive"
    hook.write_text(
        "#!/bin/sh\nunset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n"
        'new=$(git commit-tree -p main -m race "main^{tree}") && git update-ref refs/heads/main "$new"\n'
    )
    hook.chmod(0o755)
    with pytest.raises(Conflict, match="keeps moving"):
        await site.scale()
    hook.unlink()
    assert site.remote.log("%s", "main") == ["race", "race", "race", "start"]
    assert site.text == TEXT
    assert (await site.view())["commit"] == site.remote("rev-parse", "main")


async def test_a_remote_that_takes_no_push_says_why_and_nothing_changes(site: Site) -> None:
    await site.look()
    hook = site.remote.folder / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho main is protected: open a pull request >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Conflict, match="main is protected"):
        await site.scale()
    assert site.text == TEXT
    assert (await site.view())["error"] is None


async def test_writers_at_once_from_two_daemons_lose_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 90.0)  # the last waits for three others, on a busy machine
    other = Site.__new__(Site)
    other.__dict__ |= site.__dict__
    other.folder, other.file = site.folder / "second", site.folder / "second/queues.yaml"
    other.folder.mkdir()
    other.following = other.made()
    await asyncio.gather(site.look(), other.look())

    async def create(following: Following, name: str) -> bool:
        try:
            await following.write(create_queue(name, {}), ANN)
        except Conflict:
            return False
        return True

    made = await asyncio.gather(
        *(create(one.following, f"{letter}{n}") for n in range(4) for one, letter in ((site, "a"), (other, "b")))
    )
    text = site.remote.show(commit="main")
    names = [f"{letter}{n}" for n in range(4) for letter in "ab"]
    assert sum(made) >= 4
    assert [name for name, done in zip(names, made, strict=True) if done] == [n for n in names if f"{n}: {{}}" in text]
    assert len(site.remote.log("%s", "main")) == 1 + sum(made)


async def test_a_write_that_is_pushed_while_the_disk_here_refuses_says_so_and_comes_later(site: Site) -> None:
    await site.look()
    site.file.chmod(0o444)
    with pytest.raises(WriteFailed, match=r"it is pushed as commit \w+, and comes into force once it can be written"):
        await site.scale()
    assert (site.remote.show(commit="main"), site.text) == (SCALED.strip(), TEXT)
    site.file.chmod(0o644)
    async with site.running():
        await site.until(lambda: site.text == SCALED)
    assert list(site.history) == [], "nobody has changed anything here"


async def test_a_write_that_names_another_revision_is_refused(site: Site) -> None:
    await site.look()
    site.pushed(queues_yaml=SCALED)
    old = hashlib.sha256(TEXT.encode()).hexdigest()
    with pytest.raises(MovedOn):
        await site.following.write(set_counts("emails", {"echo": 7}), ANN, only_if={old})
    assert site.text == SCALED


async def test_a_rollback_is_a_commit_with_the_old_bytes(site: Site) -> None:
    await site.look()
    await site.scale()
    await site.following.replace(TEXT.encode(), Origin("rollback", None, "roll back to 1a2b3c4d"))
    assert site.remote.log("%s", "main") == ["roll back to 1a2b3c4d", "scale emails/echo 2 → 1", "start"]
    assert site.text == TEXT


async def test_a_remote_that_hangs_holds_up_no_write_for_long_and_leaves_no_process(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.look()
    hang = site.folder / "hang"
    hang.write_text(f"#!/bin/sh\necho $$ > {site.folder}/pid\nexec sleep 600\n")
    hang.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(hang))
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    site.following = site.made("ssh://git@example.org/repo.git")
    async with site.running():
        await site.until(lambda: (site.folder / "pid").exists() and bool((site.folder / "pid").read_text()))
        with pytest.raises(RemoteUnreachable, match="does not answer"):
            await site.scale()
    pid = int((site.folder / "pid").read_text())
    await site.until(lambda: not Path(f"/proc/{pid}").exists())


# -- signatures and secrets ------------------------------------------------------------------------------------------


@pytest.fixture
def signers(site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ann's key is allowed; git at both ends signs with it when told to."""
    key = site.folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    allowed = site.folder / "allowed"
    allowed.write_text(f"ann@example.org {key.with_suffix('.pub').read_text()}")
    config = site.folder / "gitconfig"
    config.write_text(
        f"[user]\n\tname = Daemon\n\temail = ann@example.org\n\tsigningKey = {key}\n[gpg]\n\tformat = ssh\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    for name, value in (("user.signingKey", str(key)), ("gpg.format", "ssh")):
        site.other("config", name, value)
    return allowed


async def test_only_commits_that_are_signed_by_somebody_allowed_are_taken(site: Site, signers: Path) -> None:
    site.following = site.made(signers=str(signers))
    view = await site.look()
    assert "is not signed by anyone" in str(view["error"])
    assert not site.file.exists()
    site.other("config", "commit.gpgSign", "true")
    head = site.pushed(queues_yaml=SCALED)
    view = await site.look()
    assert (view["error"], view["commit"], site.text) == (None, head, SCALED)
    await site.scale(3)
    assert "BEGIN SSH SIGNATURE" in site.remote("cat-file", "commit", "main")
    assert (await site.look())["error"] is None
    site.other("pull", "-q", "--no-rebase", "origin", "main")
    site.other("config", "commit.gpgSign", "false")
    site.pushed(queues_yaml=TEXT)
    view = await site.look()
    assert "is not signed by anyone" in str(view["error"])
    assert "echo: 3" in site.text


async def test_where_nothing_can_be_signed_a_write_to_a_signed_branch_says_so(site: Site, signers: Path) -> None:
    site.other("config", "commit.gpgSign", "true")
    site.pushed(queues_yaml=SCALED)
    (site.folder / "gitconfig").write_text("[user]\n\tname = D\n\temail = d@example.org\n[gpg]\n\tformat = ssh\n")
    site.following = site.made(signers=str(signers))
    await site.look()
    with pytest.raises(Conflict, match="only signed commits are taken"):
        await site.scale(5)
    assert site.text == SCALED


async def test_over_http_git_is_told_the_password_where_nobody_sees_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git in front of the real one writes down every command line, those of its helpers too."""
    site.remote("config", "uploadpack.allowFilter", "true")
    seen = site.folder / "seen"
    real = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    helpers = site.folder / "exec"
    helpers.mkdir()
    for tool in Path(real).iterdir():
        (helpers / tool.name).symlink_to(tool)
    (helpers / "git-remote-http").unlink()
    (helpers / "git-remote-http").write_text(f'#!/bin/sh\necho "$0 $*" >> {seen}\nexec {real}/git-remote-http "$@"\n')
    (helpers / "git-remote-http").chmod(0o755)
    monkeypatch.setenv("GIT_EXEC_PATH", str(helpers))
    with served(site.folder, "ann", "s3cret!/ü'$x") as address:
        site.following = site.made(f"http://ann:s3cret%21%2F%C3%BC'%24x@{address}/remote.git")
        view = await site.look()
        assert (view["error"], view["commit"]) == (None, site.other.head)
        await site.scale()
        assert site.remote.show(commit="main") == SCALED.strip()
        assert "s3cret" not in seen.read_text()
        assert "remote.git" in seen.read_text()
        site.following = site.made(f"http://ann:wrong@{address}/remote.git")
        assert "wrong" not in str((await site.look())["error"])
        assert "Authentication failed" in str((await site.view())["error"])
    stored = [path for path in (site.folder / "git").rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert not stored


async def test_a_password_in_the_url_is_in_no_message_and_no_command_line(site: Site) -> None:
    site.following = site.made("https://ann:s3cret%21@127.0.0.1:1/repo.git")
    view = await site.look()
    assert view["url"] == "https://***@127.0.0.1:1/repo.git"
    assert view["error"]
    assert "s3cret" not in str(view)
    assert "s3cret" not in str(site.following.clone.remote.config())
