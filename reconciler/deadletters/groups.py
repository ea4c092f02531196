"""Dead letters by what they have in common: the reason, the exception and the worker. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.deadletters.letters import PREVIEW, Letter, shown

MOST_IDS = 1000  # message ids told of one group
MOST_GROUPS = 500  # the rest is one group, or nonsense in a header could fill the answer


@dataclass
class Group:
    """`sample` is the newest of them."""

    reason: str
    exception: str | None
    worker_name: str | None
    count: int = 0
    ids: list[str] = field(default_factory=list)
    queues: set[str] = field(default_factory=set)
    newest: tuple[Letter, Any, bytes, int] | None = None

    def add(self, letter: Letter, properties: Any, body: bytes) -> None:
        self.count += 1
        if letter.message_id and len(self.ids) < MOST_IDS:
            self.ids.append(letter.message_id)
        if letter.source:
            self.queues.add(letter.source)
        self.newest = letter, properties, body[:PREVIEW], len(body)

    def as_json(self) -> Mapping[str, Any]:
        return {
            "reason": self.reason,
            "exception": self.exception,
            "worker_name": self.worker_name,
            "count": self.count,
            "queues": sorted(self.queues),
            "message_ids": self.ids,
            "sample": shown(*self.newest) if self.newest else None,
        }


class Groups:
    """Takes one letter after the other, the oldest first."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str | None, str | None], Group] = {}
        self.count = 0

    def add(self, letter: Letter, properties: Any, body: bytes) -> None:
        self.count += 1
        key = letter.reason, letter.exception, letter.worker_name
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            key = "other", None, None
        self._groups.setdefault(key, Group(*key)).add(letter, properties, body)

    def as_json(self) -> list[Mapping[str, Any]]:
        """The largest first."""
        return [group.as_json() for group in sorted(self._groups.values(), key=lambda group: -group.count)]
