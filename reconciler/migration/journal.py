"""Where each migration stands, on disk before each of its steps. One small JSON file per queue in the state folder.

A record names everything that the migration made at the broker, so it is also what owns it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loguru import logger as log

from state.file import write_atomically

STEPS = ("drain", "prepare", "fill", "divert", "swap", "replace", "collect", "return", "restore", "rest", "clean")
DONE = "done"
# From here on the new queue is there, and the way back is the way on.
REPLACED = STEPS.index("replace")


@dataclass(frozen=True)
class Shape:
    """What cannot be changed about a queue once it is there."""

    type: str
    durable: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)  # without x-queue-type

    def __str__(self) -> str:
        rest = "".join(f", {key}: {value!r}" for key, value in sorted(self.arguments.items()))
        return f"{self.type}{'' if self.durable else ', not durable'}{rest}"


@dataclass(frozen=True)
class Route:
    """A binding of the queue."""

    exchange: str
    routing_key: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Record:
    """One migration. `broker` is the identity that ownership is bound to, too."""

    name: str
    broker: str
    wanted: Shape
    had: Shape
    if_empty: bool = False  # on_change: recreate-if-empty
    step: str = STEPS[0]
    routes: list[Route] = field(default_factory=list)  # every binding that the queue was seen to have
    total: int = 0  # messages that were there when the moving began
    offset: int | None = None  # of a stream: the first message that was not moved yet
    tracing: bool | None = None  # whether the virtual host was traced before; None: we have not touched it
    back: str | None = None  # why it goes back instead of on

    @property
    def temporary(self) -> str:
        """The queue that holds the messages meanwhile."""
        return beside(self.name, "migrating")

    @property
    def way(self) -> str:
        """The exchange that messages are moved through."""
        return beside(self.name, "migrating")

    @property
    def caught(self) -> str:
        """The queue of what came while there was none of the name."""
        return beside(self.name, "migrating.caught")

    @property
    def probe(self) -> str:
        return beside(self.name, "migrating.probe")

    @property
    def replaced(self) -> bool:
        return self.back is None and (self.step == DONE or STEPS.index(self.step) > REPLACED)


def beside(name: str, suffix: str) -> str:
    """A name for what stands beside the queue `name`: it must fit into 255 bytes as well."""
    if len(name.encode()) + len(suffix) + 1 <= 255:
        return f"{name}.{suffix}"
    return f"{hashlib.sha256(name.encode()).hexdigest()}.{suffix}"


class Journal:
    """The records in `folder`. Methods raise OSError if the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Iterator[Record]:
        """Every record there. One that cannot be read stays where it is, and is told of."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield read(json.loads(path.read_bytes()))
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                log.error("{} cannot be read ({}): its migration does not go on by itself", path, error)

    def save(self, record: Record) -> None:
        self.folder.mkdir(exist_ok=True)
        write_atomically(self._path(record), json.dumps(asdict(record), indent=1, ensure_ascii=False).encode())

    def drop(self, record: Record) -> None:
        self._path(record).unlink(missing_ok=True)

    def _path(self, record: Record) -> Path:
        digest = hashlib.sha256(f"{record.broker}\0{record.name}".encode()).hexdigest()
        return self.folder / f"{digest[:32]}.json"


def read(data: Any) -> Record:
    shapes = {key: Shape(**data[key]) for key in ("wanted", "had")}
    record = Record(**{**data, **shapes, "routes": [Route(**route) for route in data["routes"]]})
    if record.step not in STEPS:
        raise ValueError(f"there is no step {record.step}")
    return record
