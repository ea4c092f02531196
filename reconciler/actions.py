"""What a plan is made of: actions, each priced, how each went, and what is held back. Pure data.

`order` is the order of doing: what queues imply, policies and exchanges, queues, bindings, start workers, stop workers;
then what goes: bindings (once the new ones are there), queues, exchanges, policies. So a message that was routed is
routed all along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reconciler.diff import RestartWish
from reconciler.errors import ReconcilerError
from state.desired import Exchange, PolicyRule, Queue
from state.ledger import Holdings, Owned
from state.observed import Kind, ObservedBinding, ObservedQueue, binding_of
from state.processes import ObservedWorker, WorkerSpec
from state.retries import Implied


@dataclass(frozen=True)
class SetPolicy:
    """Make a policy, or give it another pattern, priority or definition."""

    cost = "in place"
    order = 0
    name: str
    rule: PolicyRule
    claim: bool
    queues: tuple[str, ...] = ()  # those whose own keys it carries

    def __str__(self) -> str:
        return f"{'create' if self.claim else 'change'} policy {self.name}{self._what()}"

    def _what(self) -> str:
        sets = ", ".join(f"{key}: {value}" for key, value in self.rule.definition.items())
        return f" ({sets})" if len(sets) <= 200 else ""


@dataclass(frozen=True)
class DeclareExchange:
    """Make an exchange, or (claim False) have the broker compare it with the one that is there."""

    cost = "in place"
    order = 0
    name: str
    exchange: Exchange
    claim: bool

    def __str__(self) -> str:
        return f"{'create' if self.claim else 'verify'} {self.exchange.type} exchange {self.name}"


@dataclass(frozen=True)
class Declare:
    """Make a queue, or (claim False) have the broker compare it with the one that is there."""

    cost = "in place"
    name: str
    queue: Queue
    claim: bool

    @property
    def order(self) -> int:
        """What others are to reject to is there before anything says so."""
        return -1 if isinstance(self.queue, Implied) else 1

    def __str__(self) -> str:
        return f"{'create' if self.claim else 'verify'} {self.queue.type} queue {self.name}"


@dataclass(frozen=True)
class Bind:
    """`claim` is False where it may be there already, and not of our making."""

    cost = "in place"
    order = 2
    binding: ObservedBinding
    claim: bool

    @property
    def name(self) -> str:
        return str(self.binding)

    def __str__(self) -> str:
        return f"bind {self.binding}"


@dataclass(frozen=True)
class Claim:
    """Remember what the file now says about the removal of a queue of ours."""

    cost = "in place"
    order = 3
    name: str
    owned: Owned

    def __str__(self) -> str:
        return f"remember on_remove: {self.owned.on_remove} for queue {self.name}"


@dataclass(frozen=True)
class ClaimExchange:
    """Remember what the file now says about the removal of an exchange of ours."""

    cost = "in place"
    order = 3
    name: str
    owned: Owned

    def __str__(self) -> str:
        return f"remember on_remove: {self.owned.on_remove} for exchange {self.name}"


@dataclass(frozen=True)
class Start:
    cost = "in place"
    order = 4
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
    order = 4
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
    order = 5
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
    order = 5
    wish: RestartWish
    why: str

    @property
    def name(self) -> str:
        return f"{self.wish.pool}[{self.wish.slot}]"

    def __str__(self) -> str:
        return f"restart worker {self.name} ({self.why})"


@dataclass(frozen=True)
class Unbind:
    """Take a binding of ours away. Not done while a new one of the same destination could not be made."""

    cost = "in place"
    order = 6
    binding: ObservedBinding

    @property
    def name(self) -> str:
        return str(self.binding)

    def __str__(self) -> str:
        return f"unbind {self.binding}"


@dataclass(frozen=True)
class Delete:
    """Delete a queue of ours. Without force only once it is seen to be empty and unused, by live counts."""

    cost = "destructive"
    order = 7
    name: str
    type: str
    force: bool
    messages: int

    def __str__(self) -> str:
        lost = f" with its {self.messages} messages" if self.force and self.messages else ""
        return f"delete queue {self.name}{lost}"


@dataclass(frozen=True)
class Migrate:
    """Begin to replace a queue of ours by one of other properties, with all its messages. It goes on by itself."""

    cost = "recreate"
    order = 7
    name: str
    queue: Queue
    seen: ObservedQueue

    def __str__(self) -> str:
        return f"migrate queue {self.name} with its {self.seen.messages} messages"


@dataclass(frozen=True)
class Recreate(Migrate):
    """As Migrate, of a queue that is empty: what comes meanwhile moves along all the same."""

    def __str__(self) -> str:
        return f"recreate the empty queue {self.name}"


@dataclass(frozen=True)
class DeleteExchange:
    """Delete an exchange of ours that nothing is bound to any more; the broker looks once more."""

    cost = "destructive"
    order = 8
    name: str

    def __str__(self) -> str:
        return f"delete exchange {self.name}"


@dataclass(frozen=True)
class DeletePolicy:
    cost = "in place"
    order = 9
    name: str

    def __str__(self) -> str:
        return f"delete policy {self.name}"


@dataclass(frozen=True)
class Release:
    """Give up the ownership of a queue that is gone, or that the file said to keep."""

    cost = "in place"
    order = 10
    name: str

    def __str__(self) -> str:
        return f"forget queue {self.name}"


@dataclass(frozen=True)
class Drop:
    """Give up the ownership of exchanges, bindings and policies that are gone or are to stay, in one go."""

    cost = "in place"
    order = 10
    held: Holdings
    name = "exchanges, bindings and policies"

    def __str__(self) -> str:
        held = self.held
        gone = [f"exchange {n}" for n in held.exchanges] + [f"binding {binding_of(key)}" for key in held.bindings]
        return f"forget {', '.join(sorted([*gone, *(f'policy {name}' for name in held.policies)]))}"


Action = (
    SetPolicy | DeclareExchange | Declare | Bind | Claim | ClaimExchange | Start | Adjust | Stop | Restart | Unbind
    | Delete | Migrate | DeleteExchange | DeletePolicy | Release | Drop
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """How an action went."""

    action: Action
    error: ReconcilerError | None = None


@dataclass(frozen=True)
class UnderWay:
    """A migration that goes on by itself, and where it is. Its queue is left alone meanwhile."""

    queue: str
    text: str

    def __str__(self) -> str:
        return f"{self.queue}: {self.text}"


@dataclass(frozen=True)
class Held:
    """Something the file asks for that is not done now, and what lifts it."""

    queue: str
    reason: str
    messages: int | None = None
    needs_confirmation: bool = False
    worker: str | None = None  # if it is about one of the queue's workers
    kind: Kind | Literal["policy"] = "queue"  # of what is called `queue` here
    concerns: tuple[str, ...] = ()  # the queues that are not as they should be for it

    @property
    def name(self) -> str:
        called = self.queue if self.kind == "queue" else f"{self.kind} {self.queue}"
        return f"{called}/{self.worker}" if self.worker else called


def concerns(step: Action | Held) -> tuple[str, ...]:
    """The queues that are not as the file says until this is done, beside those that are not there."""
    match step:
        case SetPolicy(queues=queues):
            return queues
        case Bind(binding) | Unbind(binding) if binding.destination_type == "queue":
            return (binding.destination,)
        case Held(kind="queue", queue=queue):
            return (queue,)
        case Held(concerns=queues):
            return queues
    return ()
