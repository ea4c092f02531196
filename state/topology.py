"""Exchanges, bindings, policies and retries of queues.yaml as frozen models. Pure; what `state.desired` is made of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from state.values import (
    MAX_NAME_BYTES,
    Duration,
    Model,
    Table,
    between,
    check_name,
    fault,
    not_empty,
)

DAY = 86400
EXCHANGE_TYPES = ("direct", "fanout", "topic", "headers")
MATCHES = ("all", "any", "all-with-x", "any-with-x")
OUR_POLICIES = "reconciler."  # how the names of the policies begin that carry a queue's own keys


def check_type(kind: str) -> str:
    if kind not in EXCHANGE_TYPES and not (kind.startswith("x-") and len(kind) > 2):
        known = ", ".join(EXCHANGE_TYPES)
        raise fault(f"{kind!r:.60} is no type of exchange ({known}, or x-… for what a plugin brings)")
    return kind


def check_source(name: Any) -> Any:
    """A name that can be bound from: those of RabbitMQ's own exchanges too, but not the default exchange."""
    if name == "":
        raise fault("the default exchange cannot be bound: it routes to each queue by its name (name another exchange)")
    return name if not isinstance(name, str) or name.startswith("amq.") else check_name(name)


def check_routing_key(key: str) -> str:
    if (size := len(key.encode(errors="replace"))) > MAX_NAME_BYTES:
        raise fault(f"the routing key has {size} bytes (RabbitMQ takes at most {MAX_NAME_BYTES})")
    return key


def check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern.encode())
    except (re.error, UnicodeEncodeError) as error:
        raise fault(f"it is no regular expression: {error} (such as ^orders\\.)") from None
    return pattern


def check_policy_name(name: str) -> str:
    if name.startswith(OUR_POLICIES):
        raise fault(
            f"names that begin with {OUR_POLICIES} are for the policies of the queues' own keys (choose another)"
        )
    if not name or len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise fault(f"a policy's name has 1 to {MAX_NAME_BYTES} bytes")
    return name


ExchangeName = Annotated[str, BeforeValidator(lambda v: check_name(v) if isinstance(v, str) else v)]
SourceName = Annotated[str, BeforeValidator(check_source)]
PolicyName = Annotated[str, AfterValidator(check_policy_name)]


class Binding(Model):
    """From an exchange to the queue or exchange that lists it."""

    exchange: SourceName = Field(description="the exchange that messages come from")
    routing_key: Annotated[str, AfterValidator(check_routing_key)] = ""
    arguments: Table = Field(default_factory=dict, description="what a headers exchange compares, with x-match")

    @model_validator(mode="before")
    @classmethod
    def is_mapping(cls, value: Any) -> Any:
        if not isinstance(value, Mapping | cls):
            raise fault('a binding is a mapping such as {exchange: events, routing_key: "order.*"}')
        return value

    @field_validator("arguments")
    @classmethod
    def x_match(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments.get("x-match", "all") not in MATCHES:
            raise fault(f"{arguments['x-match']!r:.60} is none of {', '.join(MATCHES)}", "x-match")
        return arguments


def check_bindings(bindings: list[Binding]) -> list[Binding]:
    for number, binding in enumerate(bindings):
        if binding in bindings[:number]:
            raise fault("this binding stands above already (keep one)", str(number))
    return bindings


Bindings = Annotated[list[Binding], AfterValidator(check_bindings)]


class Exchange(Model):
    """One exchange, what is routed into it, and how it is treated when it leaves the file."""

    type: Annotated[str, AfterValidator(check_type)] = "direct"
    durable: bool = True
    auto_delete: bool = Field(default=False, description="RabbitMQ deletes it once its last binding is gone")
    internal: bool = Field(default=False, description="takes messages from other exchanges only")
    arguments: Table = Field(default_factory=dict, description="passed to the broker as they are")
    bindings: Bindings = Field(default_factory=list, description="the exchanges that it gets messages from")
    on_remove: Literal["keep", "delete-if-unused"] = "delete-if-unused"

    @model_validator(mode="before")
    @classmethod
    def is_mapping(cls, value: Any) -> Any:
        not_empty(value)
        if not isinstance(value, Mapping | cls):
            raise fault("an exchange is a mapping (write {} for a durable direct exchange)")
        return value

    @field_validator("arguments", "bindings", mode="before")
    @classmethod
    def nothing_behind(cls, value: Any) -> Any:
        return not_empty(value)


class PolicyRule(Model):
    """One policy of the virtual host: what it applies to, and what it sets there."""

    pattern: Annotated[str, AfterValidator(check_pattern)] = Field(description="a regular expression for names")
    apply_to: Literal["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"] = "all"
    priority: int = Field(default=0, ge=-(2**31), lt=2**31, description="of those that match, the highest applies")
    definition: Annotated[dict[str, Any], Field(min_length=1)] = Field(description="such as {message-ttl: 60000}")

    @model_validator(mode="before")
    @classmethod
    def is_mapping(cls, value: Any) -> Any:
        not_empty(value)
        if not isinstance(value, Mapping | cls):
            raise fault('a policy is a mapping such as {pattern: "^dev\\\\.", definition: {message-ttl: 60000}}')
        return value


class Retry(Model):
    """How often a failed message comes back before it goes to the dead-letter queue, and after which delays."""

    attempts: int = Field(ge=1, le=1000, description="how often a message is tried in all")
    delays: Annotated[list[Annotated[Duration, between(0.001, 49 * DAY)]], Field(min_length=1, max_length=100)] = Field(
        description="before the second try, the third, …; the last one repeats"
    )
