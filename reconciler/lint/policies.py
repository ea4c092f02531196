"""What a broker makes of a policy."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.lint.finding import Finding, Path, otherwise, refused
from reconciler.lint.queues import V4, V4_3
from state.desired import Desired, PolicyRule
from state.observed import Release

V3_12 = (3, 12, 0)
BY_TYPE = ("classic_queues", "quorum_queues", "streams")


def about_policies(desired: Desired, release: Release | None) -> Iterator[Finding]:
    for name, rule in desired.policies.items():
        if release is not None:
            yield from about_policy(("policies", name), rule, release)


def about_policy(path: Path, rule: PolicyRule, release: Release) -> Iterator[Finding]:
    if rule.apply_to in BY_TYPE and release < V3_12:
        text = "it knows queues, exchanges and all only: types of queues came with 3.12"
        yield refused((*path, "apply_to"), f"RabbitMQ {in_words(release)} refuses it; {text} (use queues)")
    for key, value in rule.definition.items():
        yield from about_key((*path, "definition", key, "[key]"), key, value, release)


def about_key(path: Path, key: str, value: object, release: Release) -> Iterator[Finding]:
    if key.startswith("ha-"):
        if release >= V4:
            yield refused(path, "RabbitMQ 4.0 has no mirrored queues any more and refuses it (use type: quorum)")
        else:
            yield otherwise(path, "mirrored queues are gone in RabbitMQ 4.0, which refuses it (use type: quorum)")
    elif release >= V4 and (key == "queue-mode" or (key == "queue-version" and value == 1)):
        made, text = (refused, "4.3 refuses it") if release >= V4_3 else (otherwise, "it has no effect since 4.0")
        yield made(path, f"{text} (take it out)")
    elif release >= V4_3 and key == "queue-master-locator":
        yield refused(path, "4.3 refuses it (use queue-leader-locator)")


def in_words(release: Release) -> str:
    return ".".join(map(str, release))
