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
class Limits:
    """What a worker may take before it is drained and replaced, and how the kernel is to treat it. None: no limit."""

    watchdog: float | None = None  # seconds without a heartbeat over NOTIFY_SOCKET
    message_timeout: float | None = None  # seconds that one message may be in hand
    max_memory: int | None = None  # bytes of private memory (USS): pages shared with other workers do not count
    max_messages: int | None = None
    max_age: float | None = None  # seconds
    nice: int | None = None
    cpu_affinity: tuple[int, ...] = ()
    user: str | None = None
    rlimits: Mapping[str, int] = field(default_factory=dict)  # by the kernel's name in small letters, such as nofile


@dataclass(frozen=True)
class LogRules:
    """How much of a worker's log is kept."""

    max_bytes: int = 50 * 1024 * 1024  # of the file that is written; then it is rotated
    keep: int = 5  # older files of one process, compressed
    max_age: float = 30 * 86400.0  # seconds that older files, and logs of ended workers, are kept


@dataclass(frozen=True)
class WorkerSpec:
    """How each process of a pool is run.

    Two specs with the same `digest` run the same process; what only the supervisor applies is in `terms`. So a slot
    whose `terms` differ is given the new spec, and one whose `digest` differs is given a new process.
    """

    pool: Pool
    command: tuple[str, ...]
    env: Mapping[str, str]  # on top of the daemon's own environment
    cwd: str
    grace: float  # seconds between SIGTERM and SIGKILL
    digest: str
    module: str | None = None  # of a Python worker: its name in the workers folder
    code: str = ""  # the digest of that module's content
    zygote: bool = False  # fork it from a process that has imported its module, where that can be
    max_restarts: int | None = None  # deaths in a row, or in a crash loop, after which it is given up; None: never
    limits: Limits = Limits()
    log: LogRules = LogRules()
    terms: str = ""  # the digest of what the supervisor applies to a running process


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
    redelivered: int = 0  # messages that were delivered before, to it or to another
    in_flight_since: float | None = None  # since when the message in hand is in hand
    last_message_at: float | None = None  # when it was last given a message
    busy_seconds: float = 0.0  # spent in the handler since it started
    terms: str | None = None  # of the spec that its slot has now; None: not known
    returns: bool = False  # in `stopping`: its slot is filled again once its process has ended
    exec_reason: str | None = None  # why it was not forked from a zygote, though it should
    stats: Mapping[str, str] = field(default_factory=dict)  # whatever else it told over NOTIFY_SOCKET

    @property
    def running(self) -> bool:
        return self.state in (WorkerState.STARTING, WorkerState.READY, WorkerState.STOPPING)

    @property
    def leaves(self) -> bool:
        """Told to stop for good: its slot is gone once its process is."""
        return self.state == WorkerState.STOPPING and not self.returns
