"""The kinds of values in queues.yaml: names, texts, durations, sizes, shares. Pure; what `state.desired` is made of.

The messages are read by people, so they say what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from state import units

MAX_NAME_BYTES = 255  # AMQP 0-9-1 short string
MAX_DEPTH = 20  # of lists in lists
MAX_COUNT = 1000  # processes of one worker
# What `setrlimit` of the kernel knows, in small letters.
RLIMITS: tuple[str, ...] = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
)  # fmt: skip


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
    return check_table_key(name)


def check_table_key(name: str) -> str:
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
TableValue = Annotated[Any, AfterValidator(check_argument)]
Arguments = dict[Annotated[str, AfterValidator(check_argument_name)], TableValue]  # of a queue
Table = dict[Annotated[str, AfterValidator(check_table_key)], TableValue]  # of an exchange or a binding
Environment = dict[Annotated[str, AfterValidator(check_env_name)], Annotated[Text, AfterValidator(check_env_value)]]


def check_rlimit_name(name: str) -> str:
    if name in RLIMITS:
        return name
    near = difflib.get_close_matches(name.lower().removeprefix("rlimit_"), RLIMITS, n=1, cutoff=0.5)
    raise fault(
        f"the kernel has no such limit ({f'did you mean {near[0]}?' if near else 'known: ' + ', '.join(RLIMITS)})"
    )


def check_user(name: str) -> str:
    if not name or any(c.isspace() or c in ":/\0" for c in name):
        raise fault("a user is a name or a number as in /etc/passwd (such as www-data)")
    return name


def read_by(read: Callable[[Any], Any]) -> BeforeValidator:
    """What `read` makes of the value; its ValueError as a fault."""

    def reading(value: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise fault(str(error)) from None

    return BeforeValidator(reading)


def between(least: float, most: float) -> AfterValidator:
    """Refuses what is below or above, in the base unit."""

    def check(value: float) -> float:
        if value < least:
            raise fault(f"{value:.15g} is too small (at least {least:.15g})")
        if value > most:
            raise fault(f"{value:.15g} is too large (at most {most:.15g})")
        return value

    return AfterValidator(check)


def number_or_text(kind: str, least: int, pattern: str, text: str) -> WithJsonSchema:
    options = [{"type": kind, "minimum": least}, {"type": "string", "pattern": pattern}]
    return WithJsonSchema({"anyOf": options, "description": text})


Duration = Annotated[
    float,
    read_by(units.seconds),
    number_or_text("number", 0, "^[0-9.]+ ?(ms|s|m|h|d)$", "seconds, or text such as 30s"),
]
Size = Annotated[
    int, read_by(units.size), number_or_text("integer", 0, "^[0-9.]+ ?([kKMGT]i?)?B$", "bytes, or text such as 512MiB")
]
Share = Annotated[
    int | str, read_by(units.share), number_or_text("integer", 1, "^[0-9]{1,3} ?%$", "such as 25%, or a whole number")
]
Moment = Annotated[datetime, read_by(units.moment), WithJsonSchema({"type": "string"})]
User = Annotated[Text, AfterValidator(check_user)]
Rlimits = dict[Annotated[str, AfterValidator(check_rlimit_name)], Size]
