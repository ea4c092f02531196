"""The file of a branch of a remote repository. What the branch says is the truth; the file on this machine is its copy.

A look at the remote, on an interval or when its push hook calls, brings the newest commit's file here, and the loop
sees a file that has changed. A write is a commit on the newest commit, pushed, and only then in the copy: so whatever
fails, the copy says what the remote says. If the branch has moved, the edit is done again on what is there now.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

from loguru import logger as log

from reconciler.errors import Temporary
from reconciler.events import Events
from reconciler.settings import Followed
from reconciler.source.base import Note, message_of
from reconciler.source.checkout import Workers
from state.file import Conflict, DesiredFile, Edit, Snapshot, WriteFailed, Written, edited, refuse_others
from state.git import Clone, GitFailed, Moved, NotThere, PushRefused
from state.git.refs import read_state, write_state
from state.history import SUPERSEDED, History
from state.origin import FILE, GIT, Origin
from state.reader import revision_of
from state.units import iso

TRIES = 3  # how often an edit is done again on a branch that others keep moving
JITTER = 0.1  # of the interval, so that many daemons do not ask at the same moment
PATIENCE_SECONDS = 20.0  # how long a write waits for a look at the remote that is under way
RESTORE_SECONDS = 0.5  # how long a file that somebody else changed here stands before it is set back


class RemoteUnreachable(Temporary):
    """The remote repository cannot be reached, so nothing was changed (see /status)."""


class Following:
    """`history` keeps what the remote's file takes the place of, where that was not of the remote."""

    def __init__(
        self,
        followed: Followed,
        folder: Path,
        file: DesiredFile,
        note: Note,
        history: History,
        events: Events,
        on_news: Callable[[], None],
    ) -> None:
        self._followed = followed
        self._file = file
        self._note = note
        self._history = history
        self._events = events
        self._on_news = on_news
        self.clone = Clone(folder / "clone", followed.url, followed.branch, followed.path, followed.signers)
        self._workers = Workers(folder, followed)
        self._state_file = folder / "state.json"
        self._lock = asyncio.Lock()
        self._woken = asyncio.Event()
        self._asked = True  # is a look at the remote wanted before the interval is over?
        self._ready = False
        self.looks = 0  # at the remote, that have ended
        self._error: str | None = None
        self._moved: str | None = None
        self._seen: str | None = None  # the branch's newest commit
        self._checked_at: float | None = None
        # The newest commit that is taken: its file is the copy. None until the first one ever.
        self._commit, self._revision = read_state(self._state_file, self.clone.remote.url, followed.path)
        self._here = self._revision  # what was put here last: where the disk refused, it is of an older commit

    # -- looking -------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Asks for a look at the remote now. Many at once are one."""
        self._asked = True
        self._woken.set()

    def look(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        due = 0.0
        while True:
            if self._asked or time.monotonic() >= due:
                self._asked = False
                async with self._lock:
                    await self._round()
                self.looks += 1
                due = time.monotonic() + self._followed.interval * random.uniform(1 - JITTER, 1 + JITTER)
            await self._restore()
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _round(self) -> None:
        try:
            await self._fetch()
        except GitFailed as error:
            self._fail(error)
            if self.clone.is_broken(error) and self._ready:
                self._ready, self._asked = False, True
                await asyncio.to_thread(self.clone.discard)
        except OSError as error:
            self._fail(GitFailed(f"the copy cannot be kept: {error.strerror} ({error.filename})"))
        except WriteFailed as error:
            self._fail(GitFailed(str(error)))
        else:
            self._error = None

    def _fail(self, error: GitFailed) -> None:
        if str(error) != self._error:
            log.warning("git: {}", error)
            self._events.tell("git", str(error))
        self._error = str(error)

    async def _fetch(self) -> None:
        """Takes the branch's newest commit, if it is another one and may be taken."""
        if not self._ready:
            await self.clone.prepare()
            self._ready = True
        self._seen = await self.clone.fetch()
        self._checked_at = time.time()
        if self._seen != self._commit or self._revision is None:
            await self._take(self._seen)

    async def _take(self, commit: str) -> None:
        await self.clone.verify(commit)
        data = await self.clone.content(commit)
        await self._workers.follow(self.clone, commit)
        if self._commit is not None:
            self._moved = await self.clone.relation(commit, self._commit)
        origin = Origin(GIT, await self.clone.author(commit))
        await self._adopt(commit, data, origin)
        text = f"{self.clone.branch} is at {commit[:12]}" + (
            ", and was rewritten" if self._moved == "rewritten" else ""
        )
        log.info("git: {}", text)
        self._events.tell("git", text, commit=commit)

    async def _adopt(self, commit: str, data: bytes, origin: Origin) -> Written:
        """The file of `commit` becomes the copy."""
        revision = revision_of(data)
        self._note(revision, origin, commit)
        before = await asyncio.to_thread(self._file.snapshot)
        if before.data is not None and before.revision not in (self._here, self._revision, revision):
            await self._keep(before)
        self._commit, self._revision = commit, revision
        written = await asyncio.to_thread(self._file.put, data)
        self._here = revision
        await asyncio.to_thread(self._remember)
        self._on_news()
        return written

    def _remember(self) -> None:
        """For a start without the remote; with it, the branch tells it again."""
        try:
            write_state(self._state_file, self.clone.remote.url, self._followed.path, self._commit, self._revision)
        except OSError as error:
            log.warning("{} cannot be written: {}", self._state_file, error.strerror)

    async def _keep(self, foreign: Snapshot) -> None:
        reason = f"it was changed on this machine, and the file follows {self.clone.remote.shown}"
        data = foreign.data or b""
        kept = Origin(FILE, None, "changed here, set back to the branch")
        await asyncio.to_thread(self._history.keep, kept, data, time.time(), result=SUPERSEDED, reason=reason)
        log.warning(
            "{}: {}; it is set back, and the change is in the history as {}",
            self._file.path.name,
            reason,
            foreign.revision[:12],
        )
        self._events.tell("git", f"{reason}; the change is in the history as {foreign.revision[:12]}")

    async def _restore(self) -> None:
        """Sets the copy back if somebody changed it here."""
        if self._commit is None or (await asyncio.to_thread(self._file.snapshot)).revision == self._revision:
            return
        await asyncio.sleep(RESTORE_SECONDS)  # an editor that is still writing
        async with self._lock:
            snapshot = await asyncio.to_thread(self._file.snapshot)
            if snapshot.revision == self._revision:
                return
            try:
                data = await self.clone.content(self._commit)
                await self._adopt(self._commit, data, Origin(GIT, await self.clone.author(self._commit)))
            except (GitFailed, WriteFailed) as error:
                self._fail(GitFailed(f"{self._file.path.name} was changed here and cannot be set back: {error}"))

    # -- writing -------------------------------------------------------------------------------------------------

    async def write(
        self, edit: Edit, origin: Origin, *, may_create: bool = False, only_if: Collection[str] | None = None
    ) -> Written:
        name = self._file.path.name
        return await self._push(lambda before: edited(before, edit, name, may_create=may_create), origin, only_if)

    async def replace(self, data: bytes, origin: Origin, *, only_if: Collection[str] | None = None) -> Written:
        return await self._push(lambda _: data, origin, only_if)

    async def _push(
        self, make: Callable[[Snapshot], bytes], origin: Origin, only_if: Collection[str] | None
    ) -> Written:
        async with self._one_at_a_time():
            for _ in range(TRIES):
                try:
                    return await self._try(make, origin, only_if)
                except Moved:
                    await self._round()
                    if self._error:
                        break
                except PushRefused as error:
                    raise Conflict(str(error)) from None
                except GitFailed as error:
                    self._fail(error)
                    raise RemoteUnreachable(f"not pushed: {error} (the file is what the branch says)") from None
            if self._error:
                raise Conflict(f"the branch has moved, and cannot be written on: {self._error}")
            raise Conflict(f"{self.clone.branch} keeps moving at {self.clone.remote.shown} (try again in a moment)")

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        """A remote that hangs holds up those who look at it; whoever wants to write is told so in time."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._lock.acquire()
        except TimeoutError:
            raise RemoteUnreachable(f"nothing was changed: {self.clone.remote.shown} does not answer") from None
        try:
            yield
        finally:
            self._lock.release()

    async def _try(self, make: Callable[[Snapshot], bytes], origin: Origin, only_if: Collection[str] | None) -> Written:
        if self._commit is None or self._seen is None:
            await self._round()
        if self._seen is None:
            raise RemoteUnreachable(f"nothing was changed: {self._error}")
        if self._seen != self._commit:
            raise Conflict(f"the newest commit cannot be written on: {self._error}")
        before = await self._content(self._commit)
        if only_if is not None:
            refuse_others(before, only_if)
        data = await asyncio.to_thread(make, before)
        if data == before.data:
            written = await asyncio.to_thread(self._file.put, data)
            return Written(written.revision, written.number, data, data)
        message = await asyncio.to_thread(message_of, origin, before.data, data)
        commit = await self.clone.commit(self._commit, data, message, origin)
        await self._push_surely(commit, self._commit)
        self._seen = commit
        try:
            return await self._adopt(commit, data, Origin(origin.via, origin.by, message))
        except WriteFailed as error:
            text = f"it is pushed as commit {commit[:12]}, and comes into force once it can be written here"
            raise WriteFailed(f"{text}: {error}", error.errno) from None

    async def _content(self, commit: str) -> Snapshot:
        try:
            return Snapshot(await self.clone.content(commit), 0)
        except NotThere as error:
            return Snapshot(None, 0, str(error))

    async def _push_surely(self, commit: str, parent: str) -> None:
        """A connection that breaks may have broken after the push: the branch knows."""
        try:
            await self.clone.push(commit, parent)
        except (Moved, PushRefused):
            raise
        except GitFailed:
            if await self.clone.fetch() != commit:
                raise

    async def settled(self) -> None:
        """A write is noted with its commit before it is here, so there is nothing to wait for."""

    # -- what is known -------------------------------------------------------------------------------------------

    def admits(self, revision: str) -> str | None:
        if revision == self._revision:
            return None
        if self._revision is None:
            return f"nothing was fetched from {self.clone.remote.shown} yet" + (
                f": {self._error}" if self._error else ""
            )
        return f"the file was changed here, and is being set back to commit {(self._commit or '')[:12]}"

    async def origin_of(self, data: bytes) -> Origin:
        with contextlib.suppress(GitFailed):
            if commit := await self.commit_of(data):
                return Origin(GIT, await self.clone.author(commit))
        return Origin(GIT)

    async def commit_of(self, data: bytes) -> str | None:
        if (revision := revision_of(data)) == self._revision:
            return self._commit
        newest = self._history.newest  # the last good one, while the newest commit has faults
        return newest.commit if newest and newest.revision == revision else None

    async def view(self, data: bytes) -> dict[str, Any] | None:
        return {
            "mode": "follow",
            "url": self.clone.remote.shown,
            "branch": self.clone.branch,
            "path": self._followed.path,
            "commit": self._commit,
            "newest_commit": self._seen,
            "moved": self._moved,
            "fetched_at": iso(self._checked_at) if self._checked_at else None,
            "workers": self._workers.taken,
            "error": self._error,
        }
