"""Writes of a file in a git work tree, each a commit: whatever state the work tree, git or the caller is in."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from reconciler.source import Local
from reconciler.source import local as module
from reconciler.web.edits import create_queue, set_counts
from state.file import DesiredFile
from state.origin import API, Origin
from tests.repositories import Repository
from tests.waiting import async_eventually

TEXT = "version: 1\nqueues:\n  emails: {workers: {echo: 2}}\n"
SCALED = TEXT.replace("echo: 2", "echo: 1")
ANN = Origin(API, "Ünï Ann <uni@example.org>")


class Site:
    """A repository with a committed queues.yaml and other work in it, and the source that writes the file."""

    def __init__(self, folder: Path, repository: bool = True) -> None:
        self.file = folder / "queues.yaml"
        folder.mkdir(exist_ok=True)
        self.noted: list[tuple[str, Origin, str | None]] = []
        self.local = Local(DesiredFile(self.file), True, lambda *note: self.noted.append(note))
        if repository:
            self.git = Repository(folder)
            self.git.commit("start", queues_yaml=TEXT, other="one\n")
        else:
            self.file.write_text(TEXT)

    async def scale(self, count: int = 1, origin: Origin = ANN) -> None:
        await self.local.write(set_counts("emails", {"echo": count}), origin)

    async def error(self) -> str:
        view = await self.local.view(self.file.read_bytes())
        assert view is not None
        return str(view["error"])

    async def waiting(self) -> int:
        view = await self.local.view(self.file.read_bytes())
        return int(view["uncommitted_writes"]) if view else 0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has told this git who they are."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))


async def test_a_write_is_a_commit_and_is_told_with_it(site: Site) -> None:
    await site.scale()
    assert site.git.log("%an <%ae> %cn: %s", "-1") == ["Ünï Ann <uni@example.org> Ann: scale emails/echo 2 → 1"]
    assert site.git.show() == site.file.read_text().strip() == SCALED.strip()
    assert site.noted[-1][1:] == (ANN, site.git.head)
    assert await site.local.commit_of(site.file.read_bytes()) == site.git.head


async def test_a_write_that_changes_nothing_is_no_commit(site: Site) -> None:
    await site.scale(2)
    assert (site.git.log(), site.noted) == (["start"], [])


async def test_changes_by_hand_that_are_not_committed_stay_so(site: Site) -> None:
    site.file.write_text(TEXT + "  mine: {}\n")
    await site.scale()
    assert site.git.show() == SCALED.strip()
    assert site.git("diff", "--", "queues.yaml").splitlines()[-1] == "+  mine: {}"
    assert site.git("diff", "--cached") == ""
    assert await site.local.commit_of(site.file.read_bytes()) is None


async def test_what_is_staged_of_the_file_itself_stays_staged(site: Site) -> None:
    site.file.write_text(TEXT + "  mine: {}\n")
    site.git("add", "queues.yaml")
    site.file.write_text(TEXT + "  mine: {}\n  more: {}\n")
    await site.scale()
    assert site.git.show() == SCALED.strip()
    assert changed(site.git("diff", "--cached")) == ["+  mine: {}"]
    assert changed(site.git("diff")) == ["+  more: {}"]


def changed(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]


async def test_an_edit_of_what_is_not_committed_waits_for_that_commit(site: Site) -> None:
    site.file.write_text(TEXT + "  mine: {}\n")
    await site.local.write(set_counts("mine", {"echo": 1}), ANN)
    assert "commit the file by hand" in await site.error()
    assert site.git.log() == ["start"]
    site.git.commit("by hand")
    await site.scale()
    assert site.git.log() == ["scale emails/echo 2 → 1", "by hand", "start"]
    assert await site.error() == "None"


def merge(git: Repository, command: str) -> None:
    git("switch", "-q", "-c", "side")
    git.commit("side", other="side\n")
    git("switch", "-q", "main")
    git.commit("main", other="main\n")
    with pytest.raises(AssertionError):
        git(command, "side")


def block(git: Repository, why: str) -> list[list[str]]:
    """Brings the work tree into a state that takes no commit; the git commands that end it."""
    if why == "is detached":
        git("checkout", "-q", "--detach")
        return [["switch", "-q", "main"]]
    command = why.split()[1]
    merge(git, command)
    resolve = ["checkout", "-q", "HEAD", "--", "other"]
    if command == "rebase":
        return [resolve, ["rebase", "--quit"], ["symbolic-ref", "HEAD", "refs/heads/main"]]
    return [resolve, ["merge", "--quit"] if command == "merge" else ["cherry-pick", "--quit"]]


@pytest.mark.parametrize(
    "why", ["a merge is under way", "a rebase is under way", "a cherry-pick is under way", "is detached"]
)
async def test_a_work_tree_that_takes_no_commit_takes_the_write_and_the_commit_follows(
    site: Site, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)
    end = block(site.git, why)
    running = asyncio.create_task(site.local.run())
    head = site.git.head
    await site.scale()
    assert site.file.read_text() == SCALED
    assert (site.git.head, await site.waiting()) == (head, 1)
    assert why in await site.error()
    for command in end:
        site.git(*command)

    async def is_done() -> bool:
        return not await site.waiting()

    await async_eventually(is_done)
    running.cancel()
    assert site.git.log("%s", "-1") == ["scale emails/echo 2 → 1"]
    assert await site.error() == "None"


async def test_a_write_that_somebody_else_has_committed_is_not_committed_again(site: Site) -> None:
    site.git("checkout", "-q", "--detach")
    await site.scale()
    await site.local.write(create_queue("a", {}), ANN)
    site.git("switch", "-q", "main")
    head = site.git.commit("by hand")
    await site.local.write(create_queue("b", {}), ANN)
    assert site.git.log()[:2] == ["create queue b", "by hand"]
    assert site.git.head != head


async def test_a_lock_that_is_held_for_a_moment_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("state.git.worktree.LOCK_SECONDS", 60.0)  # the moment is a long one on a busy machine
    lock = site.git.folder / ".git/index.lock"
    lock.touch()
    asyncio.get_running_loop().call_later(0.5, lock.unlink)
    await site.scale()
    assert site.git.log("%s", "-1") == ["scale emails/echo 2 → 1"]


async def test_a_lock_that_nobody_gives_back_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("state.git.worktree.LOCK_SECONDS", 0.2)
    (site.git.folder / ".git/index.lock").touch()
    await site.scale()
    assert "index.lock" in await site.error()
    assert site.git.log() == ["start"]


async def test_a_file_that_git_ignores_is_not_committed_and_says_so(site: Site) -> None:
    site.git("rm", "-q", "--cached", "queues.yaml")
    site.git.write(".gitignore", "queues.yaml\n")
    site.git.commit("ignored")
    await site.scale()
    assert "ignored by git" in await site.error()
    assert site.git.log("%s", "-1") == ["ignored"]


async def test_an_untracked_file_is_committed_with_the_first_write(site: Site) -> None:
    site.git("rm", "-q", "--cached", "queues.yaml")
    site.git("commit", "-q", "-m", "untracked")
    await site.scale()
    assert (site.git.log("%s", "-1"), site.git.show()) == (["scale emails/echo 2 → 1"], SCALED.strip())


async def test_a_repository_without_a_commit_gets_its_first(tmp_path: Path) -> None:
    site = Site(tmp_path / "new", repository=False)
    git = Repository(tmp_path / "new")
    await site.scale()
    assert git.log() == ["scale emails/echo 2 → 1"]


async def test_in_no_work_tree_writes_go_on_and_the_state_says_what_is_missing(tmp_path: Path) -> None:
    site = Site(tmp_path / "plain", repository=False)
    await site.scale()
    assert site.file.read_text() == SCALED
    assert "in no git work tree" in await site.error()
    assert await site.local.commit_of(site.file.read_bytes()) is None


async def test_without_git_at_hand_writes_go_on(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    await site.scale()
    assert site.file.read_text() == SCALED
    assert "install it" in await site.error()


@pytest.mark.usefixtures("nobody")
async def test_the_folder_of_somebody_else_is_named_with_what_git_wants(site: Site) -> None:
    for path in (site.git.folder, site.git.folder / ".git"):
        os.chown(path, 12345, 12345)
    await site.scale()
    assert site.file.read_text() == SCALED
    assert "dubious ownership" in await site.error()


async def test_hooks_of_the_repository_do_not_run(site: Site) -> None:
    for name in ("pre-commit", "commit-msg", "post-commit", "reference-transaction"):
        site.git.write(f".git/hooks/{name}", "#!/bin/sh\ntouch hook-ran\nexit 1\n")
        (site.git.folder / ".git/hooks" / name).chmod(0o755)
    await site.scale()
    assert site.git("rev-list", "--count", "HEAD") == "2"
    assert not list(site.git.folder.rglob("hook-ran"))


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("who", [None, "...", "<>", "x" * 500, "<only@mail>", "no mail", "half <", "ü"])
async def test_a_caller_of_any_name_can_write_where_nobody_is_configured(site: Site, who: str | None) -> None:
    site.git("config", "--unset", "user.email")
    site.git("config", "--unset", "user.name")
    await site.scale(1, Origin(API, who))
    (author,) = site.git.log("%an|%ae|%cn", "-1")
    assert author.endswith("|queue-reconciler")
    assert "@" in author


async def test_a_submodule_gets_its_own_commits(site: Site, tmp_path: Path) -> None:
    outer = Repository(tmp_path / "outer")
    outer("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(site.git.folder), "inner")
    outer("commit", "-q", "-m", "submodule")
    inner = outer.folder / "inner"
    local = Local(DesiredFile(inner / "queues.yaml"), True, lambda *_: None)
    await local.write(set_counts("emails", {"echo": 1}), ANN)
    assert outer("-C", str(inner), "log", "-1", "--format=%s") == "scale emails/echo 2 → 1"
    assert outer.log() == ["submodule"]


async def test_in_another_work_tree_of_a_repository_its_own_branch_moves(site: Site, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    site.git("worktree", "add", "-q", "-b", "live", str(tree))
    link = tmp_path / "link.yaml"
    link.symlink_to(tree / "queues.yaml")
    local = Local(DesiredFile(link), True, lambda *_: None)
    await local.write(set_counts("emails", {"echo": 1}), ANN)
    assert site.git.log("%s", "-1", "live") == ["scale emails/echo 2 → 1"]
    assert site.git.log("%s", "-1", "main") == ["start"]
    assert site.git("-C", str(tree), "status", "--short") == ""
    view = await local.view(link.read_bytes())
    assert view is not None
    assert view["branch"] == "live"


async def test_line_endings_are_converted_as_the_repository_says(site: Site) -> None:
    site.git.write(".gitattributes", "queues.yaml text eol=crlf\n")
    site.file.write_bytes(TEXT.replace("\n", "\r\n").encode())
    site.git.commit("crlf")
    assert await site.local.commit_of(site.file.read_bytes()) == site.git.head
    await site.scale()
    assert "\r" not in site.git("cat-file", "-p", "HEAD:queues.yaml")
    assert b"echo: 1}}\r\n" in site.file.read_bytes()
    assert site.git("status", "--short") == ""


async def test_a_commit_is_signed_where_git_is_told_to_sign(site: Site, tmp_path: Path) -> None:
    key = signing_key(tmp_path)
    for name, value in (("gpg.format", "ssh"), ("user.signingKey", str(key)), ("commit.gpgSign", "true")):
        site.git("config", name, value)
    await site.scale()
    assert "BEGIN SSH SIGNATURE" in site.git("cat-file", "commit", "HEAD")


def signing_key(folder: Path) -> Path:
    import subprocess

    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann@example.org", "-f", key], check=True)
    return key


@pytest.mark.parametrize("place", ["folder", "branch"])
async def test_names_that_are_not_utf8_are_names(tmp_path: Path, place: str) -> None:
    git = Repository(tmp_path / "site")
    name = os.fsdecode(b"caf\xe9")
    folder = git.folder / name if place == "folder" else git.folder
    folder.mkdir(exist_ok=True)
    (folder / "queues.yaml").write_text(TEXT)
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    if place == "branch":
        git("switch", "-qc", name)
    local = Local(DesiredFile(folder / "queues.yaml"), True, lambda *_: None)
    await local.write(set_counts("emails", {"echo": 1}), ANN)
    assert (await local.view((folder / "queues.yaml").read_bytes()) or {})["error"] is None
    assert git.log() == ["scale emails/echo 2 → 1", "start"]
    assert git("status", "--porcelain") == ""
