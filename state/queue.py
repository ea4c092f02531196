"""A queue of queues.yaml as a frozen model: how it is declared, how it is treated on a change, and who drains it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from state.topology import Bindings, Retry
from state.traits import DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY, STREAM, TRAITS, Trait
from state.values import Arguments, Duration, Model, Moment, QueueName, Size, WorkerName, between, fault, not_empty
from state.worker import Worker

QueueType = Literal["classic", "quorum", "stream"]
Drift = Literal["correct", "report"]
OnChange = Literal["refuse", "recreate-if-empty", "migrate"]

MAX_ARGUMENTS = 100_000  # bytes; with the rest of a declaration they must fit into one frame of 128 KiB
MAX_MILLISECONDS = 2**32 - 1  # what RabbitMQ takes for a time
Time = Annotated[Duration, between(0, MAX_MILLISECONDS / 1000)]


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
    # What a policy carries, so that an edit applies in place: see `state.traits`.
    message_ttl: Time | None = Field(default=None, description="messages older than this are dropped or dead-lettered")
    expires: Annotated[Time, between(0.001, MAX_MILLISECONDS / 1000)] | None = Field(
        default=None, description="the queue is deleted once it was unused for this long"
    )
    max_length: int | None = Field(default=None, ge=0, lt=2**63, description="messages")
    max_length_bytes: Size | None = Field(default=None, description="of all message bodies together")
    overflow: Literal["drop-head", "reject-publish", "reject-publish-dlx"] | None = Field(
        default=None, description="what happens to messages over max_length"
    )
    delivery_limit: int | None = Field(
        default=None, ge=-1, lt=2**63, description="deliveries before it is dead-lettered"
    )
    dead_letter_strategy: Literal["at-most-once", "at-least-once"] | None = None
    max_age: Annotated[Time, between(1, MAX_MILLISECONDS / 1000)] | None = Field(
        default=None, description="a stream drops segments that are older"
    )
    max_segment_size: Annotated[Size, between(1, 3_000_000_000)] | None = Field(
        default=None, description="of one segment of a stream"
    )
    # What only the declaration can set.
    single_active_consumer: bool | None = Field(default=None, description="one consumer at a time gets messages")
    max_priority: int | None = Field(default=None, ge=1, le=255, description="priorities are 0 to this")
    initial_group_size: int | None = Field(default=None, ge=1, le=255, description="replicas of a quorum queue")
    dead_letter: QueueName | None = Field(default=None, description="the queue that rejected messages go to")
    retry: Retry | None = Field(default=None, description="failed messages come back after a delay")
    bindings: Bindings = Field(default_factory=list, description="the exchanges that it gets messages from")
    on_remove: Literal["keep", "delete-if-empty", "delete"] = "delete-if-empty"
    on_change: OnChange = Field(default="refuse", description="when an immutable property differs")
    protect: bool = Field(default=False, description="this entry can only go after the flag went first")
    drift: Drift | None = Field(default=None, description="report: what others change is only shown, not mended")
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

    @field_validator("arguments", "bindings", "workers", mode="before")
    @classmethod
    def nothing_behind(cls, value: Any) -> Any:
        return not_empty(value)

    @field_validator("dead_letter", mode="before")
    @classmethod
    def names_a_queue(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            raise fault("write the name of the queue that rejected messages go to, such as orders.dead")
        return value

    @field_validator("paused", mode="before")
    @classmethod
    def short_pause(cls, value: Any) -> Any:
        not_empty(value)
        if isinstance(value, bool):
            return Pause() if value else None
        if not isinstance(value, Mapping | Pause):
            raise fault("write true, or a mapping such as {reason: maintenance, until: 2026-12-01T09:00Z}")
        return value

    @model_validator(mode="after")
    def fits_type(self) -> Queue:
        if self.type != "classic" and not self.durable:
            raise fault(f"a {self.type} queue is always durable (take durable: false out, or use type: classic)")
        if self.type != "classic" and "x-max-priority" in self.arguments:
            raise fault(f"a {self.type} queue has no x-max-priority (use type: classic)")
        if self.type == STREAM and (scaled := next((n for n, w in self.workers.items() if w.autoscale), None)):
            way_out = "a stream keeps the messages that were read; write count"
            raise fault(f"autoscale cannot follow a stream ({way_out})", "workers", scaled, "autoscale")
        if self.type == STREAM and self.dead_letter is not None:
            raise fault("a stream cannot dead-letter (take dead_letter out, or use classic or quorum)")
        if self.type == STREAM and self.retry is not None:
            raise fault("a stream cannot retry (take retry out, or use classic or quorum)", "retry")
        raw = next((a for a in (DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY) if a in self.arguments), None)
        if raw is not None and (self.dead_letter is not None or self.retry is not None):
            key = "retry" if self.dead_letter is None else "dead_letter"
            raise fault(f"{key} and {raw} exclude each other (keep one)")
        if (size := len(json.dumps(self.arguments, ensure_ascii=False).encode(errors="replace"))) > MAX_ARGUMENTS:
            raise fault(f"they have {size:,} bytes together (RabbitMQ takes about {MAX_ARGUMENTS:,})", "arguments")
        return self

    @model_validator(mode="after")
    def traits_fit_type(self) -> Queue:
        for trait in TRAITS:
            if getattr(self, trait.key) is None:
                continue
            if self.type not in trait.types:
                right = " or ".join(trait.types)
                raise fault(f"a {self.type} queue has no {trait.key} (take it out, or use type: {right})", trait.key)
            if trait.argument in self.arguments:
                raise fault(f"{trait.key} and the argument {trait.argument} say the same (keep one)", trait.key)
        if self.type != "classic" and self.overflow == "reject-publish-dlx":
            raise fault(
                f"a {self.type} queue has no reject-publish-dlx (use reject-publish, or type: classic)", "overflow"
            )
        return self

    def pause_at(self, now: float) -> Pause | None:
        """The pause in force at `now`, in seconds since the epoch. One whose time has passed is none."""
        pause = self.paused
        return None if pause is None or (pause.until and pause.until.timestamp() <= now) else pause

    def broker_arguments(self, have: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The arguments the broker is to hold for this queue, without the type.

        `have` are those of the queue that is there, if there is one. What it was declared with beats every policy, so
        that a friendly key is met by an argument that says the same, and only by that.
        """
        arguments = dict(self.arguments)
        if self.dead_letter is not None and not self._dead_letters_by_policy(have):
            arguments |= {DEAD_LETTER_EXCHANGE: "", DEAD_LETTER_KEY: self.dead_letter}
        for trait, value in self._traits():
            is_there = have is not None and trait.argument in have
            if is_there or (trait.policy is None and value is not False):
                arguments[trait.argument] = trait.written(value)
        return arguments

    def policy_definition(self, have: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the queue's own policy is to set. `have`: as for `broker_arguments`."""
        definition = {trait.policy: trait.written(value) for trait, value in self._traits() if trait.policy}
        if self.dead_letter is not None and self._dead_letters_by_policy(have):
            definition |= {"dead-letter-exchange": "", "dead-letter-routing-key": self.dead_letter}
        return definition

    def _traits(self) -> Iterator[tuple[Trait, Any]]:
        for trait in TRAITS if self.model_fields_set else ():
            if (value := getattr(self, trait.key)) is not None:
                yield trait, value

    def _dead_letters_by_policy(self, have: Mapping[str, Any] | None) -> bool:
        """Only where the queue is there without: an argument holds from the first moment on, and over AMQP alone."""
        return have is not None and DEAD_LETTER_EXCHANGE not in have and DEAD_LETTER_KEY not in have
