"""Plain data as YAML text, in the style of the text around it: what `splices` and `flow` put in.

Scalars are written by PyYAML's own emitter, one line each; the structure around them is written here, because the
emitter would turn keys over 128 characters into `? ` keys and knows nothing of the neighbours' indent.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import yaml

SHORT = 80  # columns that a list or mapping in flow style may take


class Indent(NamedTuple):
    """How the neighbours are indented below their key."""

    mapping: int = 2
    sequence: int = 2


def scalar(value: object, *, flow: bool = False, style: str = "") -> str:
    """A scalar in one line, quoted only if it must be or if `style` is a quote; `flow`: safe between brackets.

    Raises yaml.representer.RepresenterError for what is not plain data.
    """
    if not isinstance(value, str):
        style = ""
    elif any(char in value for char in "\n\r\x85\u2028\u2029"):
        style = '"'
    text = str(
        yaml.dump(
            [value] if flow else value,
            Dumper=yaml.SafeDumper,
            default_flow_style=True,
            default_style=style or None,
            width=math.inf,
            allow_unicode=True,
        )
    )
    return text[1:-2] if flow else text.removesuffix("...\n").removesuffix("\n")


def flow(value: object, style: str = "") -> str:
    """Any value in one line, in flow style; `style` as for `scalar`."""
    if isinstance(value, dict):
        return "{" + ", ".join(pair(key, item, style) for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item, style) for item in value) + "]"
    return scalar(value, flow=True, style=style)


def pair(key: object, value: object, style: str = "") -> str:
    """One entry of a mapping in flow style."""
    return f"{scalar(key, flow=True, style=style)}: {flow(value, style)}"


def inline(value: object) -> str | None:
    """The value as it stands behind its key: a scalar, nothing much, or a short list of scalars. None: needs lines."""
    if not isinstance(value, dict | list):
        return scalar(value)
    if not value:
        return flow(value)
    if isinstance(value, list) and _flat(value):
        return short(value)
    return None


def short(value: object) -> str | None:
    """The value in flow style if that is short."""
    text = flow(value)
    return text if len(text) <= SHORT else None


def lines(value: Any, column: int, indent: Indent) -> list[str]:
    """A mapping or list that is not empty, in block style at this column."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in entry(key, item, column, indent)]
    return [line for each in value for line in item(each, column, indent)]


def entry(key: object, value: object, column: int, indent: Indent) -> list[str]:
    """One entry of a block mapping at this column."""
    head = " " * column + scalar(key) + ":"
    text = inline(value)
    if text is not None:
        return [f"{head} {text}"]
    deeper = indent.mapping if isinstance(value, dict) else indent.sequence
    return [head, *lines(value, column + deeper, indent)]


def item(value: object, column: int, indent: Indent, braces: bool = True) -> list[str]:
    """One item of a block list at this column; `braces`: a short mapping goes into one line."""
    dash = " " * column + "- "
    if not isinstance(value, dict) or not value:
        return [dash + (inline(value) or flow(value))]
    text = short(value) if braces and _flat(list(value.values())) else None
    if text is not None:
        return [dash + text]
    first, *others = lines(value, column + 2, indent)
    return [dash + first[column + 2 :], *others]


def _flat(values: list[Any]) -> bool:
    return not any(isinstance(value, dict | list) for value in values)
