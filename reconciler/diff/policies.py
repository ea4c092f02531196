"""Policies: wanted × there → differences. Pure.

RabbitMQ applies one policy to a queue, the matching one of the highest priority, and merges none. So what a queue's
own keys ask for is set by a policy of ours above all others that match it, with what the one below it would have set.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from reconciler.diff.queues import Difference, same
from state.desired import Desired, PolicyRule, Queue
from state.observed import ObservedPolicy, ObservedQueue
from state.topology import OUR_POLICIES
from state.traits import APPLY_TO, not_for_type

OWN_PRIORITY = 1000  # high enough that a policy of somebody else that comes later is mostly below it
# RabbitMQ compares each policy with each queue whenever one of them changes: 500 policies of one queue each take it
# six minutes to set, a few that share them two seconds. Up to so many queues have a policy of their own.
MAX_SINGLE = 50
MAX_PATTERN = 20_000  # bytes; RabbitMQ's regular expressions end at about 64 kB when compiled


@dataclass(frozen=True)
class WantedPolicy:
    """`queues` are those whose own keys it carries; empty for a policy of the file."""

    rule: PolicyRule
    queues: tuple[str, ...] = ()


@dataclass(frozen=True)
class PolicyMissing:
    name: str
    wanted: WantedPolicy


@dataclass(frozen=True)
class PolicyDiffers:
    name: str
    wanted: WantedPolicy
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class PolicyUnwanted:
    """Ours, at the broker, and no longer wanted."""

    name: str


@dataclass(frozen=True)
class PolicyUnseen:
    """Without the management API policies can be neither seen nor set."""

    name: str
    wanted: WantedPolicy


PolicyChange = PolicyMissing | PolicyDiffers | PolicyUnwanted | PolicyUnseen


def diff_policies(
    desired: Mapping[str, WantedPolicy], observed: Mapping[str, ObservedPolicy] | None, owned: Collection[str]
) -> Iterator[PolicyChange]:
    for name, wanted in desired.items():
        if observed is None:
            yield PolicyUnseen(name, wanted)
        elif (seen := observed.get(name)) is None:
            yield PolicyMissing(name, wanted)
        elif differences := tuple(compare_policies(wanted.rule, seen)):
            yield PolicyDiffers(name, wanted, differences)
    for name in sorted(set(owned) - desired.keys()):
        if observed and name in observed:
            yield PolicyUnwanted(name)


def compare_policies(wanted: PolicyRule, have: ObservedPolicy) -> Iterator[Difference]:
    for key in ("pattern", "apply_to", "priority"):
        if getattr(wanted, key) != getattr(have, key):
            yield Difference(key, getattr(wanted, key), getattr(have, key))
    for key in sorted(wanted.definition.keys() | have.definition.keys()):
        if not same(wanted.definition.get(key), have.definition.get(key)):
            yield Difference(key, wanted.definition.get(key), have.definition.get(key))


# -- the policies that are wanted ----------------------------------------------------------------------------------


def wanted_policies(
    desired: Desired,
    queues: Mapping[str, ObservedQueue],
    observed: Mapping[str, ObservedPolicy] | None,
    going: Collection[str] = (),
) -> dict[str, WantedPolicy]:
    """The file's own, and those that carry the keys of queues. `going` are policies that are about to be deleted."""
    others = {name: p for name, p in (observed or {}).items() if name not in going and not carries_keys(p)}
    others |= {name: as_observed(name, rule) for name, rule in desired.policies.items()}
    carried: dict[str, PolicyRule] = {}
    for name, queue in desired.all_queues().items():
        seen = queues.get(name)
        if definition := queue.policy_definition(seen.arguments if seen else None):
            carried[name] = rule_for(name, queue, definition, others.values())
    return {name: WantedPolicy(rule) for name, rule in desired.policies.items()} | dict(shared(carried))


def rule_for(name: str, queue: Queue, definition: Mapping[str, Any], others: Iterable[ObservedPolicy]) -> PolicyRule:
    matching = [policy for policy in others if matches(policy, name, queue.type)]
    below = applying(matching, name, queue.type)
    return PolicyRule.model_construct(  # of what was checked already, ten thousand times in a large file
        pattern=exactly([name]),
        apply_to="queues",
        priority=max([OWN_PRIORITY, *(policy.priority + 1 for policy in matching)]),
        definition={**(below.definition if below else {}), **definition},
    )


def applying(policies: Iterable[ObservedPolicy], name: str, kind: str) -> ObservedPolicy | None:
    """The one policy that RabbitMQ applies to a queue of this name and type."""
    fit = (p for p in policies if matches(p, name, kind) and not_for_type(p.definition, kind) is None)
    return max(fit, key=rank, default=None)


def rank(policy: ObservedPolicy) -> tuple[int, str]:
    """Which of two policies applies. RabbitMQ leaves it open for equal priorities; here it is the same each time."""
    return policy.priority, policy.name


def matches(policy: ObservedPolicy, name: str, kind: str) -> bool:
    return policy.apply_to in ("all", "queues", APPLY_TO[kind]) and bool(
        (compiled := expression(policy.pattern)) and compiled.search(name.encode())
    )


@lru_cache(maxsize=10_000)
def expression(pattern: str) -> re.Pattern[bytes] | None:
    """As RabbitMQ reads it: on bytes. None for the few that PCRE knows and Python does not."""
    try:
        return re.compile(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", pattern).encode())
    except (re.error, UnicodeEncodeError):
        return None


def shared(carried: Mapping[str, PolicyRule]) -> Iterator[tuple[str, WantedPolicy]]:
    """One policy for each queue; with very many queues, one for all whose keys and priority are the same."""
    if len(carried) <= MAX_SINGLE:
        yield from ((OUR_POLICIES + name, WantedPolicy(rule, (name,))) for name, rule in carried.items())
        return
    groups: dict[str, list[str]] = {}
    for name, rule in carried.items():
        groups.setdefault(json.dumps([rule.priority, rule.definition], sort_keys=True), []).append(name)
    for terms, names in groups.items():
        called = f"{OUR_POLICIES}shared.{hashlib.sha256(terms.encode()).hexdigest()[:12]}"
        for number, part in enumerate(parts(sorted(names))):
            rule = carried[part[0]].model_copy(update={"pattern": exactly(part)})
            yield f"{called}.{number}", WantedPolicy(rule, tuple(part))


def parts(names: list[str]) -> Iterator[list[str]]:
    """The names in order, as many at a time as fit into a pattern."""
    part: list[str] = []
    size = 0
    for name in names:
        if part and size + len(name.encode()) > MAX_PATTERN:
            yield part
            part, size = [], 0
        part.append(name)
        size += len(re.escape(name).encode()) + 1
    yield part


def exactly(names: list[str]) -> str:
    """The pattern that matches these names and no others."""
    escaped = "|".join(map(re.escape, names))
    return f"^({escaped})$" if len(names) > 1 else f"^{escaped}$"


def carries_keys(policy: ObservedPolicy) -> bool:
    """Is it one of ours for the keys of queues, by its name and its exact pattern?"""
    if not policy.name.startswith(OUR_POLICIES):
        return False
    name = policy.name.removeprefix(OUR_POLICIES)
    return policy.pattern == exactly([name]) or (name.startswith("shared.") and policy.pattern.startswith("^"))


def as_observed(name: str, rule: PolicyRule) -> ObservedPolicy:
    return ObservedPolicy(name, rule.pattern, rule.apply_to, rule.priority, rule.definition)
