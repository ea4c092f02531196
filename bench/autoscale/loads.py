"""The loads: how many messages arrive in each second, and how many of them fail again and again. Seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOUR = 3600


@dataclass(frozen=True)
class Load:
    """`arrivals[s]` messages in second `s`. Of those a share `poisoned` fails `attempts` times, each time to come back
    after `delay` seconds. `surges`: the seconds from which the time to drain is taken."""

    name: str
    text: str
    arrivals: list[int]
    surges: tuple[int, ...]
    poisoned: float = 0.0
    attempts: int = 0
    delay: float = 0.0


def poisson(mean: float, dice: random.Random) -> int:
    """One draw; exact for small means, by the normal distribution for large ones."""
    if mean > 50:
        return max(0, round(dice.gauss(mean, math.sqrt(mean))))
    limit, product, count = math.exp(-mean), dice.random(), 0
    while product > limit:
        product *= dice.random()
        count += 1
    return count


def steady(dice: random.Random) -> Load:
    arrivals = [poisson(18, dice) for _ in range(HOUR)]
    return Load("steady", "18 messages a second for an hour", arrivals, (HOUR,))


def bursty(dice: random.Random) -> Load:
    arrivals = [0] * HOUR
    surges = tuple(600 * i + dice.randrange(120) for i in range(6))
    for begin in surges:
        for second in range(begin, begin + 5):
            arrivals[second] = 1200
    return Load("bursty", "6,000 messages within 5 s, every ten minutes, nothing between", arrivals, surges)


def trickle(dice: random.Random) -> Load:
    arrivals = [0] * HOUR
    surges = tuple(420 * i + dice.randrange(60) for i in range(8))
    for second in surges:
        arrivals[second] = 1
    return Load("trickle", "one message every seven minutes", arrivals, surges)


def daily(dice: random.Random) -> Load:
    rates = [max(0.0, 60 * math.sin(math.pi * (s / HOUR - 6) / 16)) if 6 < s / HOUR < 22 else 0.0 for s in range(86400)]
    arrivals = [poisson(rate, dice) for rate in rates]
    return Load("daily", "nothing at night, 60 messages a second at 14:00", arrivals, (22 * HOUR,))


def poisoned(dice: random.Random) -> Load:
    arrivals = [poisson(10, dice) for _ in range(HOUR)]
    text = "10 messages a second; 2 % of them fail 20 times and come back after 10 s"
    return Load("poisoned", text, arrivals, (HOUR,), poisoned=0.02, attempts=20, delay=10.0)


def recorded(path: Path) -> Load:
    """A load from a file with one number of messages a line, one line a second."""
    arrivals = [int(line) for line in path.read_text().split()]
    return Load(path.stem, f"recorded in {path.name}", arrivals, (len(arrivals),))


LOADS: tuple[Callable[[random.Random], Load], ...] = (steady, bursty, trickle, daily, poisoned)
