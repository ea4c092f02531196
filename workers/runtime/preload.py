"""The import of a worker's module, for all processes that will be forked from this one, and what it leaves behind."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from workers.base import BaseWorker

from . import log, newborn
from .loader import Fault, folder, load, stamp_of
from .rehearsal import rehearse
from .settings import parsed

# What differs from worker to worker of one image: a module that asks for it at import cannot be shared.
OF_THE_QUEUE = (b"QUEUE_NAME", b"QUEUE_RETRY", b"QUEUE_DEAD_LETTER")
PER_WORKER = (*OF_THE_QUEUE, b"SLOT", b"PREFETCH", b"NOTIFY_SOCKET", b"LOG_FILE", b"START_GATE")


@dataclass(frozen=True)
class Preloaded:
    """What came of the import: `unfit` says why nothing may be forked from it; `files` are the user's, with stamps."""

    unfit: str | None
    worker: type[BaseWorker] | None = None
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


def preload(name: str, own_socket: int) -> Preloaded:
    """Imports the worker's module, and looks at what that has left behind."""
    asked: set[bytes] = set()
    log.set_up(os.environ, name)  # before the module, as in a process of its own: it may change it
    plain, os.environ._data = os.environ._data, _Watched(os.environ._data, asked)  # type: ignore[attr-defined]
    try:
        worker = load(name)
    except Fault as fault:
        return Preloaded(why_unfit(own_socket, asked) or str(fault))
    finally:
        os.environ._data = plain  # type: ignore[attr-defined]
        sys.stdout.flush()
        sys.stderr.flush()
    unfit = why_unfit(own_socket, asked)
    if unfit is None:
        rehearse(name)
        with suppress(Exception):  # a worker says what is wrong with it
            parsed(os.environ["AMQP_URL"])
        unfit = why_unfit(own_socket, asked)
    gc.collect()
    newborn.inherited_files.extend(newborn.open_files())
    gc.disable()  # a collection in the child would touch, and so copy, every page
    gc.freeze()
    return Preloaded(unfit, worker, loaded_files())


class _Watched(dict[bytes, bytes]):
    """The environment, noting which of the names are asked for that differ from worker to worker."""

    def __init__(self, data: dict[bytes, bytes], asked: set[bytes]) -> None:
        super().__init__(data)
        self._asked = asked

    def __getitem__(self, key: bytes) -> bytes:
        if key in PER_WORKER:
            self._asked.add(key)
        return super().__getitem__(key)


def why_unfit(own_socket: int, asked: set[bytes]) -> str | None:
    """What a fork would break in a process such as this one, None if nothing."""
    if asked:
        return f"its module reads {', '.join(sorted(map(os.fsdecode, asked)))} when it is imported"
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"importing its module starts {threads - 1} thread{'s' if threads > 2 else ''}"
    sockets = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd != own_socket and _is_socket(fd)]
    if sockets:
        return f"importing its module opens {len(sockets)} socket{'s' if len(sockets) > 1 else ''}"
    return None


def _is_socket(fd: int) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("socket:", "anon_inode:[eventpoll]"))
    except OSError:
        return False


def loaded_files() -> dict[str, tuple[int, int]]:
    """The files that modules outside the interpreter's own folders came from, with their time and size.

    Those of the workers' folder are left out: other code there is another image, and while a change of it is held up,
    this one still gives workers of the code before.
    """
    ours = (sys.prefix, sys.base_prefix, str(Path(__file__).parent), str(folder()))
    known = tuple(place + os.sep for place in ours)
    found = {}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and not path.startswith(known) and (stamp := stamp_of(path)):
            found[path] = stamp
    return found
