"""Who may import whom: read from the sources, so that a breach is seen before anybody runs into it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("reconciler", "state", "workers")

# What a room or a module may import of ours beside itself.
MAY_IMPORT = {
    "state": (),
    "workers": (),
    "reconciler.errors": (),
    "reconciler.backoff": (),
    "reconciler.diff": ("state",),
    "reconciler.actions": ("state", "reconciler.diff", "reconciler.errors"),
    "reconciler.rolling": ("state", "reconciler.diff", "reconciler.actions"),
    "reconciler.changing": ("state", "reconciler.diff", "reconciler.actions"),
    "reconciler.removing": ("state", "reconciler.diff", "reconciler.actions"),
    "reconciler.reached": ("state", "reconciler.diff", "reconciler.actions"),
    "reconciler.routing": ("state", "reconciler.diff", "reconciler.actions", "reconciler.removing"),
    "reconciler.plan": (
        "state",
        "reconciler.diff",
        "reconciler.actions",
        "reconciler.rolling",
        "reconciler.changing",
        "reconciler.removing",
        "reconciler.reached",
        "reconciler.routing",
    ),
    "reconciler.autoscale": ("state",),
    "reconciler.tally": ("state",),
    "reconciler.exposition": ("state", "reconciler.tally"),
    "reconciler.scaler": ("state", "reconciler.autoscale"),
    "reconciler.status": (
        "state",
        "reconciler.autoscale",
        "reconciler.actions",
        "reconciler.lint",
        "reconciler.plan",
        "reconciler.reached",
    ),
    "reconciler.words": (),
    "reconciler.costs": ("reconciler.words",),
    "reconciler.importing": ("state", "reconciler.diff"),
    "reconciler.adoption": ("state", "reconciler.errors"),
    "reconciler.markdown": ("reconciler.costs",),
    "reconciler.basis": ("state", "reconciler.actions", "reconciler.plan"),
    "reconciler.review": (
        "state",
        "reconciler.actions",
        "reconciler.basis",
        "reconciler.costs",
        "reconciler.plan",
        "reconciler.status",
    ),
    "reconciler.drift": ("state",),
    "reconciler.trail": ("state", "reconciler.drift"),
    "reconciler.explain": ("state", "reconciler.diff", "reconciler.drift", "reconciler.plan", "reconciler.words"),
    "reconciler.attempts": (
        "state",
        "reconciler.actions",
        "reconciler.plan",
        "reconciler.errors",
        "reconciler.backoff",
    ),
    "reconciler.saves": ("state",),
    "reconciler.lint": ("state",),
    "reconciler.settings": ("workers",),  # to know where the worker's entry is
    "reconciler.spec": ("state", "reconciler.settings"),
    "reconciler.source": ("state", "reconciler.errors", "reconciler.events", "reconciler.settings"),
    "reconciler.turn": ("state", "reconciler.intake", "reconciler.plan", "reconciler.status"),
    "reconciler.pace": ("reconciler.turn", "reconciler.backoff"),
    "reconciler.recorder": ("state", "reconciler.intake", "reconciler.turn", "reconciler.plan", "reconciler.source"),
    "reconciler.journal": (),
    # … `workers` for what the runtime writes on a failed message
    "reconciler.deadletters": ("state", "reconciler.errors", "reconciler.events", "reconciler.broker", "workers"),
    "reconciler.broker": ("state", "reconciler.errors", "reconciler.backoff", "reconciler.plan"),
    "reconciler.migration": (
        "state",
        "reconciler.errors",
        "reconciler.backoff",
        "reconciler.actions",
        "reconciler.broker",
    ),
    # … `workers` to know where the script is that changes the user
    "reconciler.supervisor": ("state", "reconciler.errors", "reconciler.backoff", "reconciler.journal", "workers"),
}
# `web` shows what all the others know, but asks the loop for it.
MAY_NOT_IMPORT = {
    "reconciler.web": ("reconciler.broker", "reconciler.supervisor", "reconciler.daemon", "reconciler.cli"),
    "reconciler.loop": ("reconciler.web", "reconciler.daemon", "reconciler.cli"),
    "reconciler.source": ("reconciler.web", "reconciler.loop", "reconciler.intake"),
    "reconciler.apply": ("reconciler.web", "reconciler.broker", "reconciler.supervisor", "reconciler.loop"),
}
PURE = (
    "diff",
    "actions",
    "reached",
    "rolling",
    "changing",
    "removing",
    "routing",
    "plan",
    "autoscale",
    "tally",
    "exposition",
    "costs",
    "importing",
    "adoption",
    "markdown",
    "basis",
    "review",
    "drift",
    "trail",
    "explain",
    "words",
    "status",
    "attempts",
    "backoff",
    "errors",
    "spec",
    "saves",
    "lint",
)
# Through these a module could look at the world or at the clock.
WORLDLY = {"asyncio", "os", "time", "datetime", "socket", "subprocess", "threading", "signal", "pathlib", "loguru"}
WORLDLY |= {"httpx", "pika", "starlette", "uvicorn", "watchfiles", "asyncinotify"}


def modules_of(name: str) -> list[Path]:
    """The files of a room or of a single module."""
    path = ROOT.joinpath(*name.split("."))
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert found, f"{name} is not there"
    return found


def imports_of(path: Path) -> Iterator[str]:
    return imported(path.read_text(), path.relative_to(ROOT).parent.parts)


def imported(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """The full names of everything that a module imports anywhere in it, also for type checkers only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield from (".".join((*base, *filter(None, [node.module]), alias.name)) for alias in node.names)


def lies_in(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = (room, *MAY_IMPORT[room])
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(room)
        for name in imports_of(path)
        if lies_in(name, OURS) and not lies_in(name, allowed)
    ]
    assert not breaches


@pytest.mark.parametrize("room", MAY_NOT_IMPORT)
def test_a_room_does_not_import_what_stands_above_or_beside_it(room: str) -> None:
    breaches = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(room)
        for name in imports_of(path)
        if lies_in(name, MAY_NOT_IMPORT[room])
    ]
    assert not breaches


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_sees_neither_the_world_nor_the_clock(module: str) -> None:
    paths = modules_of(f"reconciler.{module}")
    breaches = [name for path in paths for name in imports_of(path) if name.split(".")[0] in WORLDLY]
    assert not breaches


def test_imports_of_all_kinds_are_seen() -> None:
    source = "import a.b\nfrom . import c\nfrom ..broker import d\ndef f():\n    from state.edit import e\n"
    found = list(imported(source, ("reconciler", "web")))
    assert found == ["a.b", "reconciler.web.c", "reconciler.broker.d", "state.edit.e"]
