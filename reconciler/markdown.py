"""The plan as Markdown, for the check of a pull request: what is destructive first, and all of it in collapsible lists.

Names come from strangers (a queue may be called anything), so nothing of theirs is read as Markdown or HTML. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.costs import COSTS, called, summary, touched, unmanaged

ROOM = 12_000  # characters of each list: a comment on GitHub has at most 65,536
WIDEST = 300  # characters of one cell
SIGNS = {"destructive": "🔴", "recreate": "🟠", "restart": "🟡", "in place": "🟢"}
SPECIAL = frozenset("&<>\"'\\`*_{}[]()#+!|~@:=^$")  # as entities they are only what they look like


def plan_markdown(plan: Mapping[str, Any]) -> str:
    return "\n".join(lines(plan))


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    held = (plan["held"] or {}).get("actions", [])
    yield f"### Plan: {summary(plan)}"
    yield ""
    if worst := of_cost(plan, "destructive") + of_cost(plan, "recreate"):
        yield from table(worst)
    if asked := [step for step in held if step["needs_confirmation"]]:
        yield "These removals wait for a person, and are done with"
        yield f"`reconciler apply --plan {plan['digest']}` or `reconciler sync --confirm {plan['digest']}`:"
        yield ""
        yield from held_table(asked)
    for moving in plan["under_way"]:
        yield f"🟠 queue {text(moving['queue'])} is being replaced: {text(moving['text'])}"
        yield ""
    for cost in ("restart", "in place"):
        if actions := of_cost(plan, cost):
            yield from folded(f"{SIGNS[cost]} {len(actions):,} {cost}", table(actions))
    if waiting := [step for step in held if not step["needs_confirmation"]]:
        yield from folded(f"⏸️ {len(waiting):,} held", held_table(waiting))
    if others := unmanaged(plan):
        names = (plan["unmanaged"] or {}).get("queues", [])
        yield from folded(others, listed(names)) if names else [others, ""]
    yield f"<sub>revision {plan['revision'][:12]} · plan {plan['digest']}</sub>"


def of_cost(plan: Mapping[str, Any], cost: str) -> list[Mapping[str, Any]]:
    assert cost in COSTS
    return [action for action in plan["actions"] if action["cost"] == cost]


def table(actions: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "| | action | touches |"
    yield "| --- | --- | --- |"
    yield from fitting(row(f"{SIGNS[a['cost']]} {a['cost']}", text(a["text"]), touches(a)) for a in actions)


def held_table(held: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "| held | why | touches |"
    yield "| --- | --- | --- |"
    yield from fitting(row(text(called(step)), text(step["reason"]), touches(step)) for step in held)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def touches(step: Mapping[str, Any]) -> str:
    return "; ".join(touched(step))


def fitting(rows: Iterable[str]) -> Iterator[str]:
    """As many rows as a comment has room for, and how many there are beside."""
    room, left = ROOM, 0
    for each in rows:
        room -= len(each)
        if room > 0:
            yield each
        else:
            left += 1
    yield ""
    if left:
        yield f"… and {left:,} more (`reconciler plan --json` has all)"
        yield ""


def listed(names: list[str]) -> Iterator[str]:
    yield from fitting(f"- {text(name)}" for name in names)


def folded(head: str, body: Iterable[str]) -> Iterator[str]:
    yield f"<details><summary>{head}</summary>"
    yield ""
    yield from body
    yield "</details>"
    yield ""


def text(words: str) -> str:
    """`words` as they are, whatever they hold: on one line, without Markdown, HTML, mentions or links in it.

    As code, because forges look for mentions and references in all text that is not code, entities or not.
    """
    kept = words if len(words) <= WIDEST else words[: WIDEST - 1] + "…"
    return f"<code>{''.join(map(entity, kept))}</code>"


def entity(char: str) -> str:
    return f"&#{ord(char)};" if char in SPECIAL else char if char.isprintable() else "�"
