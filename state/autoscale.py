"""How the number of a pool's processes follows its queue: what the file says, and what was seen. Pure data."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator

from state.values import MAX_COUNT, Duration, Model, fault

DAY = 86400
COOLDOWN = 60.0
WINDOW = 300.0


@dataclass(frozen=True)
class Policy:
    """One process for each `backlog` messages, within `min`..`max`. Times are in seconds.

    It goes down no further than to the most that the last `window` asked for, and to zero once no message was seen
    for `cooldown`, whatever the window says.
    """

    min: int
    max: int
    backlog: int
    cooldown: float = COOLDOWN
    window: float = WINDOW

    @property
    def horizon(self) -> float:
        """How far back a decision looks."""
        return max(self.cooldown, self.window)

    def clamp(self, count: int) -> int:
        return min(max(count, self.min), self.max)


@dataclass(frozen=True)
class Sample:
    """A queue's messages as of `at`, in seconds of a clock that does not go back; None if they were not to be had."""

    at: float
    ready: int | None
    unacknowledged: int = 0  # with a worker, and not settled yet

    @property
    def messages(self) -> int | None:
        return None if self.ready is None else self.ready + self.unacknowledged


class Autoscale(Model):
    """`autoscale` of a worker in the file."""

    min: int = Field(default=0, ge=0, le=MAX_COUNT, description="never fewer processes")
    max: int = Field(ge=1, le=MAX_COUNT, description="never more processes")
    backlog: int = Field(ge=1, le=10**9, description="messages for each process: ready and unacknowledged ones")
    cooldown: Duration = Field(
        default=COOLDOWN, ge=0, le=DAY, description="time without a message before the last process ends"
    )
    window: Duration = Field(
        default=WINDOW, ge=0, le=DAY, description="it goes down no further than to the most that this time asked for"
    )

    @model_validator(mode="after")
    def is_a_range(self) -> Autoscale:
        if self.min > self.max:
            raise fault(f"min is {self.min} and max is {self.max} (min is at most max)", "min")
        return self

    @property
    def policy(self) -> Policy:
        return Policy(self.min, self.max, self.backlog, self.cooldown, self.window)
