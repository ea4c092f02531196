"""What a plan is made of: actions, each priced, how each went, and what is held back. Pure data.

`order` is the order of doing: make queues, start workers, stop workers, remove queues.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.diff import RestartWish
from reconciler.errors import ReconcilerError
from state.desired import Queue
from state.ledger import Owned
from state.processes import ObservedWorker, WorkerSpec


@dataclass(frozen=True)
class Declare:
    """Make a queue, or (claim False) have the broker compare it with the one that is there."""

    cost = "in place"
    order = 0
    name: str
    queue: Queue
    claim: bool

    def __str__(self) -> str:
        return f"{'create' if self.claim else 'verify'} {self.queue.type} queue {self.name}"


@dataclass(frozen=True)
class Claim:
    """Remember what the file now says about the removal of a queue of ours."""

    cost = "in place"
    order = 1
    name: str
    owned: Owned

    def __str__(self) -> str:
        return f"remember on_remove: {self.owned.on_remove} for queue {self.name}"


@dataclass(frozen=True)
class Start:
    cost = "in place"
    order = 2
    spec: WorkerSpec
    slot: int

    @property
    def name(self) -> str:
        return f"{self.spec.pool}[{self.slot}]"

    def __str__(self) -> str:
        return f"start worker {self.name}"


@dataclass(frozen=True)
class Adjust:
    """Have the supervisor apply other limits or log rules to a process that goes on."""

    cost = "in place"
    order = 2
    spec: WorkerSpec
    slot: int

    @property
    def name(self) -> str:
        return f"{self.spec.pool}[{self.slot}]"

    def __str__(self) -> str:
        return f"apply the new limits to worker {self.name}"


@dataclass(frozen=True)
class Stop:
    cost = "restart"
    order = 3
    worker: ObservedWorker
    why: str

    @property
    def name(self) -> str:
        return f"{self.worker.pool}[{self.worker.slot}]"

    def __str__(self) -> str:
        return f"stop worker {self.name} ({self.why})"


@dataclass(frozen=True)
class Restart:
    """Drain a process and fill its slot again; at once if there is none to drain."""

    cost = "restart"
    order = 3
    wish: RestartWish
    why: str

    @property
    def name(self) -> str:
        return f"{self.wish.pool}[{self.wish.slot}]"

    def __str__(self) -> str:
        return f"restart worker {self.name} ({self.why})"


@dataclass(frozen=True)
class Delete:
    """Delete a queue of ours. Without force only once it is seen to be empty and unused, by live counts."""

    cost = "destructive"
    order = 4
    name: str
    type: str
    force: bool
    messages: int

    def __str__(self) -> str:
        lost = f" with its {self.messages} messages" if self.force and self.messages else ""
        return f"delete queue {self.name}{lost}"


@dataclass(frozen=True)
class Release:
    """Give up the ownership of a queue that is gone, or that the file said to keep."""

    cost = "in place"
    order = 5
    name: str

    def __str__(self) -> str:
        return f"forget queue {self.name}"


Action = Declare | Claim | Start | Adjust | Stop | Restart | Delete | Release


@dataclass(frozen=True)
class Result:
    """How an action went."""

    action: Action
    error: ReconcilerError | None = None


@dataclass(frozen=True)
class Held:
    """Something the file asks for that is not done now, and what lifts it."""

    queue: str
    reason: str
    messages: int | None = None
    needs_confirmation: bool = False
    worker: str | None = None  # if it is about one of the queue's workers

    @property
    def name(self) -> str:
        return f"{self.queue}/{self.worker}" if self.worker else self.queue
