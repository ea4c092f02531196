"""Which characters of a YAML text to replace for one edit: second step, between `layout` and the check in `edit`.

Each function returns splices into the text of a `Layout`. They need not be right for every YAML ever written: `edit`
reads the result back and refuses it if anything but the wanted value differs. So no case is handled here that only a
machine would write.
"""

from __future__ import annotations

from itertools import chain

from state.edit import flow, render
from state.edit.layout import EditRefused, Layout, Node, Place, Slot, Splice


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
    """A new entry where the path ends; its missing parents are made."""
    key, *deeper = place.rest
    for name in reversed(deeper):
        value = {name: value}
    node = place.node
    if node is None or (not place.trail and _absent(layout, node)):
        return _first_entry(layout, key, value)
    if node.mapping and node.block:
        return _add_line(layout, place.trail, node, key, value)
    if node.mapping and (node.children or not place.trail or "#" in layout.text[node.start : layout.end(node)]):
        return flow.add(layout, node, key, value)
    if place.trail and (node.null or node.mapping):
        return replace(layout, place.trail, {key: value})
    line = layout.line(node.start)
    raise EditRefused(f"line {line}: this is {node.kind.value}, so no key {key!r} fits in; change it by hand")


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


def _add_line(layout: Layout, trail: list[tuple[Node, int]], node: Node, key: str, value: object) -> list[Splice]:
    """Behind the last entry and its deeper comments; after a blank line if the last two have one between them."""
    at, column = len(node.children) - 1, layout.column(node)
    last = layout.last_line(node, at)
    lines = render.entry(key, value, column, indent_at(layout, [*trail, (node, at)]))
    if _after_blank(layout, node, at):
        lines.insert(0, "")
    end = layout.lines.end(last)
    return [Splice(end, end, _below(layout, end, lines))]


def _after_blank(layout: Layout, node: Node, at: int) -> bool:
    """Whether a blank line, and not one of the text before, separates this entry from the one before."""
    if at < 2:
        return False
    above = layout.first_line(node, at) - 1
    return layout.lines.blank(above) and above > layout.lines.number(layout.end(node.children[at - 2]))


def indent_at(layout: Layout, trail: list[tuple[Node, int]]) -> render.Indent:
    """How mappings and lists are indented around here: as the next siblings, else as the parents, else as anywhere."""
    near = [node for node, _ in reversed(trail)]
    mapping = _first_step(layout, near, mapping=True) or 2
    sequence = _first_step(layout, near, mapping=False)
    return render.Indent(mapping, mapping if sequence is None else sequence)


def _first_step(layout: Layout, near: list[Node], *, mapping: bool) -> int | None:
    everywhere = layout.root.walk() if layout.root else ()
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
    """The entry that the trail leads to goes, and its own comments with it."""
    parent, at = trail[-1]
    if parent.sequence:
        line = layout.line(parent.children[at].start)
        raise EditRefused(f"line {line}: one item of a list; set the whole list instead")
    if parent.flow:
        return flow.remove(layout, parent, at)
    if len(parent.children) == 2:
        return _remove_only(layout, trail)
    return _remove_lines(layout, parent, at)


def _remove_lines(layout: Layout, parent: Node, at: int) -> list[Splice]:
    lines, key = layout.lines, parent.children[at - 1]
    first, after = layout.first_line(parent, at), layout.last_line(parent, at) + 1
    if not layout.starts_line(key):  # `- key: …`: the next entry moves up behind the dash
        while after < len(lines) and lines.blank(after):
            after += 1
        indent = len(lines.content(after)) - len(lines.content(after).lstrip(" "))
        return [Splice(key.start, lines.start(after) + indent, "")]
    first, after = _with_blank_line(layout, parent, at, first, after)
    return [Splice(lines.start(first), lines.start(after), "")]


def _with_blank_line(layout: Layout, parent: Node, at: int, first: int, after: int) -> tuple[int, int]:
    """These lines with the blank one that sets the entry apart: else each edit would leave one more."""
    lines, is_first, is_last = layout.lines, at == 1, at == len(parent.children) - 1
    ends = is_last or after == len(lines) or lines.blank(after)
    if is_first and first > 0 and lines.blank(first - 1) and ends:
        return first - 1, after
    if is_first and not is_last and lines.blank(after) and (first == 0 or lines.comment(first - 1) is None):
        return first, after + 1
    if _after_blank(layout, parent, at) and ends:
        return first - 1, after
    return first, after


def _remove_only(layout: Layout, trail: list[tuple[Node, int]]) -> list[Splice]:
    """The last entry of a mapping leaves `{}`."""
    lines, (parent, at) = layout.lines, trail[-1]
    key = parent.children[at - 1]
    first, last = layout.first_line(parent, at), layout.last_line(parent, at)
    if len(trail) > 1 and trail[-2][0].mapping:
        head = layout.slot(*trail[-2]).head
        return [Splice(head, head, " {}"), Splice(lines.start(first), lines.start(last + 1), "")]
    start = lines.start(first) if layout.starts_line(key) else key.start
    indent = " " * lines.column(key.start) if layout.starts_line(key) else ""
    return [Splice(start, lines.end(last), indent + "{}")]
