"""How many processes a pool is to have, from what was seen of its queue. Pure; it stands between observation and diff.

Up at once, down late: a process too many costs memory, one too few costs somebody's waiting. What is not known asks
for what there is: a broker that is away must never look like an empty queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from state.autoscale import Policy, Sample

TOLERANCE = 10  # percent that the messages of one process may be off without a change
STALE = 30.0  # seconds after which what was seen says nothing any more
KEPT = 120  # samples of one pool; in longer stretches the heaviest stands for the others


@dataclass(frozen=True)
class Decision:
    """How many processes a pool is to have, and why, in words."""

    count: int
    reason: str


def decide(policy: Policy, samples: Sequence[Sample], current: int, now: float) -> Decision:
    """The number of processes, given how many there are. `samples`: oldest first; `now` is of their clock."""
    kept = policy.clamp(current)
    messages = samples[-1].messages if samples and now - samples[-1].at <= STALE else None
    if messages is None:
        return Decision(kept, f"metric missing: kept {kept}")
    wanted = recommended(policy, messages)
    backlog = in_words(policy, messages)
    if wanted == kept:
        return Decision(kept, backlog)
    if is_tolerable(policy, messages, kept):
        return Decision(kept, f"within tolerance: {backlog}")
    if wanted > kept:
        return Decision(wanted, backlog)
    return lower(policy, samples, kept, wanted, now)


def recommended(policy: Policy, messages: int) -> int:
    return policy.clamp(-(-messages // policy.backlog))


def in_words(policy: Policy, messages: int) -> str:
    asked = -(-messages // policy.backlog)
    bound = (
        f", at most {policy.max}" if asked > policy.max else f", at least {policy.min}" if asked < policy.min else ""
    )
    return f"backlog {messages} / {policy.backlog}{bound}"


def is_tolerable(policy: Policy, messages: int, count: int) -> bool:
    return abs(messages - count * policy.backlog) * 100 <= TOLERANCE * count * policy.backlog and count > 0


def lower(policy: Policy, samples: Sequence[Sample], kept: int, wanted: int, now: float) -> Decision:
    """As few as `wanted`, if the window allows it. Zero is the cooldown's business alone."""
    backlog = in_words(policy, samples[-1].messages or 0)
    asked = highest(policy, samples, kept, now)
    least = kept if asked is None else min(kept, max(asked, wanted))
    if wanted == 0:
        left = policy.cooldown - quiet_for(samples, now)
        if left <= 0:
            return Decision(0, f"no message for {policy.cooldown:g} s")
        return Decision(max(least, 1), f"cooling down: zero in {left:.0f} s without a message")
    if asked is None:
        return Decision(least, f"stabilized: not all of the last {policy.window:g} s is known ({backlog})")
    if least > wanted:
        return Decision(least, f"stabilized: {asked} wanted within {policy.window:g} s ({backlog})")
    return Decision(wanted, backlog)


def highest(policy: Policy, samples: Sequence[Sample], kept: int, now: float) -> int | None:
    """The most that the window asked for; None if it holds a time of which nothing is known."""
    seen = [s.messages for s in samples if s.at >= now - policy.window] or [samples[-1].messages]
    known = [m for m in seen if m is not None]
    asked = max(recommended(policy, m) for m in known)
    covered = samples[0].at <= now - policy.window and len(known) == len(seen)
    return asked if covered or asked >= kept else None


def quiet_for(samples: Sequence[Sample], now: float) -> float:
    """Seconds since the last message was there, or may have been."""
    last = max((s.at for s in samples if s.messages != 0), default=samples[0].at)
    return now - last


def remember(samples: Sequence[Sample], new: Sample, horizon: float) -> tuple[Sample, ...]:
    """`samples` with `new`, without those that no decision looks at any more, and never more than about KEPT."""
    step = max(horizon / KEPT, 0.1)
    seen = [*samples, new]
    if len(seen) > 2 and seen[-3].at // step == seen[-2].at // step:
        seen[-3:-1] = [heavier(seen[-3], seen[-2])]
    # One from before the horizon stays: it says that the horizon is known to its beginning.
    begin = next((i for i, (_, after) in enumerate(pairwise(seen)) if after.at > new.at - horizon), len(seen) - 1)
    return tuple(seen[begin:])


def heavier(one: Sample, other: Sample) -> Sample:
    """The one that asks for more; of a time that is not known, that one."""
    if one.messages is None or other.messages is None:
        return one if one.messages is None else other
    return one if one.messages > other.messages else other
