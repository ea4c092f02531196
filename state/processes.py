"""A worker process: how it is to be run, and how it was last seen. Plain data between plan and supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class WorkerState(StrEnum):
    """Where a worker stands in its life."""

    STARTING = "starting"  # spawned or about to be; has not said READY=1, or lost its consumer since
    READY = "ready"  # said READY=1: its consumer is registered at the broker
    STOPPING = "stopping"  # told to stop, finishing the message in hand
    BACKOFF = "backoff"  # died; waits for its next try
    FATAL = "fatal"  # given up until its code, its spec or a person changes that
    EXITED = "exited"  # ended and not wanted any more


@dataclass(frozen=True)
class Pool:
    """All the processes of one worker on one queue."""

    queue: str
    worker: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.worker}"


@dataclass(frozen=True)
class WorkerSpec:
    """How each process of a pool is run. Two specs are the same exactly if their digests are."""

    pool: Pool
    command: tuple[str, ...]
    env: Mapping[str, str]  # on top of the daemon's own environment
    cwd: str
    grace: float  # seconds between SIGTERM and SIGKILL
    digest: str


@dataclass(frozen=True)
class ObservedWorker:
    """One slot of a pool as the supervisor sees it now, or one worker that has ended.

    `pid` is None while it waits to be spawned; in `backoff` and `exited` it is the pid of the process that ended.
    Times are seconds since the epoch.
    """

    pool: Pool
    slot: int
    pid: int | None
    state: WorkerState
    digest: str
    started_at: float
    restarts: int = 0
    reason: str | None = None  # in words: why it is not ready
    retry_at: float | None = None  # in `backoff`: when it is tried again
    busy: bool = False  # a message in hand, as of at most a second ago
    consumer_tag: str | None = None
    processed: int = 0
    failed: int = 0
    log_path: str | None = None
    ended_at: float | None = None  # in `backoff` and `exited`: when its process ended
    heartbeat_at: float | None = None  # when it last said anything over NOTIFY_SOCKET
    stats: Mapping[str, str] = field(default_factory=dict)  # whatever else it told over NOTIFY_SOCKET

    @property
    def running(self) -> bool:
        return self.state in (WorkerState.STARTING, WorkerState.READY, WorkerState.STOPPING)
