"""One worker of a queue as the file describes it: how many processes, and how each is run, watched and logged. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from state.autoscale import Autoscale
from state.values import MAX_COUNT, Duration, Environment, Model, Rlimits, Share, Size, Text, User, between, fault

DAY = 86400
YEARS = 366 * DAY * 100
Time = Annotated[Duration, between(0.1, YEARS)]
Cpu = Annotated[int, Field(ge=0, le=8191)]


class Worker(Model):
    """How many processes of one worker drain a queue, and how each is run."""

    count: int = Field(default=1, ge=0, le=MAX_COUNT)
    autoscale: Autoscale | None = Field(default=None, description="in place of count: as many as its messages ask for")
    prefetch: int = Field(default=10, ge=1, le=65535, description="messages a worker holds at once")
    grace: Annotated[Duration, between(0, DAY)] = Field(
        default=30.0, description="time to finish a message when told to stop"
    )
    env: Environment = Field(default_factory=dict, description="on top of the daemon's environment")
    command: Annotated[list[Text], Field(min_length=1)] | None = Field(
        default=None, description="any program; without it workers/NAME.py is run"
    )
    spawn: Literal["zygote", "exec"] = Field(
        default="zygote", description="forked from a process that has imported the module, or started afresh"
    )
    # When it changes, and when it dies.
    max_unavailable: Share = Field(default="25%", description="how many may be missing while the pool changes")
    max_restarts: int | None = Field(
        default=None, ge=0, description="deaths in a row before it is given up; null: never"
    )
    # What one process may take before it is drained and replaced.
    watchdog: Time | None = Field(default=None, description="longest time without a heartbeat")
    message_timeout: Time | None = Field(default=None, description="longest time for one message")
    max_memory: Annotated[Size, between(2**20, 2**62)] | None = Field(default=None, description="of private memory")
    max_messages: int | None = Field(default=None, ge=1, description="then it is replaced")
    max_age: Time | None = Field(default=None, description="then it is replaced")
    # How the kernel treats it.
    nice: int | None = Field(default=None, ge=-20, le=19)
    cpu_affinity: Annotated[list[Cpu], Field(min_length=1)] | None = Field(
        default=None, description="the numbers of the processors that it may use"
    )
    user: User | None = Field(default=None, description="a name or a number; needs a daemon that runs as root")
    limits: Rlimits = Field(default_factory=dict, description="the kernel's, such as nofile")
    # Its log.
    log_max: Annotated[Size, between(1024, 2**62)] = Field(
        default=50 * 10**6, description="of the file that is written; then it is rotated"
    )
    log_keep: int = Field(default=5, ge=0, le=1000, description="older files, compressed")
    log_age: Time = Field(default=30.0 * DAY, description="how long older files are kept")
    log_format: Literal["text", "json"] | None = Field(default=None, description="LOG_FORMAT in its environment")

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

    @model_validator(mode="after")
    def a_command_is_executed(self) -> Worker:
        if self.command is not None and self.spawn == "zygote" and "spawn" in self.model_fields_set:
            raise fault("a command cannot be forked from a zygote (take spawn out, or write spawn: exec)", "spawn")
        return self

    @model_validator(mode="after")
    def count_or_autoscale(self) -> Worker:
        if self.autoscale is not None and "count" in self.model_fields_set:
            raise fault(
                "count and autoscale exclude each other (keep one: a fixed number, or one that follows the queue)",
                "count",
            )
        return self

    @property
    def forked(self) -> bool:
        """Is it to be forked from a process that has imported its module?"""
        return self.command is None and self.spawn == "zygote"


def worker_with_defaults(worker: Any, defaults: Mapping[str, Any]) -> Any:
    if isinstance(worker, int) and not isinstance(worker, bool):
        worker = {"count": worker}
    if not isinstance(worker, Mapping):
        return worker
    merged = {**defaults, **worker}
    for own, other in (("count", "autoscale"), ("autoscale", "count")):
        if worker.get(own) is not None and other not in worker:
            merged.pop(other, None)  # the worker's own word beats the default of the other kind
    if "command" in worker and "spawn" not in worker:
        merged.pop("spawn", None)  # the default is about Python workers
    return merged
