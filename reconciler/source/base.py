"""What every source of the file can do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from state.faults import Rejected
from state.file import Edit, Written
from state.origin import Origin
from state.reader import parse
from state.summary import summarize

# Told of each write: its revision, whose it is, and the commit that it is, if it is one.
Note = Callable[[str, Origin, str | None], None]


class Source(Protocol):
    """Writes are one after another; each is whole, with its commit, before the next begins."""

    async def write(
        self, edit: Edit, origin: Origin, *, may_create: bool = False, only_if: Collection[str] | None = None
    ) -> Written:
        """Applies `edit` to the newest content. Raises as `DesiredFile.edit` does."""

    async def replace(self, data: bytes, origin: Origin, *, only_if: Collection[str] | None = None) -> Written:
        """Puts `data` in place of whatever is there. Raises as `DesiredFile.put` does."""

    async def settled(self) -> None:
        """Returns when no write is half done."""

    async def origin_of(self, data: bytes) -> Origin:
        """Who made the file what `data` is, if none of our own writes did."""

    async def commit_of(self, data: bytes) -> str | None:
        """The commit that holds `data` as the file; None if none does."""

    def admits(self, revision: str) -> str | None:
        """Why the file on disk must not come into force as it is; None if it may."""

    async def view(self, data: bytes) -> dict[str, Any] | None:
        """The part `git` of `/status`; None if git has nothing to do with the file. `data` is what is in force."""

    def look(self) -> None:
        """The file may have changed on disk."""

    async def run(self) -> None:
        """What goes on beside the writes; until cancelled."""


def message_of(origin: Origin, before: bytes | None, after: bytes) -> str:
    """The message of the commit that turns `before` into `after`."""
    if origin.text:
        return origin.text
    try:
        return summarize(parse(before or b"version: 1\nqueues: {}\n"), parse(after))
    except Rejected:
        return "replace a file that had faults"
