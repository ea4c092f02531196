"""Entries of mappings in braces and items of lists in brackets, added and removed with the commas right."""

from __future__ import annotations

from state.edit.layout import EditRefused, Layout, Splice
from state.edit.nodes import Node


def add(layout: Layout, node: Node, new: str) -> list[Splice]:
    """Behind the last entry; on a line of its own if that one is."""
    if layout.text[node.end - 1] not in "}]":
        raise EditRefused(f"line {layout.line(node.start)}: a pair without braces; change it by hand")
    if not node.children:
        return [Splice(node.head, node.head, new)]
    last = len(node.children) - 1
    slot = layout.slot(node, last)
    separator = " ," if slot.empty else ","  # `key:,` is not YAML
    start = layout.entry_start(node, last)
    if not layout.starts_line(start):
        return [Splice(slot.end, slot.end, f"{separator} {new}")]
    return _add_line(layout, node, start, slot.end, separator, new)


def _add_line(layout: Layout, node: Node, start: int, end: int, separator: str, new: str) -> list[Splice]:
    lines = layout.lines
    number = lines.number(start)
    below = lines.eol(number) + layout.text[lines.start(number) : start] + new
    if lines.number(node.end) == lines.number(end):
        return [Splice(end, end, separator + below)]
    comma = comma_behind(layout, end)
    if comma is not None:
        return [Splice(layout.line_end(comma), layout.line_end(comma), below + ",")]
    return [Splice(end, end, separator), Splice(layout.line_end(end), layout.line_end(end), below)]


def json_quotes(node: Node) -> str:
    """The quotes for strings in this mapping or list: a JSON file stays JSON."""
    return '"' if node.children and node.children[0].style == '"' else ""


def comma_behind(layout: Layout, index: int) -> int | None:
    """The comma behind a flow entry."""
    at = layout.gap_end(index)
    return at if layout.text[at : at + 1] == "," else None


def remove(layout: Layout, parent: Node, at: int) -> list[Splice]:
    """The entry and its comma, or the comma before it if it is the last and has none."""
    lines, start, end = layout.lines, layout.entry_start(parent, at), layout.slot(parent, at).end
    comma, is_last = comma_behind(layout, end), at == len(parent.children) - 1
    end = end if comma is None else comma + 1
    if _own_lines(layout, start, end):
        first = layout.first_line(parent, at)
        whole = Splice(lines.start(first), lines.start(lines.number(end) + 1), "")
        return [whole, *_comma_before(layout, parent, at)] if is_last and comma is None else [whole]
    if is_last and at >= parent.step:
        return _remove_last(layout, parent, at, start, end, has_comma=comma is not None)
    following = end if is_last else layout.entry_start(parent, at + parent.step)
    return [Splice(start, end if "#" in layout.text[end:following] else following, "")]


def _remove_last(layout: Layout, parent: Node, at: int, start: int, end: int, *, has_comma: bool) -> list[Splice]:
    before = layout.slot(parent, at - parent.step)
    commas = _comma_before(layout, parent, at)
    if "#" in layout.text[before.end : start]:
        return [Splice(start, end, ""), *([] if has_comma else commas)]
    if has_comma:
        return [Splice(commas[0].end, end, "")]
    return [Splice(before.end, end, " " if before.empty and layout.text[end] in "}]" else "")]


def _comma_before(layout: Layout, parent: Node, at: int) -> list[Splice]:
    if at < parent.step:
        return []
    comma = layout.gap_end(layout.slot(parent, at - parent.step).end)
    return [Splice(comma, comma + 1, "")]


def _own_lines(layout: Layout, start: int, end: int) -> bool:
    """Whether nothing else stands on the lines of this flow entry."""
    rest = layout.text[end : layout.line_end(end)].strip(" \t")
    return layout.starts_line(start) and (not rest or rest.startswith("#"))
