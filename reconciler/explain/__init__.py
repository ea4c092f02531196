"""Why a queue and its workers are as they are, in sentences, from what the last turn saw and planned. Pure.

known    what is known of a queue
queue    the file, the broker, the ledger, the plan
pools    each number of workers
drifts   what others did
"""

from __future__ import annotations

from reconciler.explain.drifts import of_the_drifts
from reconciler.explain.known import Known, is_known, near
from reconciler.explain.pools import of_the_workers
from reconciler.explain.queue import of_the_broker, of_the_file, of_the_pause, of_the_plan

__all__ = ["Known", "explain", "is_known", "near"]


def explain(known: Known) -> list[str]:
    """One fact a sentence: what it is, whose it is, what holds it up, each number of workers, what others did."""
    return [
        *of_the_file(known),
        *of_the_broker(known),
        *of_the_plan(known),
        *of_the_pause(known),
        *of_the_workers(known),
        *of_the_drifts(known),
    ]
