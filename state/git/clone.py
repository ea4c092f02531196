"""A clone of the followed branch's newest commit: without history, without other files, and without a work tree.

It is a cache. What is in it can be fetched again, so one that is broken is made anew.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from state.git.commits import FILE_MODE, Listed, listed, make_commit
from state.git.run import Done, Git, GitFailed
from state.origin import Origin

ASK_SECONDS = 30.0  # for a question that is answered in a few bytes
FETCH_SECONDS = 120.0
FAR = 200  # commits that are looked at to see whether a branch went forward or was rewritten
FIRST_SECONDS = 900.0  # a server that cannot filter sends every file of the commit
TIP = "refs/reconciler/tip"
BROKEN = (
    "not a git repository", "corrupt", "bad object", "object file", "loose object", "unable to read tree",
    "missing blob", "missing tree", "bad config", "invalid sha1 pointer",
)  # fmt: skip
# Answers of a remote whose branch has moved since we looked.
MOVED = ("[rejected]", "cannot lock ref", "failed to update ref", "incorrect old value")


class BranchGone(GitFailed):
    """The branch is not at the remote."""


class NotThere(GitFailed):
    """The commit has no such file."""


class Unsigned(GitFailed):
    """The commit has no signature that we trust."""


class Moved(GitFailed):
    """The branch has moved; the push would have lost what others did."""


class PushRefused(GitFailed):
    """The remote does not take the push."""


@dataclass(frozen=True)
class Remote:
    """A remote's address without user and password, which git is told in a way that `ps` does not show."""

    url: str
    user: str = ""
    password: str = ""

    @classmethod
    def parse(cls, url: str) -> Remote:
        parts = urlsplit(url) if url.startswith(("http://", "https://")) else None
        if parts is None or "@" not in parts.netloc:
            return cls(url)
        bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
        return cls(bare, unquote(parts.username or ""), unquote(parts.password or ""))

    @property
    def shown(self) -> str:
        """For people: no password, and no token that stands in a user's place."""
        return self.url.replace("://", "://***@", 1) if self.user or self.password else self.url

    @property
    def is_local(self) -> bool:
        return self.url.startswith(("/", "file://"))

    def config(self) -> dict[str, str]:
        config = {
            "remote.origin.url": self.url,
            "http.lowSpeedLimit": "1000",
            "http.lowSpeedTime": "30",
            "gc.autoDetach": "false",
            "maintenance.autoDetach": "false",
        }
        host = "/".join(self.url.split("/")[:3])
        if self.password:
            said = 'printf "username=%s\\npassword=%s\\n" "$RECONCILER_GIT_USER" "$RECONCILER_GIT_PASSWORD"'
            # The empty one drops the user's helpers, so that none of them stores the password.
            config["credential.helper"] = ""
            config[f"credential.{host}.helper"] = f'!f() {{ test "$1" = get && {said}; }}; f'
        elif self.user:
            config[f"credential.{host}.username"] = self.user
        if self.is_local:  # the other side is a `git` of this machine, and may leave out what we do not want
            allow = "-c uploadpack.allowFilter=true -c uploadpack.allowAnySHA1InWant=true"
            config["remote.origin.uploadpack"] = f"git {allow} upload-pack"
        return config

    def environment(self) -> dict[str, str]:
        if not self.password:
            return {}
        return {"RECONCILER_GIT_USER": self.user, "RECONCILER_GIT_PASSWORD": self.password}

    def secrets(self) -> tuple[str, ...]:
        return (self.password, quote(self.password, safe="")) if self.password else ()


class Clone:
    """The clone in `folder`. Its methods raise GitFailed, or one of the kinds above."""

    def __init__(self, folder: Path, url: str, branch: str | None, path: str, signers: str | None = None) -> None:
        """`signers`: None checks no signature, "" by git's own configuration, else a file of allowed SSH signers."""
        self.remote = Remote.parse(url)
        self.branch = branch  # None until the remote has told its default
        self.path = path
        self._given_branch = branch
        self._signers = signers
        self._filters = False  # does the remote leave out what we do not ask for?
        self._folder = folder
        config: dict[str, str] = self.remote.config()
        if signers:
            config["gpg.ssh.allowedSignersFile"] = signers
        environment = {**self.remote.environment(), "GIT_DIR": str(folder)}
        self._git = Git(folder, config, environment, self.remote.secrets())

    async def prepare(self) -> None:
        """Makes the clone if there is none, and clears what a killed git left behind: the folder is ours alone."""
        await asyncio.to_thread(self._prepare_folder)
        if (await self._git.ask("rev-parse", "--git-dir")).status:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
            await asyncio.to_thread(self._prepare_folder)
        await self._git("init", "-q", "--bare")

    def _prepare_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for lock in self._folder.rglob("*.lock"):
            lock.unlink(missing_ok=True)

    def discard(self) -> None:
        """Deletes the clone. `prepare` makes it anew."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def tip(self) -> str | None:
        """The commit that was fetched last."""
        done = await self._git.ask("rev-parse", "--verify", "-q", f"{TIP}^{{commit}}")
        return done.text or None

    async def fetch(self) -> str:
        """The branch's newest commit, with its trees, and none of its files. Raises BranchGone."""
        known, there = await self.tip(), await self._look()
        if there != known:
            await self._fetch(first=known is None)
        return await self.tip() or there

    async def _look(self) -> str:
        """What the remote says of the branch: one short answer, whatever the repository's size."""
        if self._given_branch:
            there = {left for left, _ in await self._refs(f"refs/heads/{self._given_branch}")}
        else:
            self.branch, there = await self._default()
        if not there or self.branch is None:
            branch = f"branch {self.branch}" if self.branch else "default branch"
            raise BranchGone(f"there is no {branch} at {self.remote.shown} (push it, or set RECONCILER_GIT_BRANCH)")
        return there.pop()

    async def _default(self) -> tuple[str | None, set[str]]:
        """The branch that the remote's HEAD names, and its commit. A bare repository that was made by hand may name
        one that nobody pushed: then its only branch is meant, unless that is another one than was followed before."""
        heads = await self._refs("--symref", "HEAD")
        named = [left.removeprefix("ref: refs/heads/") for left, _ in heads if left.startswith("ref: refs/heads/")]
        if named:
            return named[0], {left for left, _ in heads if not left.startswith("ref:")}
        branches = await self._refs("--heads")
        before = (await self._git.ask("symbolic-ref", "-q", "HEAD")).text if await self.tip() else None
        if len(branches) != 1 or before not in (None, branches[0][1]):
            return None, set()
        return branches[0][1].removeprefix("refs/heads/"), {branches[0][0]}

    async def _refs(self, *words: str) -> list[tuple[str, str]]:
        options = [word for word in words if word.startswith("--")]
        names = [word for word in words if not word.startswith("--")]
        done = await self._git("ls-remote", *options, "origin", *names, seconds=ASK_SECONDS)
        lines = done.out.decode(errors="replace").splitlines()
        return [(left, right) for left, _, right in (line.partition("\t") for line in lines) if right]

    async def _fetch(self, first: bool) -> None:
        done = await self._git(
            "fetch", "-q", "--depth=1", "--filter=blob:none", "--no-tags", "--no-write-fetch-head", "--force",
            "--no-recurse-submodules", "origin", f"refs/heads/{self.branch}:{TIP}",
            seconds=FIRST_SECONDS if first else FETCH_SECONDS,
        )  # fmt: skip
        self._filters = "filtering not recognized" not in done.error
        await self._git("symbolic-ref", "HEAD", f"refs/heads/{self.branch}")

    async def relation(self, commit: str, known: str) -> str | None:
        """How `commit` stands to `known`: forward, or rewritten; None if that is too far to see."""
        if f"parent {known}" in (await self._git("cat-file", "commit", commit)).out.decode(errors="replace"):
            return "forward"
        if not self._filters:  # more commits would bring their files, too
            return None
        await self._git(
            "fetch", "-q", f"--depth={FAR}", "--filter=tree:0", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "origin", f"refs/heads/{self.branch}",
            seconds=FETCH_SECONDS,
        )  # fmt: skip
        if (await self._git.ask("merge-base", "--is-ancestor", known, commit)).status == 0:
            return "forward"
        count = (await self._git("rev-list", "--count", "--first-parent", commit)).text
        return "rewritten" if int(count) < FAR else None

    async def verify(self, commit: str) -> None:
        """Raises Unsigned if the commit has no good signature of somebody we trust."""
        if self._signers is None:
            return
        done = await self._git.ask("verify-commit", commit)
        if done.status:
            why = done.error or "it is not signed"
            raise Unsigned(f"commit {commit[:12]} is not signed by anyone that RECONCILER_GIT_VERIFY allows: {why}")

    async def content(self, commit: str) -> bytes:
        """The file at that commit. Raises NotThere."""
        found = await listed(self._git, commit, self.path)
        if found is None or found.kind != "blob" or found.mode == "120000":
            kinds = {"tree": "a folder", "commit": "a submodule", "blob": "a symbolic link"}
            what = f"{self.path} is {kinds[found.kind]}" if found else f"there is no {self.path}"
            raise NotThere(f"{what} at commit {commit[:12]} of {self.branch} (set RECONCILER_GIT_PATH)")
        return (await self._git("cat-file", "blob", found.oid, seconds=FETCH_SECONDS)).out

    async def author(self, commit: str) -> str:
        return (await self._git("log", "-1", "--no-show-signature", "--format=%an <%ae>", commit)).text

    async def commit(self, parent: str, data: bytes, message: str, author: Origin) -> str:
        """A commit on `parent` in which the file is `data`; nothing moves yet."""
        known = await listed(self._git, parent, self.path)
        blob = (await self._git("hash-object", "-w", "--stdin", stdin=data)).text
        new = Listed(known.mode if known and known.kind == "blob" else FILE_MODE, "blob", blob)
        try:
            made = await make_commit(self._git, parent, self.path, new, message, author, sign=self._signers is not None)
        except GitFailed as error:
            if self._signers is None:
                raise
            way_out = "git config --global user.signingKey"
            raise PushRefused(
                f"only signed commits are taken, and none can be made here: {error} ({way_out})"
            ) from None
        await self.verify(made)
        return made

    async def push(self, commit: str, parent: str) -> None:
        """Moves the remote's branch from `parent` to its child `commit`. Raises Moved, PushRefused.

        The lease forces nothing, as a child is a step forward; it keeps a branch that was deleted from coming back.
        """
        branch = f"refs/heads/{self.branch}"
        done = await self._git.ask(
            "push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no",
            f"--force-with-lease={branch}:{parent}", "origin", f"{commit}:{branch}",
            seconds=FETCH_SECONDS,
        )  # fmt: skip
        if done.status:
            raise self._refusal(done)
        await self._git("update-ref", TIP, commit)

    def _refusal(self, done: Done) -> GitFailed:
        said = next((line for line in done.text.splitlines() if line.startswith("!")), "").split("\t")[-1]
        if any(sign in said for sign in MOVED):
            return Moved(f"{self.branch} has moved at {self.remote.shown}")
        if "[remote rejected]" in said:
            why = said.partition("]")[2].strip(" ()")
            return PushRefused(
                f"{self.remote.shown} does not take the push to {self.branch}: {why}; {done.error}"[:500]
            )
        return GitFailed(f"git push: {done.error or said}")

    async def folder(self, commit: str, path: str) -> str | None:
        """The object id of the folder at `path`; None if there is none."""
        found = await listed(self._git, commit, path)
        return found.oid if found and found.kind == "tree" else None

    async def check_out(self, tree: str, into: Path) -> None:
        """Writes the files of a tree into the new folder `into`."""
        await asyncio.to_thread(into.mkdir, mode=0o755, parents=True)
        index = into.parent / f".{into.name}.index"
        env = {"GIT_WORK_TREE": str(into), "GIT_INDEX_FILE": str(index)}
        try:
            await self._git("read-tree", "-u", "--reset", tree, env=env, seconds=FIRST_SECONDS)
        finally:
            index.unlink(missing_ok=True)

    def is_broken(self, error: GitFailed) -> bool:
        return any(sign in str(error) for sign in BROKEN)
