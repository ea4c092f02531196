"""How long to wait after failures: one pure function, used for actions, connections and worker processes."""

from __future__ import annotations


def backoff(failures: int, *, base: float = 1.0, cap: float = 60.0, jitter: float = 0.5) -> float:
    """Seconds to wait after `failures` failures in a row: exponential, capped.

    `jitter` is a number in 0..1 that the caller draws; the wait is between 75 % (0) and 125 % (1) of the
    exponential, so that many that failed together do not come back together.
    """
    if failures <= 0:
        return 0.0
    exponential = min(cap, base * 2.0 ** min(failures - 1, 32))
    return exponential * (0.75 + 0.5 * jitter)
