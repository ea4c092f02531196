"""queues.yaml as frozen models: the first station of the line, desired → diff → plan → apply → status.

Everything here is pure. `state.file` turns text into a `Desired` and a failed validation into faults with line and
column; the messages of the validators below are read by people, so they say what would be right.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from state.autoscale import Autoscale, Policy
from state.processes import Pool
from state.values import Arguments, Model, Moment, QueueName, WorkerName, check_name, fault, not_empty
from state.worker import MAX_COUNT, Worker, worker_with_defaults

__all__ = ["MAX_COUNT", "MODELS", "NOTHING", "NOT_YET", "Defaults", "Desired", "Pause", "Queue", "Worker", "check_name"]
__all__ += ["queue_with_defaults"]

QueueType = Literal["classic", "quorum", "stream"]

MAX_ARGUMENTS = 100_000  # bytes; with the rest of a declaration they must fit into one frame of 128 KiB

# Keys of the contract that a later version brings: refused by name, so that nobody believes they work.
NOT_YET = {
    "file": ("exchanges", "policies"),
    "defaults": (),
    "queue": ("bindings", "retry"),
    "worker": (),
    "pause": (),
    "autoscale": (),
}


class Pause(Model):
    """Why a queue's workers stand still, and until when."""

    reason: str | None = Field(default=None, max_length=1000)
    until: Moment | None = Field(default=None, description="such as 2026-12-01T09:00Z; it ends by itself then")


def or_a_truth_value(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(0, {"type": "boolean"})


class Queue(Model):
    """One queue, how it is treated when this file changes, and who drains it."""

    type: QueueType = "classic"
    durable: bool = True
    arguments: Arguments = Field(default_factory=dict, description="passed to the broker as they are")
    dead_letter: QueueName | None = Field(default=None, description="the queue that rejected messages go to")
    on_remove: Literal["keep", "delete-if-empty", "delete"] = "delete-if-empty"
    on_change: Literal["refuse"] = "refuse"
    paused: Pause | None = Field(
        default=None,
        description="true: its workers drain and stand still",
        json_schema_extra=or_a_truth_value,
    )
    workers: dict[WorkerName, Worker] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def is_mapping(cls, value: Any) -> Any:
        not_empty(value)
        if not isinstance(value, Mapping | cls):
            raise fault("a queue is a mapping (write {} for a durable classic queue without workers)")
        return value

    @field_validator("arguments", "workers", mode="before")
    @classmethod
    def nothing_behind(cls, value: Any) -> Any:
        return not_empty(value)

    @field_validator("paused", mode="before")
    @classmethod
    def short_pause(cls, value: Any) -> Any:
        not_empty(value)
        if isinstance(value, bool):
            return Pause() if value else None
        if not isinstance(value, Mapping | Pause):
            raise fault("write true, or a mapping such as {reason: maintenance, until: 2026-12-01T09:00Z}")
        return value

    @field_validator("on_change", mode="before")
    @classmethod
    def on_change_not_yet(cls, value: Any) -> Any:
        if value in ("recreate-if-empty", "migrate"):
            raise fault(f"on_change: {value} is not supported yet (only refuse)")
        return value

    @model_validator(mode="after")
    def fits_type(self) -> Queue:
        if self.type != "classic" and not self.durable:
            raise fault(f"a {self.type} queue is always durable (take durable: false out, or use type: classic)")
        if self.type != "classic" and "x-max-priority" in self.arguments:
            raise fault(f"a {self.type} queue has no x-max-priority (use type: classic)")
        if self.type == "stream" and (scaled := next((n for n, w in self.workers.items() if w.autoscale), None)):
            way_out = "a stream keeps the messages that were read; write count"
            raise fault(f"autoscale cannot follow a stream ({way_out})", "workers", scaled, "autoscale")
        if self.type == "stream" and self.dead_letter is not None:
            raise fault("a stream cannot dead-letter (take dead_letter out, or use classic or quorum)")
        if self.dead_letter is not None and "x-dead-letter-exchange" in self.arguments:
            raise fault("dead_letter and x-dead-letter-exchange exclude each other (keep one)")
        if (size := len(json.dumps(self.arguments, ensure_ascii=False).encode(errors="replace"))) > MAX_ARGUMENTS:
            raise fault(f"they have {size:,} bytes together (RabbitMQ takes about {MAX_ARGUMENTS:,})", "arguments")
        return self

    def pause_at(self, now: float) -> Pause | None:
        """The pause in force at `now`, in seconds since the epoch. One whose time has passed is none."""
        pause = self.paused
        return None if pause is None or (pause.until and pause.until.timestamp() <= now) else pause

    def broker_arguments(self) -> dict[str, Any]:
        """The arguments the broker is to hold for this queue, without the type."""
        arguments = dict(self.arguments)
        if self.dead_letter is not None:
            arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead_letter}
        return arguments


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
    queues: dict[QueueName, Queue]

    @model_validator(mode="before")
    @classmethod
    def apply_defaults(cls, value: Any) -> Any:
        not_empty(value)
        if not isinstance(value, Mapping):
            raise fault("the file is a mapping that begins with version: 1")
        return with_defaults(value)

    @field_validator("queues", mode="before")
    @classmethod
    def nothing_behind(cls, value: Any) -> Any:
        return not_empty(value)

    @field_validator("queues")
    @classmethod
    def no_circles(cls, queues: dict[str, Queue]) -> dict[str, Queue]:
        for name, queue in queues.items():
            if queue.dead_letter == name:
                raise fault("rejected messages would come back at once (name another)", name, "dead_letter")
        return queues

    def all_queues(self) -> dict[str, Queue]:
        """The listed queues and the dead-letter queues they imply."""
        implied = {q.dead_letter: Queue() for q in self.queues.values() if q.dead_letter is not None}
        return {**implied, **self.queues}

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

    def policies(self) -> dict[Pool, Policy]:
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
}
