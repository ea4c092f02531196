"""What the connected broker will refuse or do otherwise than the file says, said before it happens. Pure.

`state.reader` knows what is wrong with a file on any broker; here is what depends on the version of the broker, and
on what is there.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.lint.deadletters import about_dead_letters
from reconciler.lint.finding import Finding
from reconciler.lint.policies import about_policies
from reconciler.lint.queues import about_queues
from state.desired import Desired
from state.observed import ObservedBroker, Release

__all__ = ["Finding", "lint"]


def lint(desired: Desired, release: Release | None, there: ObservedBroker | None = None) -> list[Finding]:
    """Everything that is to be said, errors first, else in the order of the file.

    `release` is the broker's version; without it only what is true of each version is said. `there` is what the broker
    has beside the file.
    """
    return sorted(findings(desired, release, there), key=lambda finding: finding.severity)


def findings(desired: Desired, release: Release | None, there: ObservedBroker | None) -> Iterator[Finding]:
    yield from about_queues(desired, release)
    yield from about_policies(desired, release)
    yield from about_dead_letters(desired, there)
