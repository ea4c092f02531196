"""When the next turn comes if nothing wakes the loop before. Times are in seconds."""

from __future__ import annotations

from reconciler.backoff import backoff
from reconciler.turn import Turn

HELD_POLL_SECONDS = 2.0  # how often a removal that waits for a queue to become empty is looked at
GATHER_SECONDS = 0.05  # after a turn, within which what workers do by themselves makes one turn, not many
CALM_AFTER = 20  # turns in a row that each found something to do; more than that is a quarrel with somebody


class Pace:
    """Tell it how each turn went, and ask it how long to wait."""

    def __init__(self, resync: float) -> None:
        self.resync = resync
        self.broker_failures = 0  # in a row
        self._busy_turns = 0

    def turned(self, busy: bool) -> None:
        """A turn has ended, and had something to do or not."""
        self._busy_turns = self._busy_turns + 1 if busy else 0

    def broke(self) -> None:
        """A turn has ended by a fault of ours."""
        self._busy_turns = CALM_AFTER

    def delay(self, turn: Turn | None, next_retry: float, now: float) -> float:
        """Until the next turn. `next_retry`: until something that failed is tried again; `now`: since the epoch."""
        if turn is None:
            return 1.0
        if self._busy_turns:
            return 0.0 if self._busy_turns < CALM_AFTER else 1.0
        delays = [self.resync, next_retry, turn.reading.in_force.desired.next_resume(now) - now]
        if turn.reading.settles_in:
            delays.append(turn.reading.settles_in)
        waits = any(held.messages is not None and not held.needs_confirmation for held in turn.plan.held)
        if waits or turn.plan.under_way:
            delays.append(HELD_POLL_SECONDS)
        if turn.broker is None:
            delays.append(backoff(self.broker_failures, base=0.25, cap=5.0))
        return max(0.0, min(delays))

    def gathering(self, turn: Turn | None) -> float:
        """How long after a turn what workers do by themselves is gathered: turns take at most a fifth of the time."""
        return max(GATHER_SECONDS, 4 * turn.seconds if turn else 0.0)
