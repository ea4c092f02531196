"""Where things stand in a YAML text: first step of an edit, before `splices` and `flow` say what to cut.

Built from libyaml's events rather than composed nodes, because an alias is an event of its own there, with its own
place. Places are indices in characters into the text, as Python slices them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from state.edit.lines import BREAK, Lines
from state.edit.nodes import Kind, Node, Tape, children_of

_GAP = re.compile("(?:[ \t\r\n\x85\u2028\u2029]|#[^\r\n\x85\u2028\u2029]*)*")
_PROPERTY = re.compile(r"!<[^>]*>|[&!][^\s,\[\]{}]*")
_BLOCK_HEADER = re.compile(r"[|>][-+0-9]*")


class EditRefused(Exception):
    """The text cannot be changed safely; the message says why, where, and what to do by hand. Nothing was changed."""


class Splice(NamedTuple):
    """Characters of the text to be replaced."""

    start: int
    end: int
    new: str


def apply(text: str, splices: list[Splice]) -> str:
    """The text after splices that do not overlap; those at one place keep their order."""
    pieces, at = [], 0
    for start, end, new in sorted(splices, key=lambda splice: splice.start):
        pieces += [text[at:start], new]
        at = end
    return "".join([*pieces, text[at:]])


class Slot(NamedTuple):
    """The place of one value: `key` ends · `:` · `start` anchor and tag `head` · `content` … `end`."""

    colon: int | None  # just behind the colon; None where there is none
    start: int
    head: int
    content: int
    end: int

    @property
    def empty(self) -> bool:
        return self.content == self.end


@dataclass(frozen=True)
class Place:
    """How far a path leads into the nodes."""

    trail: list[tuple[Node, int]]  # each collection passed, and which of its children was taken
    node: Node | None  # the last one reached; None in a text without a document
    rest: tuple[str, ...]  # the keys that are not there


class Layout:
    """A text that PyYAML reads, and where its nodes stand in it.

    Raises what `Tape` raises, and EditRefused if the text has a key twice.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = Lines(text)
        self.tape = Tape(text)
        self.document = self.tape.document  # behind the `---`, if there is one
        self.root = Node(self.tape, 0) if len(self.tape) else None
        self._refuse_duplicates()

    @property
    def ends_in_block_scalar(self) -> bool:
        """Whether the text ends in a `|` or `>` value with no line break behind it."""
        return self.needs_break(self.root) and not BREAK.fullmatch(self.text[-1:])

    def needs_break(self, node: Node | None) -> bool:
        """Whether the line break behind the node is a part of its text: it ends in a `|` or `>` value."""
        while node and node.children:
            node = node.children[-1]
        return node is not None and node.style in ("|", ">") and "-" not in self.header(self._properties(node)[1])

    def line(self, index: int) -> int:
        """The line of an index as people count, from 1."""
        return self.lines.number(index) + 1

    def line_end(self, index: int) -> int:
        return self.lines.end(self.lines.number(index))

    def starts_line(self, index: int) -> bool:
        """Whether nothing but spaces stands before this index on its line."""
        return not self.text[self.lines.start(self.lines.number(index)) : index].strip(" ")

    def _refuse_duplicates(self) -> None:
        tape = self.tape
        for at, kind in enumerate(tape.kinds):
            if kind is Kind.MAPPING:
                keys = list(islice(children_of(tape, at), 0, None, 2))
                if len({tape.says[tape.targets.get(key, key)][0] for key in keys}) < len(keys):
                    self._refuse_duplicate(map(tape.node, keys))

    def _refuse_duplicate(self, keys: Iterable[Node]) -> None:
        seen: set[str] = set()
        for key in keys:
            name = key.target.value
            if not key.named(name):
                continue
            if name in seen:
                line = self.line(key.start)
                raise EditRefused(f"line {line}: the key {name!r} is there twice; remove one by hand first")
            seen.add(name)

    def find(self, path: Sequence[str]) -> Place:
        trail: list[tuple[Node, int]] = []
        node = self.root
        for depth, key in enumerate(path):
            at = _child(node, key) if node else None
            if node is None or at is None:
                return Place(trail, node, tuple(path[depth:]))
            trail.append((node, at))
            node = node.children[at]
        return Place(trail, node, ())

    def end(self, node: Node) -> int:
        """Where the node's own text ends, without the blank lines that are no part of a block scalar."""
        if node.block:  # its mark runs on to the next token: its last leaf counts
            return self.end(node.children[-1])
        if node.style not in ("|", ">"):
            return node.end
        content = self._properties(node)[1]
        if "+" in self.header(content):
            return self.lines.end(self.lines.number(max(content, node.end - 1)))
        return content + len(self.text[content : node.end].rstrip(" \t\r\n\x85\u2028\u2029"))

    def header(self, content: int) -> str:
        """The `|` or `>` with its indicators that starts a block scalar."""
        match = _BLOCK_HEADER.match(self.text, content)
        return match[0] if match else ""

    def _properties(self, node: Node) -> tuple[int, int]:
        """Where the anchor and tag end, and where the content starts behind them."""
        limit = node.children[0].start if node.children else node.head
        end = at = node.start
        while (node.anchor or node.tag) and at < limit and (match := _PROPERTY.match(self.text, at)):
            end = match.end()
            at = min(limit, self.gap_end(end))
        return end, at

    def gap_end(self, index: int) -> int:
        """The next place from here that is neither white space, line break nor comment."""
        match = _GAP.match(self.text, index)
        return match.end() if match else index

    def slot(self, parent: Node, at: int) -> Slot:
        node = parent.children[at]
        head, content = self._properties(node)
        empty = node.scalar and not node.style and not self.text[content : node.end]
        colon = self._colon(parent, at)
        if head == node.start and colon is not None:
            head = colon
        if empty:
            return Slot(colon, node.start, head, head, head)
        return Slot(colon, node.start, head, content, self.end(node))

    def _colon(self, parent: Node, at: int) -> int | None:
        node = parent.children[at]
        if not parent.mapping:
            return node.start
        key_end = self.end(parent.children[at - 1])
        # a block key and its colon share a line, except behind `?`
        colon = self.gap_end(key_end) if parent.flow else key_end
        while colon < len(self.text) and self.text[colon] in " \t":
            colon += 1
        return colon + 1 if self.text[colon : colon + 1] == ":" else None

    def entry_start(self, parent: Node, at: int) -> int:
        """Where the entry of a child starts: its key, the `?` or dash before it; between brackets the item itself."""
        if parent.mapping or parent.flow:
            start = parent.children[at + 1 - parent.step].start
            line = self.lines.start(self.lines.number(start))
            before = self.text[line:start].rstrip(" \t")
            return line + len(before) - 1 if before.endswith("?") and parent.block else start
        return self.gap_end(self.end(parent.children[at - 1]) if at else self._properties(parent)[1])

    def column(self, collection: Node) -> int:
        """The column of the keys or dashes."""
        return self.lines.column(self.entry_start(collection, collection.step - 1))

    def last_line(self, parent: Node, at: int) -> int:
        """The last line of a block entry: that of its value, or of the deeper comments that follow it."""
        column = self.column(parent)
        last = self.lines.number(self.slot(parent, at).end)
        for number in range(last + 1, len(self.lines)):
            comment = self.lines.comment(number)
            if comment is not None and comment > column:
                last = number
            elif not self.lines.blank(number):
                break
        return last

    def first_line(self, parent: Node, at: int) -> int:
        """The first line of a block entry: that of its key or dash, or of the comments right above.

        The comments at the top of the file are its heading and belong to no entry.
        """
        lines, start = self.lines, self.entry_start(parent, at)
        own = first = lines.number(start)
        floor = lines.number(self.end(parent.children[at - parent.step])) if at >= parent.step else -1
        while first - 1 > floor and lines.comment(first - 1) == lines.column(start):
            first -= 1
        heads_file = first < own and all(self._before_content(number) for number in range(first))
        return own if heads_file else first

    def _before_content(self, number: int) -> bool:
        return self.lines.blank(number) or self.lines.content(number).startswith(("---", "%"))


def item_number(key: str) -> int | None:
    """The item of a list that a key of a path stands for."""
    return int(key) if key.isascii() and key.isdigit() and len(key) < 10 else None


def _child(node: Node, key: str) -> int | None:
    if node.mapping:
        names = enumerate(node.children[::2])
        return next((2 * at + 1 for at, child in names if child.named(key)), None)
    number = item_number(key) if node.sequence else None
    return number if number is not None and number < len(node.children) else None
