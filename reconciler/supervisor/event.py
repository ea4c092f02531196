"""What the supervisor tells the loop: that something changed. The loop then looks for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from state.processes import Pool

EventKind = Literal[
    "started",  # a process was spawned
    "adopted",  # a process of an earlier daemon goes on in its slot
    "ready",  # it said READY=1
    "unready",  # it was ready, and said RELOADING=1 or STOPPING=1
    "stopping",  # it was told to stop
    "exited",  # its process ended
    "backoff",  # it waits for its next try
    "fatal",  # it is given up, as its max_restarts asks for
    "stopped",  # its slot is gone
]


@dataclass(frozen=True)
class Event:
    """One change of one slot; `text` is for people, and may be empty."""

    kind: EventKind
    pool: Pool
    slot: int
    pid: int | None
    text: str = ""
