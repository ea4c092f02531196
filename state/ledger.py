"""What is ours: which queues we made at which broker, and how each is to be removed. One small JSON file.

Only what stands here is ever deleted. A lost or broken ledger therefore deletes nothing: it owns nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from state.file import write_atomically

UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
ON_REMOVE = ("keep", "delete-if-empty", "delete")


@dataclass(frozen=True)
class Owned:
    """A queue that we made. `on_remove` is what the file said last, for when the entry is gone."""

    on_remove: str = "delete-if-empty"


@dataclass
class Ledger:
    """Ownership by broker identity, and the deletions that a person asked for by name (True: with force)."""

    path: Path
    brokers: dict[str, dict[str, Owned]] = field(default_factory=dict)
    requests: dict[str, bool] = field(default_factory=dict)
    broken: str | None = None  # why the file on disk could not be used

    @classmethod
    def load(cls, path: Path) -> Ledger:
        """The ledger at `path`; an empty one if there is none. One that cannot be read is moved aside, not lost."""
        try:
            return cls(path, *_read(json.loads(path.read_bytes())))
        except FileNotFoundError:
            return cls(path)
        except UNREADABLE as error:
            aside = path.with_suffix(".broken.json")
            path.replace(aside)
            return cls(
                path, broken=f"{path.name} cannot be read ({error}); it is {aside.name} now, and nothing is owned"
            )

    @classmethod
    def peek(cls, path: Path) -> Ledger:
        """The ledger for looking only: nothing is moved or written."""
        try:
            return cls(path, *_read(json.loads(path.read_bytes())))
        except (OSError, *UNREADABLE):
            return cls(path)

    def owned(self, broker: str) -> Mapping[str, Owned]:
        return self.brokers.get(broker, {})

    def claim(self, broker: str, queues: Mapping[str, Owned]) -> None:
        """Remembers `queues` as ours, on disk before it returns. Called before a queue is made, so that a crash
        between the two leaves a queue that is known to be ours."""
        if all(self.owned(broker).get(name) == owned for name, owned in queues.items()):
            return
        self.brokers.setdefault(broker, {}).update(queues)
        self.save()

    def release(self, broker: str, name: str) -> None:
        known = self.brokers.get(broker, {}).pop(name, None)
        if known is not None or self.requests.pop(name, None) is not None:
            self.requests.pop(name, None)
            self.save()

    def request(self, name: str, force: bool) -> None:
        self.requests[name] = force
        self.save()

    def drop_requests(self, names: set[str]) -> None:
        if names & self.requests.keys():
            self.requests = {name: force for name, force in self.requests.items() if name not in names}
            self.save()

    def save(self) -> None:
        brokers = {b: {n: asdict(o) for n, o in queues.items()} for b, queues in self.brokers.items()}
        data = {"version": 1, "brokers": brokers, "requests": self.requests}
        write_atomically(self.path, json.dumps(data, indent=1, ensure_ascii=False).encode())


def _read(data: Any) -> tuple[dict[str, dict[str, Owned]], dict[str, bool]]:
    brokers = {str(b): {str(n): Owned(**o) for n, o in queues.items()} for b, queues in data["brokers"].items()}
    requests = {str(name): force for name, force in data["requests"].items()}
    if any(owned.on_remove not in ON_REMOVE for queues in brokers.values() for owned in queues.values()):
        raise ValueError("an on_remove in it is none that we wrote")
    if any(force is not True and force is not False for force in requests.values()):
        raise ValueError("a request in it is neither true nor false")
    return brokers, requests
