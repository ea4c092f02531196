"""The file on this machine. If it lies in a git work tree, we know its commit; if asked to, each write is one."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loguru import logger as log

from reconciler.source.base import Note, message_of
from state.file import DesiredFile, Edit, Snapshot, Written, edited
from state.git import CannotCommit, DoesNotApply, GitFailed, WorkTree
from state.git.worktree import Place
from state.origin import FILE, GIT, Origin

AGAIN_SECONDS = 5.0  # until a write that could not be committed is tried again
MOST_WAITING = 100  # writes that wait for their commit; the oldest then stay uncommitted


@dataclass(frozen=True)
class Waiting:
    """A write that is in the file and not in git yet."""

    edit: Callable[[bytes], bytes]
    before: bytes | None
    after: bytes
    origin: Origin


class Local:
    """`commits`: each write is to be a commit. A write never fails because of git; what does is told in `view`."""

    def __init__(self, file: DesiredFile, commits: bool, note: Note) -> None:
        self._file = file
        self._commits = commits
        self._note = note
        self._tree = WorkTree(file.path)
        self._lock = asyncio.Lock()
        self._waiting: deque[Waiting] = deque(maxlen=MOST_WAITING)
        self._woken = asyncio.Event()
        self._place: tuple[float, Place | None] | None = None
        self._known: tuple[object, str | None] | None = None
        self._error: str | None = None

    async def write(
        self, edit: Edit, origin: Origin, *, may_create: bool = False, only_if: Collection[str] | None = None
    ) -> Written:
        name = self._file.path.name

        def again(base: bytes) -> bytes:
            return edited(Snapshot(base, 0), edit, name, may_create=may_create)

        async with self._lock:
            written = await asyncio.to_thread(self._file.edit, edit, may_create=may_create, only_if=only_if)
            await self._done(written, again, origin)
        return written

    async def replace(self, data: bytes, origin: Origin, *, only_if: Collection[str] | None = None) -> Written:
        async with self._lock:
            written = await asyncio.to_thread(self._file.put, data, only_if=only_if)
            await self._done(written, lambda _: data, origin)
        return written

    async def _done(self, written: Written, edit: Callable[[bytes], bytes], origin: Origin) -> None:
        if written.after == written.before:
            return
        self._note(written.revision, origin, None)
        if self._commits:
            self._waiting.append(Waiting(edit, written.before, written.after, origin))
            if (commit := await self._commit_all()) is not None:
                self._note(written.revision, origin, commit)

    async def _commit_all(self) -> str | None:
        """Commits what waits, the oldest first; the last commit, if nothing waits any more."""
        commit, stays = None, None
        while self._waiting:
            try:
                commit = await self._commit(self._waiting[0])
            except DoesNotApply as error:
                commit, stays = None, f"not committed: {error}"
            except (CannotCommit, GitFailed, OSError, ValueError) as error:
                self._fail(f"not committed: {error}")
                self._woken.set()
                return None
            self._waiting.popleft()
        self._error = None
        if stays:
            self._fail(stays)
        return commit

    async def _commit(self, one: Waiting) -> str:
        def message(base: bytes | None, data: bytes) -> str:
            return message_of(one.origin, one.before if base is None else base, data)

        return await self._tree.commit(one.edit, one.before, one.after, message, one.origin)

    def _fail(self, error: str) -> None:
        if error != self._error:
            log.warning("{}: {}", self._file.path.name, error)
        self._error = error

    async def settled(self) -> None:
        async with self._lock:
            pass

    async def run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await asyncio.sleep(AGAIN_SECONDS)
            async with self._lock:
                await self._drop_what_others_committed()
                await self._commit_all()

    async def _drop_what_others_committed(self) -> None:
        snapshot = await asyncio.to_thread(self._file.snapshot)
        if self._waiting and snapshot.data is not None and await self.commit_of(snapshot.data):
            self._waiting.clear()

    def admits(self, revision: str) -> str | None:
        return None

    def look(self) -> None:
        """Whatever is on disk is the truth."""

    # -- what is known -------------------------------------------------------------------------------------------

    async def origin_of(self, data: bytes) -> Origin:
        commit, author = await self.commit_of(data), None
        with suppress(GitFailed):
            author = await self._tree.author_of(commit) if commit else None
        return Origin(GIT, author) if author else Origin(FILE, await asyncio.to_thread(self._owner))

    def _owner(self) -> str | None:
        try:
            uid = os.stat(self._file.path).st_uid
        except OSError:
            return None
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    async def commit_of(self, data: bytes) -> str | None:
        try:
            place = await self._find()
            if place is None:
                return None
            key = (place, self._tree.signature(place), hash(data))
            if self._known is None or self._known[0] != key:
                self._known = key, await self._tree.commit_of(data)
            return self._known[1]
        except GitFailed as error:
            self._fail(str(error))
            return None

    async def _find(self) -> Place | None:
        """The place in git, asked for again when it may be another one: a folder can become a repository."""
        now = time.monotonic()
        if self._place is None or now - self._place[0] > AGAIN_SECONDS:
            self._place = now, await self._tree.place()
        return self._place[1]

    async def view(self, data: bytes) -> dict[str, Any] | None:
        commit = await self.commit_of(data)
        place = self._place[1] if self._place else None
        if place is None and not self._commits and self._error is None:
            return None
        return {
            "mode": "commit" if self._commits else "off",
            "repository": str(place.root) if place else None,
            "path": place.path if place else None,
            "branch": await self._tree.branch(place) if place else None,
            "commit": commit,
            "uncommitted_writes": len(self._waiting),
            "error": self._error or await self._why_not(place),
        }

    async def _why_not(self, place: Place | None) -> str | None:
        """Why the next write would not be committed."""
        if not self._commits:
            return None
        if place is None:
            return f"{self._file.path} is in no git work tree (git init its folder, or set RECONCILER_GIT=off)"
        try:
            return await self._tree.why_not(place)
        except GitFailed as error:
            return str(error)
