"""The git work tree that the file lies in: which commit the file is of, and a commit for each write.

A commit holds the edit alone. What else has changed in the file and was not committed stays so: the edit is done once
more, on the text of HEAD, and on the staged text if that is another.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from state.git.commits import FILE_MODE, Listed, listed, make_commit
from state.git.run import Git, GitFailed
from state.origin import Origin

TRIES = 5
LOCK_SECONDS = 2.0  # how long another git process may hold a lock before we give up
IGNORED_SECONDS = 5  # how long the answer to "is it ignored?" holds
UNDER_WAY = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
}

Edit = Callable[[bytes], bytes]
Message = Callable[[bytes | None, bytes], str]


class CannotCommit(Exception):
    """The work tree takes no commit now; the file is written all the same. The message says why and what to do."""


class DoesNotApply(CannotCommit):
    """The edit needs what is changed in the file and not committed: no later try of ours helps."""


@dataclass(frozen=True)
class Place:
    """Where the file is in its repository."""

    root: Path
    git_folder: Path
    path: str  # within the repository, with slashes


def signs_of_git(folder: Path) -> object | None:
    """What git's answer for a folder depends on, cheap to read; None if there is no repository around it."""
    told = [os.environ.get(name) for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_CEILING_DIRECTORIES")]
    for above in (folder, *folder.parents):
        sign = above / ".git"  # a folder, or a file that names one
        if there := identity_of(sign):
            return told, sign, there, stamp(sign / "config") or stamp(sign)
    return told if any(told) else None


def identity_of(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class WorkTree:
    """The work tree around `file`, looked up anew each time: it may be made, moved or taken away meanwhile.

    Git is asked only if something has changed that its answer depends on: this is looked up in each turn.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: tuple[object, Place] | None = None  # and what it depended on
        self._judged: tuple[object, str | None] | None = None  # whether git ignores the file, and as of when

    async def place(self) -> Place | None:
        """None if the file is in no work tree. Raises GitFailed if git does not tell, as in somebody else's folder."""
        real = Path(os.path.realpath(self._file))
        signs = signs_of_git(real.parent)
        if signs is None:
            return None
        if self._found is not None and self._found[0] == (real, signs):
            return self._found[1]
        git = Git(real.parent)
        done = await git.ask("rev-parse", "--show-toplevel", "--absolute-git-dir", "--show-prefix")
        if done.status:
            if "not a git repository" in done.error or "must be run in a work tree" in done.error:
                return None
            raise GitFailed(done.error)
        root, folder, prefix = [*done.out.decode(errors="surrogateescape").split("\n"), "", ""][:3]
        place = Place(Path(root), Path(folder), prefix + real.name)
        self._found = (real, signs), place
        return place

    async def commit_of(self, data: bytes) -> str | None:
        """HEAD, if the file is there as in `data`; None if it is not, or not in git."""
        place = await self.place()
        if place is None:
            return None
        git = Git(place.root)
        head = await git.ask("rev-parse", "--verify", "-q", "HEAD^{commit}")
        known = await listed(git, head.text, place.path) if head.status == 0 else None
        blob = await git("hash-object", f"--path={place.path}", "--stdin", stdin=data) if known else None
        return head.text if known and blob and blob.text == known.oid else None

    async def author_of(self, commit: str) -> str | None:
        place = await self.place()
        return await author_of(Git(place.root), commit) if place else None

    async def branch(self, place: Place) -> str | None:
        """The branch that is checked out; None while HEAD is detached. Asked for often, so git is asked seldom."""
        with suppress(OSError):
            head = (await asyncio.to_thread((place.git_folder / "HEAD").read_bytes)).decode(errors="replace")
            if ".invalid" not in head:  # which is what a repository of another format has there
                return head.strip().removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None
        return (await Git(place.root).ask("symbolic-ref", "-q", "--short", "HEAD")).text or None

    def signature(self, place: Place) -> tuple[tuple[int, int] | None, ...]:
        """Differs whenever HEAD may have moved; cheap."""
        names = ("HEAD", "index", "logs/HEAD")
        return tuple(stamp(place.git_folder / name) for name in names)

    async def why_not(self, place: Place) -> str | None:
        """Why the work tree takes no commit now."""
        git = Git(place.root)
        for name, what in UNDER_WAY.items():
            if (place.git_folder / name).exists():
                return f"{what} is under way in {place.root} (finish or abort it)"
        if await self.branch(place) is None:
            return f"HEAD of {place.root} is detached (git switch BRANCH)"
        return await self._ignored(git, place)

    async def _ignored(self, git: Git, place: Place) -> str | None:
        key = (place, self.signature(place), time.monotonic() // IGNORED_SECONDS)
        if self._judged is None or self._judged[0] != key:
            self._judged = key, await self._why_ignored(git, place)
        return self._judged[1]

    async def _why_ignored(self, git: Git, place: Place) -> str | None:
        tracked = (await git.ask("ls-files", "--error-unmatch", "--", f":(literal){place.path}")).status == 0
        if not tracked and (await git.ask("check-ignore", "-q", "--", place.path)).status == 0:
            return f"{place.path} is ignored by git (take it out of .gitignore, or git add -f it)"
        return None

    async def commit(self, edit: Edit, before: bytes | None, after: bytes, message: Message, author: Origin) -> str:
        """Commits the edit that made `after` of `before`; the commit that holds it. Raises CannotCommit, GitFailed."""
        place = await self.place()
        if place is None:
            raise CannotCommit(f"{self._file} is in no git work tree (git init, or RECONCILER_GIT=off)")
        if why := await self.why_not(place):
            raise CannotCommit(why)
        return await patiently(lambda: self._commit(place, edit, before, after, message, author))

    async def _commit(
        self, place: Place, edit: Edit, before: bytes | None, after: bytes, message: Message, author: Origin
    ) -> str | None:
        """None if HEAD moved meanwhile."""
        git = Git(place.root)
        head = (await git.ask("rev-parse", "--verify", "-q", "HEAD^{commit}")).text or None
        known = await listed(git, head, place.path) if head else None
        base = await text_of(git, known.oid, place.path) if known else None
        data = after if base is None or base == before else redone(edit, base, place)
        new = Listed(known.mode if known else FILE_MODE, "blob", await written(git, place.path, data))
        if head and known and new.oid == known.oid:
            return head
        made = await make_commit(git, head, place.path, new, message(base, data), author)
        await stage(git, place, edit, known, new)
        moved = await git.ask("update-ref", "-m", "commit: queue-reconciler", "HEAD", made, head or "0" * len(made))
        if moved.status and "but expected" not in moved.error:
            raise GitFailed(moved.error)
        return None if moved.status else made


async def patiently(attempt: Callable[[], Awaitable[str | None]]) -> str:
    """Tries again while HEAD moves and while somebody else holds a lock for a moment."""
    deadline = time.monotonic() + LOCK_SECONDS
    moves = 0
    while True:
        try:
            if (made := await attempt()) is not None:
                return made
            moves += 1
            if moves == TRIES:
                raise CannotCommit("HEAD keeps moving (commit the file by hand when the other writer is done)")
        except GitFailed as error:
            if ".lock" not in str(error):
                raise
            if time.monotonic() > deadline:
                raise CannotCommit(f"another git process holds a lock (delete it if none runs): {error}") from None
            await asyncio.sleep(0.1)


async def stage(git: Git, place: Place, edit: Edit, known: Listed | None, new: Listed) -> None:
    """Brings the edit into the index, before HEAD moves, so that a crash between them leaves it staged and no more."""
    entry = (await git("ls-files", "-s", "-z", "--", f":(literal){place.path}")).out.split(b"\0")[0].split()
    staged = entry[1].decode() if len(entry) > 2 else None
    oid = new.oid
    if staged and known and staged != known.oid:  # somebody has staged something of their own
        try:
            oid = await written(git, place.path, redone(edit, await text_of(git, staged, place.path), place))
        except CannotCommit:
            return
    await git("update-index", "--add", "--cacheinfo", f"{new.mode},{oid},{place.path}")


def redone(edit: Edit, base: bytes, place: Place) -> bytes:
    try:
        return edit(base)
    except Exception as error:  # whatever the edit says of a text that it was not asked for
        raise DoesNotApply(
            f"{place.path} has changes that are not committed, and without them the edit does not apply ({error}; "
            f"commit the file by hand)"
        ) from None


async def written(git: Git, path: str, data: bytes) -> str:
    return (await git("hash-object", "-w", f"--path={path}", "--stdin", stdin=data)).text


async def text_of(git: Git, blob: str, path: str) -> bytes:
    """A blob as a checkout would write it."""
    return (await git("cat-file", "--filters", f"--path={path}", blob)).out


async def author_of(git: Git, commit: str) -> str:
    return (await git("log", "-1", "--no-show-signature", "--format=%an <%ae>", commit)).text


def stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
