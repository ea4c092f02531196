"""Each revision that was in force, with who, when, by which way, and how it ended. Bounded and compressed.

It is a record, not a source: what it cannot read it leaves out, and what the disk does not take now it keeps in memory
and writes with the next entry.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from state.file import write_atomically
from state.origin import Origin
from state.reader import revision_of

KEPT = 1000  # entries
MAX_BYTES = 64 * 1024 * 1024  # of compressed texts
SHORTEST = 4  # characters that a shortened revision has at least

# How a revision ended.
PENDING = "pending"  # it is in force, and not all of it is reached yet
SYNCED = "synced"  # it was reached
HELD = "held"  # something of it waited for a person or for a queue to become empty
FAULTS = "faults"  # it was refused: by us, for its faults, or in part by the broker
SUPERSEDED = "superseded"  # another one came before it was reached
RESULTS = (PENDING, SYNCED, HELD, FAULTS, SUPERSEDED)


class UnknownRevision(Exception):
    """There is no such revision in the history."""


class AmbiguousRevision(Exception):
    """More than one revision begins like that."""


@dataclass(frozen=True)
class Entry:
    """One time that a revision came into force. `at` is in seconds since the epoch."""

    revision: str
    at: float
    via: str
    by: str | None = None
    text: str = ""  # what was changed
    result: str = PENDING
    reason: str | None = None  # what was held or refused
    commit: str | None = None  # the git commit of it
    in_force: bool = True  # False: it was on disk only, and is kept because something else took its place


class History:
    """The entries in memory, oldest first; `flush` brings them to disk."""

    def __init__(self, folder: Path, kept: int = KEPT, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._index = folder / "entries.jsonl"
        self._kept = kept
        self._max_bytes = max_bytes
        self._entries: list[Entry] = list(read_entries(self._index))
        self._texts: dict[str, bytes] = {}  # those that are not on disk yet, compressed
        self._sizes = {e.revision: size for e in self._entries if (size := size_of(self._path(e.revision))) is not None}
        self._changed = False
        self._lock = threading.RLock()  # between what is added and what is written
        self.error: str | None = None  # why the disk does not take it

    def __iter__(self) -> Iterator[Entry]:
        """The newest first."""
        return reversed(self._entries)

    @property
    def newest(self) -> Entry | None:
        """The one that came into force last."""
        return next((entry for entry in self if entry.in_force), None)

    def enter(self, origin: Origin, data: bytes, at: float, **more: Any) -> None:
        """Notes that `data` came into force. What was in force before it and not reached is superseded."""
        with self._lock:
            self.update(result=SUPERSEDED, only=PENDING)
            self._add(Entry(revision_of(data), at, origin.via, origin.by, origin.text or "", **more), data)

    def keep(self, origin: Origin, data: bytes, at: float, **more: Any) -> None:
        """Keeps what stood on disk, was never in force, and has been replaced."""
        revision = revision_of(data)
        with self._lock:
            if not any(entry.revision == revision for entry in self._entries):
                self._add(Entry(revision, at, origin.via, origin.by, origin.text or "", in_force=False, **more), data)

    def _add(self, entry: Entry, data: bytes) -> None:
        self._entries.append(entry)
        if entry.revision not in self._sizes and entry.revision not in self._texts:
            self._texts[entry.revision] = gzip.compress(data, 6, mtime=0)
        self._prune()
        self._changed = True

    def update(self, only: str | None = None, **known: Any) -> None:
        """Sets fields of the one that came into force last, if its result is `only`."""
        with self._lock:
            newest = self.newest
            if newest is not None and only in (None, newest.result) and (entry := replace(newest, **known)) != newest:
                self._entries = [entry if e is newest else e for e in self._entries]
                self._changed = True

    def text(self, revision: str) -> bytes | None:
        """What the file said; None if that is not kept, or not what it was. Blocks on the disk."""
        try:
            data = gzip.decompress(self._texts.get(revision) or self._path(revision).read_bytes())
        except (OSError, EOFError, zlib.error):
            return None
        return data if revision_of(data) == revision else None

    def find(self, start: str) -> str:
        """The one revision that begins with `start`. Raises UnknownRevision, AmbiguousRevision."""
        found = {e.revision for e in self._entries if e.revision.startswith(start.lower())}
        if not found or len(start) < SHORTEST:
            least = f"give at least {SHORTEST} characters of it, " if len(start) < SHORTEST else ""
            raise UnknownRevision(f"there is no revision {start[:64]} in the history ({least}see reconciler history)")
        if len(found) > 1:
            some = ", ".join(sorted(revision[:12] for revision in found)[:5])
            raise AmbiguousRevision(f"{len(found)} revisions begin with {start[:64]} (give more of it: {some})")
        return found.pop()

    def flush(self) -> None:
        """Writes what is new. A disk that refuses is told in `error`, and asked again by the next call."""
        with self._lock:
            if self._changed:
                self._flush()

    def _flush(self) -> None:
        self._changed = False
        texts, entries = dict(self._texts), list(self._entries)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for revision, data in texts.items():
                write_atomically(self._path(revision), data)
                self._sizes[revision] = len(data)
            write_atomically(self._index, "".join(map(line_of, entries)).encode())
        except OSError as error:
            self._changed = True
            self.error = f"the history is not written: {error.strerror} (it is kept in memory until it can be)"
            return
        self.error = None
        for revision in texts:
            self._texts.pop(revision, None)
        self._sweep({e.revision for e in entries} | self._texts.keys())

    def _prune(self) -> None:
        """Forgets the oldest beyond the bounds; the newest stays whatever its size."""
        total, known, kept = 0, set[str](), list[Entry]()
        for entry in self:
            if entry.revision not in known:
                known.add(entry.revision)
                total += self._sizes.get(entry.revision) or len(self._texts.get(entry.revision, b""))
            if kept and (len(kept) >= self._kept or total > self._max_bytes):
                break
            kept.append(entry)
        self._entries = kept[::-1]
        left = {entry.revision for entry in kept}
        self._texts = {revision: data for revision, data in self._texts.items() if revision in left}

    def _sweep(self, wanted: set[str]) -> None:
        """Deletes the texts that no entry names any more."""
        for path in self._folder.glob("*.gz"):
            if path.stem not in wanted:
                path.unlink(missing_ok=True)
                self._sizes.pop(path.stem, None)

    def _path(self, revision: str) -> Path:
        return self._folder / f"{revision}.gz"


def line_of(entry: Entry) -> str:
    return json.dumps(asdict(entry), ensure_ascii=False) + "\n"


def read_entries(index: Path) -> Iterator[Entry]:
    """The entries on disk. A line that is none, of whatever reason, is left out."""
    try:
        lines = index.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            raw = json.loads(line)
            known = {field.name: raw.get(field.name, field.default) for field in fields(Entry)}
            if is_entry(known):
                yield Entry(**known)


def is_entry(known: Mapping[str, Any]) -> bool:
    texts = [known[key] for key in ("via", "text", "result")]
    maybe = [known[key] for key in ("by", "reason", "commit")]
    return (
        re.fullmatch("[0-9a-f]{64}", known["revision"]) is not None
        and isinstance(known["at"], int | float)
        and isinstance(known["in_force"], bool)
        and all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in maybe)
    )


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
