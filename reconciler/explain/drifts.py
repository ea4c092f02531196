"""Who changed a queue beside us, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from reconciler.drift import Drift
from reconciler.explain.known import Known
from reconciler.words import ago, times

HOUR = 3600.0


def of_the_drifts(known: Known) -> Iterator[str]:
    """Who kept changing it, apart for what was mended and what was only seen."""
    for corrected in (True, False):
        drifts = [d for d in known.drifts if d.corrected == corrected]
        recent = [d for d in drifts if d.at > known.now - HOUR]
        if not drifts:
            continue
        counted = recent or drifts
        last = counted[-1]
        within = "an hour" if recent else "a day"
        yield (
            f"Drift was {'corrected' if corrected else 'seen'} {times(len(counted))} within {within} "
            f"(last {ago(known.now - last.at)}: {last.what}), {blamed(counted)}."
        )


def blamed(drifts: Sequence[Drift]) -> str:
    culprits = Counter(drift.by for drift in reversed(drifts))
    unknown = culprits.pop(None, 0)
    if not culprits:
        return "and RabbitMQ does not tell by whom (no other connection was seen then; the HTTP API leaves no trace)"
    if len(culprits) == 1 and not unknown:
        return f"as far as RabbitMQ tells by {next(iter(culprits))}"
    parts = [f"{times(number)} by {by}" for by, number in culprits.items()]
    return f"as far as RabbitMQ tells {'; '.join(parts)}" + (f"; {times(unknown)} by nobody knows whom" * bool(unknown))
