"""Which characters of a YAML text to replace for one edit: second step, between `layout` and the check in `edit`.

Each function returns splices into the text of a `Layout`. They need not be right for every YAML ever written: `edit`
reads the result back and refuses it if anything but the wanted value differs. So no case is handled here that only a
machine would write.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from state.edit import flow, render
from state.edit.change import nested
from state.edit.layout import EditRefused, Layout, Place, Slot, Splice, item_number
from state.edit.lines import BREAK
from state.edit.nodes import Kind, Node


def replace(layout: Layout, trail: list[tuple[Node, int]], value: object) -> list[Splice]:
    """Another value in the place of the one that the trail leads to."""
    parent, at = trail[-1]
    old = parent.children[at]
    text = _inline_text(parent, old, value)
    slot = layout.slot(parent, at)
    if parent.mapping and slot.colon is None and not parent.flow:
        raise EditRefused(f"line {layout.line(old.start)}: written with '?'; change it by hand")
    if text is None:
        column = layout.column(parent)
        lines = render.lines(value, column + _deeper(layout, trail, value), indent_at(layout, trail))
        return _replace_by_lines(layout, parent, at, lines)
    return _replace_inline(layout, parent, at, text)


def _inline_text(parent: Node, old: Node, value: object) -> str | None:
    if isinstance(value, str) and old.style in ("'", '"'):
        return render.scalar(value, flow=parent.flow, style=old.style)
    if parent.flow or parent.sequence:
        return render.flow(value, flow.json_quotes(parent) if parent.flow else "")
    text = render.inline(value)
    was_flow = old.flow and old.children
    return render.short(value) if text is None and was_flow else text


def _replace_inline(layout: Layout, parent: Node, at: int, text: str) -> list[Splice]:
    old, slot = parent.children[at], layout.slot(parent, at)
    anchor = f"&{old.anchor} " if old.anchor else ""
    space = " " if parent.mapping or slot.start == slot.head else ""
    if slot.empty and slot.colon is None:
        return [Splice(slot.head, slot.head, f": {text}")]
    if slot.empty and slot.colon is not None:
        return [Splice(slot.colon, slot.head, space + anchor + text)]
    if old.block and parent.mapping and slot.colon is not None:
        rest = _rest_of_block(layout, parent, at, slot, "")
        return [Splice(slot.colon, slot.head, f" {anchor}{text}"), rest]
    start = slot.content if old.tag is None else slot.start
    new = text if old.tag is None else anchor + text
    if old.style in ("|", ">"):
        header_end = slot.content + len(layout.header(slot.content))
        return [Splice(start, header_end, new), Splice(layout.line_end(slot.content), slot.end, "")]
    return [Splice(start, slot.end, new)]


def _replace_by_lines(layout: Layout, parent: Node, at: int, lines: list[str]) -> list[Splice]:
    """The key's line keeps its comment; the new lines follow below."""
    old, slot = parent.children[at], layout.slot(parent, at)
    assert slot.colon is not None
    anchor = f" &{old.anchor}" if old.anchor else ""
    below = _below(layout, slot.end, lines)
    if old.block:
        return [Splice(slot.colon, slot.head, anchor), _rest_of_block(layout, parent, at, slot, below)]
    after = Splice(layout.line_end(slot.end), layout.line_end(slot.end), below)
    if old.style in ("|", ">"):
        header_end = slot.content + len(layout.header(slot.content))
        return [Splice(slot.colon, header_end, anchor), Splice(layout.line_end(slot.content), slot.end, below)]
    if layout.line(slot.content) == layout.line(slot.head):
        return [Splice(slot.colon, slot.end, anchor), after]
    return [Splice(slot.colon, slot.head, anchor), Splice(layout.line_end(slot.head), slot.end, ""), after]


def _rest_of_block(layout: Layout, parent: Node, at: int, slot: Slot, new: str) -> Splice:
    last = layout.last_line(parent, at)
    return Splice(layout.line_end(slot.head), layout.lines.end(last), new)


def _below(layout: Layout, index: int, lines: list[str]) -> str:
    eol = layout.lines.eol(layout.lines.number(index))
    return "".join(eol + line for line in lines)


def add(layout: Layout, place: Place, value: object) -> list[Splice]:
    """A new entry where the path ends, or a new item behind the last of a list; its missing parents are made."""
    key, *deeper = place.rest
    value, node = nested(deeper, value), place.node
    if node is None or (not place.trail and _absent(layout, node)):
        return _first_entry(layout, key, value)
    if node.sequence:
        return _add_item(layout, place, node, key, value)
    if node.mapping and node.block:
        return _add_line(layout, place.trail, node, lambda column, indent: render.entry(key, value, column, indent))
    if node.mapping and (node.children or not place.trail or _has_comment(layout, node)):
        return flow.add(layout, node, render.pair(key, value, flow.json_quotes(node)))
    if place.trail and (node.null or node.mapping):
        return replace(layout, place.trail, {key: value})
    line = layout.line(node.start)
    raise EditRefused(f"line {line}: this is {node.kind.value}, so no key {key!r} fits in; change it by hand")


def _has_comment(layout: Layout, node: Node) -> bool:
    return "#" in layout.text[node.start : layout.end(node)]


def _add_item(layout: Layout, place: Place, node: Node, key: str, value: object) -> list[Splice]:
    if item_number(key) != len(node.children):
        line, count = layout.line(node.start), len(node.children)
        raise EditRefused(
            f"line {line}: this is a list of {count}, so no key {key!r} fits in; "
            f"use {count} for a new item behind the last, or change it by hand"
        )
    if node.block:
        braces = not node.children[-1].block  # as the neighbour has it
        return _add_line(layout, place.trail, node, lambda column, indent: render.item(value, column, indent, braces))
    if node.children or not place.trail or _has_comment(layout, node):
        return flow.add(layout, node, render.flow(value, flow.json_quotes(node)))
    return replace(layout, place.trail, [value])


def _absent(layout: Layout, node: Node) -> bool:
    """Whether the document has no content, or a root `{}` that fills its line."""
    if node.scalar:
        return not node.style and node.end == node.start
    return layout.lines.content(layout.lines.number(node.start)) == "{}"


def _first_entry(layout: Layout, key: str, value: object) -> list[Splice]:
    lines = render.entry(key, value, 0, render.Indent())
    if layout.root is not None and layout.root.mapping:
        number = layout.lines.number(layout.root.start)
        return [Splice(layout.root.start, layout.end(layout.root), layout.lines.eol(number).join(lines))]
    if not layout.text:
        return [Splice(0, 0, "\n".join([*lines, ""]))]
    number = layout.lines.number(layout.document) if layout.document else len(layout.lines) - 1
    end = layout.lines.end(number)
    return [Splice(end, end, _below(layout, end, lines))]


def _add_line(
    layout: Layout, trail: list[tuple[Node, int]], node: Node, write: Callable[[int, render.Indent], list[str]]
) -> list[Splice]:
    """Behind the last entry and its deeper comments; after a blank line if the last two have one between them."""
    at = len(node.children) - 1
    last = layout.last_line(node, at)
    lines = write(layout.column(node), indent_at(layout, [*trail, (node, at)]))
    if _after_blank(layout, node, at):
        lines.insert(0, "")
    end = layout.lines.end(last)
    return [Splice(end, end, _below(layout, end, lines))]


def _after_blank(layout: Layout, node: Node, at: int) -> bool:
    """Whether a blank line, and not one of the text before, separates this entry from the one before."""
    if at < node.step:
        return False
    above = layout.first_line(node, at) - 1
    return layout.lines.blank(above) and above > layout.lines.number(layout.end(node.children[at - node.step]))


def indent_at(layout: Layout, trail: list[tuple[Node, int]]) -> render.Indent:
    """How mappings and lists are indented around here: as the next siblings, else as the parents, else as anywhere."""
    near = [node for node, _ in reversed(trail)]
    mapping = _first_step(layout, near, mapping=True) or 2
    sequence = _first_step(layout, near, mapping=False)
    return render.Indent(mapping, mapping if sequence is None else sequence)


def _first_step(layout: Layout, near: list[Node], *, mapping: bool) -> int | None:
    wanted = Kind.MAPPING if mapping else Kind.SEQUENCE
    everywhere = layout.root.walk() if layout.root and wanted in layout.tape.kinds else ()
    steps = (_step(layout, node, mapping=mapping) for node in chain(near, everywhere))
    return next((step for step in steps if step is not None), None)


def _step(layout: Layout, node: Node, *, mapping: bool) -> int | None:
    """How far the values of this block mapping stand to the right of their keys."""
    if not node.mapping or node.flow:
        return None
    for at in range(1, len(node.children), 2):
        value = node.children[at]
        if value.block and value.mapping == mapping:
            return layout.lines.column(layout.slot(node, at).content) - layout.column(node)
    return None


def _deeper(layout: Layout, trail: list[tuple[Node, int]], value: object) -> int:
    indent = indent_at(layout, trail)
    return indent.mapping if isinstance(value, dict) else indent.sequence


def remove(layout: Layout, trail: list[tuple[Node, int]]) -> list[Splice]:
    """The entry or item that the trail leads to goes, and its own comments with it."""
    parent, at = trail[-1]
    if parent.flow:
        return flow.remove(layout, parent, at)
    if len(parent.children) == parent.step:
        return _remove_only(layout, trail)
    return _remove_lines(layout, parent, at)


def _remove_lines(layout: Layout, parent: Node, at: int) -> list[Splice]:
    lines, start = layout.lines, layout.entry_start(parent, at)
    first, after = layout.first_line(parent, at), layout.last_line(parent, at) + 1
    if not layout.starts_line(start):  # `- key: …`: the next entry moves up behind the dash
        while after < len(lines) and lines.blank(after):
            after += 1
        indent = len(lines.content(after)) - len(lines.content(after).lstrip(" "))
        return [Splice(start, lines.start(after) + indent, "")]
    first, after = _with_blank_line(layout, parent, at, first, after)
    return [_without_lines(layout, parent.children[at - parent.step] if at >= parent.step else None, first, after)]


def _without_lines(layout: Layout, before: Node | None, first: int, after: int) -> Splice:
    """From the `first` line up to the one `after`; the text then ends without a line break if it did before."""
    lines, text = layout.lines, layout.text
    start, end = lines.start(first), lines.start(after)
    ends_bare = end == len(text) and not BREAK.fullmatch(text[-1:])
    if ends_bare and first and (lines.comment(first - 1) is not None or not layout.needs_break(before)):
        start = lines.end(first - 1)
    return Splice(start, end, "")


def _with_blank_line(layout: Layout, parent: Node, at: int, first: int, after: int) -> tuple[int, int]:
    """These lines with the blank one that sets the entry apart: else each edit would leave one more."""
    lines, is_first, is_last = layout.lines, at < parent.step, at == len(parent.children) - 1
    ends = is_last or after == len(lines) or lines.blank(after)
    if is_first and first > 0 and lines.blank(first - 1) and ends:
        return first - 1, after
    if is_first and not is_last and lines.blank(after) and (first == 0 or lines.comment(first - 1) is None):
        return first, after + 1
    if _after_blank(layout, parent, at) and ends:
        return first - 1, after
    return first, after


def _remove_only(layout: Layout, trail: list[tuple[Node, int]]) -> list[Splice]:
    """The last entry of a mapping leaves `{}`, that of a list `[]`."""
    lines, (parent, at) = layout.lines, trail[-1]
    start, empty = layout.entry_start(parent, at), "{}" if parent.mapping else "[]"
    first, last = layout.first_line(parent, at), layout.last_line(parent, at)
    if len(trail) > 1 and trail[-2][0].mapping:
        head = layout.slot(*trail[-2]).head
        return [Splice(head, head, f" {empty}"), _without_lines(layout, None, first, last + 1)]
    indent = " " * lines.column(start) if layout.starts_line(start) else ""
    start = lines.start(first) if layout.starts_line(start) else start
    return [Splice(start, lines.end(last), indent + empty)]
