"""Faults in queues.yaml, in words: where, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from state.desired import MODELS

Path = tuple[str, ...]


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong with the file. Line and column count from 1."""

    line: int
    column: int
    path: str
    message: str
    file: str = "queues.yaml"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: " + (f"{self.path}: " if self.path else "") + self.message


class Rejected(Exception):
    """The text is not a valid desired state; `faults` says why, in the order of the file."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


def dotted(path: Iterable[object]) -> str:
    return ".".join(str(part) for part in path if part != "[key]")


def details(error: ValidationError, under: Path = ()) -> list[tuple[Path, str]]:
    """The path and the message of each error, deduplicated. `under`: where in the file the data would stand."""
    found: dict[tuple[Path, str], None] = {}
    for item in error.errors(include_url=False):
        path = tuple(str(part) for part in (*item["loc"], *item.get("ctx", {}).get("at", ())))
        if item["type"] == "extra_forbidden":
            path += ("[key]",)  # the fault is the key, not what stands behind it
        found[path, describe({**item, "loc": (*under, *item["loc"])})] = None
    return list(found)


def describe(item: Any) -> str:
    """One pydantic error as a sentence with a way out."""
    context, value = item.get("ctx", {}), item.get("input")
    match item["type"]:
        case "extra_forbidden":
            return unknown_key(item["loc"])
        case "missing":
            return f"the key {item['loc'][-1]} is missing{_example(item['loc'][-1])}"
        case "literal_error":
            return f"{shown(value)} is none of {context['expected']}"
        case "greater_than_equal":
            return f"{shown(value)} is too small (at least {context['ge']})"
        case "less_than_equal":
            return f"{shown(value)} is too large (at most {context['le']})"
        case "too_short":
            return f"it is empty (at least {context['min_length']})"
        case kind if kind in EXPECTED:
            return f"{shown(value)} is not {EXPECTED[kind]}"
    return str(item["msg"])


EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (quote it)",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
}


def _example(key: object) -> str:
    return {"version": " (begin the file with version: 1)", "queues": " (write queues: {} if there are none)"}.get(
        str(key), ""
    )


def shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "…"


def unknown_key(loc: Sequence[object]) -> str:
    key, kind = str(loc[-1]), place(loc)
    known = list(MODELS[kind].model_fields)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key {shown(key)} ({f'did you mean {near[0]}?' if near else 'known are ' + ', '.join(known)})"


def place(loc: Sequence[object]) -> str:
    """Which kind of mapping the last key of `loc` stands in."""
    match [str(part) for part in loc]:
        case ["queues", _, "workers", _, _] | ["defaults", "worker", _]:
            return "worker"
        case ["queues", _, _] | ["defaults", "queue", _]:
            return "queue"
        case ["queues" | "exchanges", _, "bindings", _, _] | ["defaults", "queue", "bindings", _, _]:
            return "binding"
        case ["queues", _, "retry", _] | ["defaults", "queue", "retry", _]:
            return "retry"
        case ["exchanges", _, _]:
            return "exchange"
        case ["policies", _, _]:
            return "policy"
        case ["queues", _, "paused", _] | ["defaults", "queue", "paused", _]:
            return "pause"
        case ["queues", _, "workers", _, "autoscale", _] | ["defaults", "worker", "autoscale", _]:
            return "autoscale"
        case ["defaults", _]:
            return "defaults"
    return "file"
