"""The variable in every worker's environment that says whose it is, whatever else is lost."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from state.processes import Pool

MARKER = "RECONCILER_WORKER"


@dataclass(frozen=True)
class Mark:
    """A slot of one state folder; `owner` stands for the folder."""

    owner: str
    pool: Pool
    slot: int

    def __str__(self) -> str:
        return json.dumps([self.owner, self.pool.queue, self.pool.worker, self.slot])


def owner_of(folder: Path) -> str:
    """A short name for a state folder, the same for every daemon that uses it."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def read_mark(text: str | None) -> Mark | None:
    """What `str(mark)` was made from; None if it is no such text."""
    try:
        owner, queue, worker, slot = json.loads(text or "")
        return Mark(str(owner), Pool(str(queue), str(worker)), int(slot))
    except (ValueError, TypeError):
        return None
