"""Which log files go: too many of one process, too old, or too much of all together. What is written stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.journal.parts import PACKED, TEMPORARY, Part, log_name, older_parts
from state.file import remove
from state.processes import LogRules

TOTAL = 2 * 1024**3  # bytes of all logs of ended workers and all older files
NO_RULES: Mapping[Path, LogRules] = {}
FRESH = 30.0  # seconds in which a file may belong to a worker that we have yet to hear of


@dataclass
class _File:
    path: Path
    size: int
    written_at: float
    part: Part | None  # None for the file with the log's own name


@dataclass
class _Log:
    path: Path
    living: bool
    rules: LogRules
    files: list[_File] = field(default_factory=list)  # oldest first

    @property
    def written_at(self) -> float:
        return max((file.written_at for file in self.files), default=0.0)

    def removable(self) -> list[_File]:
        """Of a worker that lives, all but the file that it writes to, which may have been renamed a moment ago."""
        if not self.living:
            return self.files
        return self.files[:-1]


def tidy(
    logs: Path, living: Mapping[Path, LogRules], total: int = TOTAL, ended: Mapping[Path, LogRules] = NO_RULES
) -> list[Path]:
    """Removes what is over the bounds, and returns the files that wait to be packed."""
    now = time.time()
    kept = [log for folder in _folders(logs) for log in _logs(folder, living, now)]
    for log in kept:
        if not log.living:
            log.rules = ended.get(log.path, log.rules)
    for log in kept:
        _remove(log, _surplus(log, now))
    _cut_to(total, kept, now)
    return [file.path for log in kept for file in log.files if file.part and not file.part.packed]


def _surplus(log: _Log, now: float) -> list[_File]:
    """The files of one log that are too many or too old."""
    older = [file for file in log.removable() if file.part]
    many = older[: max(0, len(older) - max(1, log.rules.keep))]
    return many + [f for f in log.removable() if f not in many and now - f.written_at > log.rules.max_age]


def _cut_to(total: int, logs: list[_Log], now: float) -> None:
    """Those of workers that ended first go first; then the oldest files of those that live."""
    ended = sorted((log for log in logs if not log.living), key=lambda log: log.written_at)
    order = [(log, file) for log in ended for file in list(log.files)]
    older = [(log, file) for log in logs if log.living for file in log.removable()]
    order += sorted(older, key=lambda pair: pair[1].written_at)
    size = sum(file.size for _, file in order)
    for log, file in order:
        if size <= total:
            return
        if file.part or now - file.written_at > FRESH:
            _remove(log, [file])
            size -= file.size


def _remove(log: _Log, files: list[_File]) -> None:
    for file in files:
        with suppress(OSError):
            file.path.unlink(missing_ok=True)
            log.files.remove(file)


def _folders(logs: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(logs) as entries:
        yield from [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _logs(folder: Path, living: Mapping[Path, LogRules], now: float) -> Iterator[_Log]:
    with suppress(OSError), os.scandir(folder) as entries:
        names = {entry.name: entry.stat() for entry in entries if entry.is_file(follow_symlinks=False)}
        yield from _group(folder, names, living, now)


def _group(
    folder: Path, names: Mapping[str, os.stat_result], living: Mapping[Path, LogRules], now: float
) -> Iterator[_Log]:
    by_log: dict[str, list[str]] = {}
    for name in names:
        if name.endswith(TEMPORARY):
            _drop_stale(folder / name, names, now)
        elif not name.endswith((".log", PACKED)):
            continue  # not ours
        elif name + PACKED in names:  # whoever packed it was ended just before removing it
            remove(folder / name)
        else:
            by_log.setdefault(log_name(name), []).append(name)
    for whole, own in by_log.items():
        path = folder / whole
        if own == [whole] and path in living:
            continue  # most are nothing but the file that is written to
        log = _Log(path, path in living, living.get(path, LogRules()))
        for part in older_parts(path, own):
            log.files.append(_file(part.path, names, part))
        if path.name in names:
            log.files.append(_file(path, names, None))
        yield log


def _file(path: Path, names: Mapping[str, os.stat_result], part: Part | None) -> _File:
    status = names[path.name]
    return _File(path, status.st_blocks * 512, status.st_mtime, part)


def _drop_stale(path: Path, names: Mapping[str, os.stat_result], now: float) -> None:
    """What was half packed when its file was removed. While that is there, it is packed anew over this one."""
    if path.name.removesuffix(TEMPORARY).removesuffix(".gz") not in names and now - names[path.name].st_mtime > FRESH:
        remove(path)
