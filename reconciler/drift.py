"""What others changed at the broker, and how often: a bounded history. Pure; times are seconds since the epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from state.observed import ObservedConnection

KEPT = 20  # of one subject, the newest
SUBJECTS = 1000  # that are remembered at all, the newest
NAMED = 4  # connections that a sentence names
HORIZON = 86400.0  # seconds after which a drift is history


@dataclass(frozen=True)
class Drift:
    """Something that was as the file says and then was not, though the file had not changed.

    `by` is what RabbitMQ tells of who did it, in words; None while nobody knows.
    """

    at: float
    subject: str  # the queue, or what else it was
    what: str
    corrected: bool = True
    by: str | None = None


class DriftHistory:
    """The newest drifts of each subject."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[Drift]] = {}

    def saw(self, drift: Drift) -> None:
        kept = self._seen.pop(drift.subject, None) or deque(maxlen=KEPT)
        kept.append(drift)
        self._seen[drift.subject] = kept  # at the end: the one that is longest ago goes first
        while len(self._seen) > SUBJECTS:
            del self._seen[next(iter(self._seen))]

    def blame(self, drift: Drift, by: str) -> None:
        """Adds who it was, which is often known only seconds later."""
        kept = self._seen.get(drift.subject, deque())
        for index, known in enumerate(kept):
            if replace(known, by=drift.by) == drift:
                kept[index] = replace(known, by=by)

    def of(self, subject: str, now: float) -> tuple[Drift, ...]:
        return tuple(drift for drift in self._seen.get(subject, ()) if drift.at > now - HORIZON)


def suspects(connections: Iterable[ObservedConnection]) -> str | None:
    """Who it may have been, by the connections of others that were there then. None if there were none.

    Never more than a suspicion: a call of the HTTP API leaves no trace, and neither does one that was gone at once.
    """
    others = sorted(set(connections), key=str)
    if not others:
        return None
    if len(others) == 1:
        (one,) = others
        return f"{one} (user {one.user}, {one.peer}), the only one beside ours then"
    return f"one of the {len(others)} connections that were there then beside ours: {listed(others)}"


def listed(connections: Sequence[ObservedConnection]) -> str:
    more = f" and {len(connections) - NAMED} more" if len(connections) > NAMED else ""
    return ", ".join(map(str, connections[:NAMED])) + more
