"""queues.yaml as frozen models: the first station of the line, desired → diff → plan → apply → status.

Everything here is pure. `state.file` turns text into a `Desired` and a failed validation into faults with line and
column; the messages of the validators below are read by people, so they say what would be right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from state.processes import Pool

QueueType = Literal["classic", "quorum", "stream"]

MAX_NAME_BYTES = 255  # AMQP 0-9-1 short string
MAX_COUNT = 1000
MAX_DEPTH = 20  # of lists in lists
MAX_ARGUMENTS = 100_000  # bytes; with the rest of a declaration they must fit into one frame of 128 KiB

# Keys of the contract that a later version brings: refused by name, so that nobody believes they work.
NOT_YET = {
    "file": ("exchanges", "policies"),
    "defaults": (),
    "queue": ("bindings", "retry"),
    "worker": ("autoscale", "max_memory", "watchdog"),
}


def fault(message: str, *at: str) -> PydanticCustomError:
    """What is wrong with the value being validated or, below it, with what stands `at` that path."""
    # Braces would be read as a template by pydantic.
    return PydanticCustomError("fault", "{message}", {"message": message, "at": at})


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def not_empty(value: Any) -> Any:
    """Refuses a key with nothing behind it: it is what a file cut short looks like."""
    if value is None:
        raise fault("nothing stands behind this key (write {} if you mean empty)")
    return value


def check_name(name: str) -> str:
    """A queue name that RabbitMQ accepts, else a fault."""
    if not name:
        raise fault("the name is empty (RabbitMQ would invent one; give it a name)")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise fault("the name is not valid Unicode (it holds half of a surrogate pair)") from None
    if size > MAX_NAME_BYTES:
        raise fault(f"the name has {size} bytes (RabbitMQ takes at most {MAX_NAME_BYTES})")
    if name.startswith("amq."):
        raise fault("names that begin with amq. belong to RabbitMQ (choose another)")
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise fault("the name holds a control character (use letters, digits, spaces and punctuation)")
    return name


def check_worker_name(name: str) -> str:
    if not name or len(name) > 100 or not all(c.isalnum() or c in "_-" for c in name):
        raise fault("a worker's name is letters, digits, _ and - (for Python: the name of workers/NAME.py)")
    return name


def to_text(value: Any) -> Any:
    """Environment values are text; plain numbers are taken as they stand."""
    if isinstance(value, bool):
        raise fault(f'YAML reads this as a truth value (quote it: "{str(value).lower()}")')
    return str(value) if isinstance(value, int | float) else value


def check_argument_name(name: str) -> str:
    if name == "x-queue-type":
        raise fault("x-queue-type is set by `type` (write type: quorum beside arguments)")
    if not 1 <= len(name.encode(errors="replace")) <= 128:
        raise fault("an argument's name has 1 to 128 bytes")
    return name


def check_argument(value: Any, depth: int = 0) -> Any:
    """A value that an AMQP table holds and the broker's HTTP API shows as it is, else a fault."""
    if depth > MAX_DEPTH:
        raise fault(f"it is nested too deeply (at most {MAX_DEPTH} levels)")
    if isinstance(value, list):
        return [check_argument(item, depth + 1) for item in value]
    if not isinstance(value, bool | str | int):
        raise fault(f"an argument is text, a whole number, true, false or a list (not {type(value).__name__})")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise fault("the number does not fit into 64 bits")
    return value


def check_env_name(name: str) -> str:
    if not name or "=" in name or "\0" in name:
        raise fault("this cannot be set in an environment (a name has no = and no NUL)")
    return name


def check_env_value(value: str) -> str:
    if "\0" in value:
        raise fault("this cannot be set in an environment (it holds a NUL)")
    return value


QueueName = Annotated[str, BeforeValidator(lambda v: check_name(v) if isinstance(v, str) else v)]
WorkerName = Annotated[str, BeforeValidator(lambda v: check_worker_name(v) if isinstance(v, str) else v)]
Text = Annotated[str, BeforeValidator(to_text)]
Arguments = dict[Annotated[str, AfterValidator(check_argument_name)], Annotated[Any, AfterValidator(check_argument)]]
Environment = dict[Annotated[str, AfterValidator(check_env_name)], Annotated[Text, AfterValidator(check_env_value)]]


class Worker(Model):
    """How many processes of one worker drain a queue, and how each is run."""

    count: int = Field(default=1, ge=0, le=MAX_COUNT)
    prefetch: int = Field(default=10, ge=1, le=65535, description="messages a worker holds at once")
    grace: float = Field(default=30, ge=0, le=86400, description="seconds to finish a message when told to stop")
    env: Environment = Field(default_factory=dict, description="on top of the daemon's environment")
    command: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None, description="any program; without it workers/NAME.py is run"
    )

    @model_validator(mode="before")
    @classmethod
    def short_form(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return {"count": value}
        if not isinstance(value, Mapping | cls):
            raise fault("write the number of processes, or a mapping such as {count: 5, prefetch: 20}")
        return value

    @field_validator("command")
    @classmethod
    def command_words(cls, command: list[str] | None) -> list[str] | None:
        if command is not None and (not command[0] or any("\0" in word for word in command)):
            raise fault("the first word must name a program, and no word may hold a NUL")
        return command


class Queue(Model):
    """One queue, how it is treated when this file changes, and who drains it."""

    type: QueueType = "classic"
    durable: bool = True
    arguments: Arguments = Field(default_factory=dict, description="passed to the broker as they are")
    dead_letter: QueueName | None = Field(default=None, description="the queue that rejected messages go to")
    on_remove: Literal["keep", "delete-if-empty", "delete"] = "delete-if-empty"
    on_change: Literal["refuse"] = "refuse"
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
        if self.type == "stream" and self.dead_letter is not None:
            raise fault("a stream cannot dead-letter (take dead_letter out, or use classic or quorum)")
        if self.dead_letter is not None and "x-dead-letter-exchange" in self.arguments:
            raise fault("dead_letter and x-dead-letter-exchange exclude each other (keep one)")
        if (size := len(json.dumps(self.arguments, ensure_ascii=False).encode(errors="replace"))) > MAX_ARGUMENTS:
            raise fault(f"they have {size:,} bytes together (RabbitMQ takes about {MAX_ARGUMENTS:,})", "arguments")
        return self

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


def worker_with_defaults(worker: Any, defaults: Mapping[str, Any]) -> Any:
    if isinstance(worker, int) and not isinstance(worker, bool):
        worker = {"count": worker}
    return {**defaults, **worker} if isinstance(worker, Mapping) else worker


NOTHING = Desired(version=1, queues={})

# The model of each kind of mapping in the file.
MODELS: dict[str, type[Model]] = {"file": Desired, "defaults": Defaults, "queue": Queue, "worker": Worker}
