"""queues.yaml as frozen models: the first station of the line, desired → diff → plan → apply → status.

Everything here is pure. `state.file` turns text into a `Desired` and a failed validation into faults with line and
column; the messages of the validators below are read by people, so they say what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from state import retries
from state.autoscale import Autoscale, Policy
from state.observed import Kind, ObservedBinding
from state.processes import Pool
from state.queue import Drift, Pause, Queue
from state.topology import Binding, Exchange, ExchangeName, PolicyName, PolicyRule, Retry
from state.values import Model, QueueName, check_name, fault, not_empty
from state.worker import MAX_COUNT, Worker, worker_with_defaults

__all__ = ["MAX_COUNT", "MODELS", "NOTHING", "Binding", "Defaults", "Desired", "Exchange", "Pause", "PolicyRule"]
__all__ += ["Queue", "Retry", "Worker", "check_name", "queue_with_defaults"]


class Defaults(Model):
    """Keys that each queue or worker has unless it says otherwise."""

    queue: dict[str, Any] = Field(default_factory=dict)
    worker: dict[str, Any] = Field(default_factory=dict)

    @field_validator("queue")
    @classmethod
    def queue_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "workers" in value:
            raise fault("workers cannot be a default of queues (list them at each queue)")
        Queue.model_validate(value)
        return value

    @field_validator("worker")
    @classmethod
    def worker_keys(cls, value: dict[str, Any]) -> dict[str, Any]:
        Worker.model_validate(value)
        return value


class Desired(Model):
    """The whole file. Build it from data with `Desired.model_validate`."""

    version: Literal[1]
    defaults: Defaults = Field(default_factory=Defaults)
    drift: Drift = Field(default="correct", description="report: what others change is only shown, not mended")
    exchanges: dict[ExchangeName, Exchange] = Field(default_factory=dict)
    queues: dict[QueueName, Queue]
    policies: dict[PolicyName, PolicyRule] = Field(default_factory=dict)
    _all: tuple[dict[str, Queue], dict[str, Queue]] | None = PrivateAttr(default=None)
    _bound: tuple[dict[str, Queue], dict[str, Exchange], frozenset[ObservedBinding]] | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def apply_defaults(cls, value: Any) -> Any:
        not_empty(value)
        if not isinstance(value, Mapping):
            raise fault("the file is a mapping that begins with version: 1")
        return with_defaults(value)

    @field_validator("exchanges", "queues", "policies", mode="before")
    @classmethod
    def nothing_behind(cls, value: Any) -> Any:
        return not_empty(value)

    @field_validator("queues")
    @classmethod
    def no_circles(cls, queues: dict[str, Queue]) -> dict[str, Queue]:
        retries.check(queues)
        return queues

    def all_queues(self) -> dict[str, Queue]:
        """The listed queues as the broker is to have them, and what `retry` and `dead_letter` imply. For reading."""
        if self._all is None or self._all[0] is not self.queues:  # a copy may have been given others
            implied = retries.all_implied(self.queues)
            listed = {name: retries.completed(name, queue) for name, queue in self.queues.items()}
            self._all = self.queues, {**implied, **listed}
        return self._all[1]

    def all_bindings(self) -> frozenset[ObservedBinding]:
        """What the queues and the exchanges list, as the broker is to show it."""
        if self._bound is None or self._bound[0] is not self.queues or self._bound[1] is not self.exchanges:
            self._bound = self.queues, self.exchanges, self._bindings()
        return self._bound[2]

    def _bindings(self) -> frozenset[ObservedBinding]:
        destinations: list[tuple[Kind, str, list[Binding]]] = [
            *(("queue", name, queue.bindings) for name, queue in self.queues.items()),
            *(("exchange", name, exchange.bindings) for name, exchange in self.exchanges.items()),
        ]
        return frozenset(
            ObservedBinding(binding.exchange, name, kind, binding.routing_key, binding.arguments)
            for kind, name, bindings in destinations
            for binding in bindings
        )

    def exchange_names(self) -> set[str]:
        """Every exchange that the file names, also those that are only bound from, but RabbitMQ's own."""
        sources = {b.source for b in self.all_bindings() if not b.source.startswith("amq.")}
        return sources | self.exchanges.keys()

    def drift_of(self, queue: str | None) -> Drift:
        """What becomes of what others change at a queue, or at anything else (None)."""
        listed = self.queues.get(queue) if queue is not None else None
        return (listed.drift if listed else None) or self.drift

    def pools(self) -> Iterator[tuple[Pool, Worker]]:
        for name, queue in self.queues.items():
            for worker_name, worker in queue.workers.items():
                yield Pool(name, worker_name), worker

    def paused(self, now: float) -> dict[str, Pause]:
        """The pauses in force at `now`, in seconds since the epoch, by queue."""
        return {name: pause for name, queue in self.queues.items() if (pause := queue.pause_at(now))}

    def counts(self, now: float) -> dict[Pool, int]:
        """How many processes of each pool are wanted at `now`: none while its queue is paused."""
        paused = self.paused(now)
        return {pool: 0 if pool.queue in paused else worker.count for pool, worker in self.pools()}

    def scaling(self) -> dict[Pool, Policy]:
        """How the number of each autoscaled pool follows its queue."""
        return {pool: worker.autoscale.policy for pool, worker in self.pools() if worker.autoscale}

    def next_resume(self, now: float) -> float:
        """When the next pause ends by itself, in seconds since the epoch; infinite if none does."""
        ends = (pause.until.timestamp() for pause in self.paused(now).values() if pause.until)
        return min(ends, default=math.inf)


def with_defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The file's data with its defaults merged into each queue and worker; leaves alone what has the wrong shape."""
    defaults, queues = raw.get("defaults"), raw.get("queues")
    if not isinstance(defaults, Mapping) or not isinstance(queues, Mapping):
        return dict(raw)
    of_queue, of_worker = defaults.get("queue") or {}, defaults.get("worker") or {}
    if not isinstance(of_queue, Mapping) or not isinstance(of_worker, Mapping):
        return dict(raw)
    return {**raw, "queues": {name: queue_with_defaults(q, of_queue, of_worker) for name, q in queues.items()}}


def queue_with_defaults(queue: Any, of_queue: Mapping[str, Any], of_worker: Mapping[str, Any]) -> Any:
    if not isinstance(queue, Mapping):
        return queue
    merged = {**of_queue, **queue}
    if isinstance(merged.get("workers"), Mapping):
        merged["workers"] = {n: worker_with_defaults(w, of_worker) for n, w in merged["workers"].items()}
    return merged


NOTHING = Desired(version=1, queues={})

# The model of each kind of mapping in the file.
MODELS: dict[str, type[Model]] = {
    "file": Desired,
    "defaults": Defaults,
    "queue": Queue,
    "worker": Worker,
    "pause": Pause,
    "autoscale": Autoscale,
    "exchange": Exchange,
    "binding": Binding,
    "policy": PolicyRule,
    "retry": Retry,
}
