"""`set_value` and `remove`: an edit from reading the text to checking the result."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import yaml

from state.edit import splices
from state.edit.change import GONE, Change, same
from state.edit.layout import EditRefused, Layout, Place, Splice, apply, item_number
from state.edit.nodes import Kind, Node, Tape

_BOM = "\ufeff"


def set_value(text: str, path: Sequence[str], value: object) -> str:
    """The text with `value` (plain data: str, int, float, bool, None, list, dict) at `path`.

    What is missing of the path is added behind the last entry of the mapping it belongs to. A number in the path leads
    to an item of a list, counted from 0; the number behind the last adds one. The text comes back as it is if the
    value is already there.

    Raises EditRefused where that cannot be done without changing something else.
    """
    bom, before = _reading(text)
    if before.has(path) and same(before.value(path), value):
        return text
    place = before.find(path)
    if len(place.rest) > 1:
        before.refuse_merged(path, place)
    layout = before.layout
    try:
        plan = splices.add(layout, place, value) if place.rest else splices.replace(layout, place.trail, value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EditRefused(f"the value for {_name(path)} cannot be written as YAML: {_explain(error)}") from error
    return bom + before.checked(path, place, plan, value)


def remove(text: str, path: Sequence[str]) -> str:
    """The text without the entry, or the item of a list, at `path`.

    With it go the comment right above it in the same column, the deeper ones below it, and its blank line if blank
    lines set it apart. Comments at the top of the file stay. A mapping that becomes empty is left as `{}`, a list as
    `[]`.

    Raises EditRefused where that cannot be done without changing something else, or if there is no such entry.
    """
    bom, before = _reading(text)
    place = before.find(path)
    if place.rest:
        before.refuse_merged(path, place)
        raise EditRefused(f"{_name(path)} is not in the file, so there is nothing to remove")
    try:
        plan = splices.remove(before.layout, place.trail)
    except RecursionError as error:
        raise EditRefused(f"{_name(path)} is nested too deeply; change it by hand") from error
    return bom + before.checked(path, place, plan, GONE)


def value_at(text: str, path: Sequence[str]) -> Any:
    """The data at `path`, None if there is none. Raises EditRefused for a text that is not readable."""
    _, reading = _reading(text)
    return reading.value(path) if reading.has(path) else None


def _reading(text: str) -> tuple[str, _Reading]:
    """The byte order mark, if there is one, and what stands behind it."""
    bom = text[: text.startswith(_BOM)]
    return bom, _read(text.removeprefix(_BOM))


@lru_cache(maxsize=1)  # an edit after the other often changes the same text: a write may be several
def _read(text: str) -> _Reading:
    return _Reading(text)


class _Reading:
    """A text, laid out."""

    def __init__(self, text: str) -> None:
        try:
            self.layout = Layout(text)
        except EditRefused:
            raise
        except Exception as error:  # PyYAML lets through what its reader and codecs raise
            raise EditRefused(f"the file is not readable as it stands: {_explain(error)}; repair it first") from error

    def has(self, path: Sequence[str]) -> bool:
        try:
            self.value(path)
        except (LookupError, TypeError):
            return False
        return True

    def value(self, path: Sequence[str]) -> Any:
        """The data at `path`, also where an alias or a merge brings it. Raises LookupError or TypeError if none is."""
        place = self.layout.find(path)
        if place.node is None:
            raise LookupError(path)
        if place.rest and not _brings_more(place.node):
            raise LookupError(path)
        try:
            data = self.layout.tape.construct(place.node.at)
        except Exception as error:  # PyYAML's constructors let through whatever int(), date() and the like raise
            line = self.layout.line(place.node.start)
            raise EditRefused(f"line {line}: this is not readable: {_explain(error)}; repair it first") from error
        for key in place.rest:
            number = item_number(key) if isinstance(data, list) else None
            data = data[key if number is None else number]
        return data

    def find(self, path: Sequence[str]) -> Place:
        """Where the path leads. Refuses one that goes through an alias: what it changes is written elsewhere."""
        if not path:
            raise EditRefused("the path is empty: an edit changes one entry, not the whole file")
        place = self.layout.find(path)
        reached = path[: len(path) - len(place.rest)]
        if place.rest and place.node is not None and place.node.kind is Kind.ALIAS:
            raise EditRefused(self._from_elsewhere(reached, "an alias", place.node))
        passed = [node for node, _ in place.trail] + ([place.node] if place.rest and place.node else [])
        odd = next((node for node in passed if not node.plain_data), None)
        if odd is not None:
            line = self.layout.line(odd.start)
            raise EditRefused(f"line {line}: this is {odd.kind.value} with the tag {odd.tag}; change it by hand")
        return place

    def refuse_merged(self, path: Sequence[str], place: Place) -> None:
        reached = path[: len(path) - len(place.rest) + 1]
        if place.node is not None and self.has(reached):
            merge = next((key for key in place.node.children[::2] if key.merges), place.node)
            raise EditRefused(self._from_elsewhere(reached, "a merge", merge))

    def _from_elsewhere(self, path: Sequence[str], how: str, node: Node) -> str:
        line, source = self.layout.line(node.start), self.layout.line(node.target.start)
        written = f", written at line {source}" if source != line else ""
        return f"{_name(path)} comes from {how} at line {line}{written}; edit it there by hand, or write it out here"

    def checked(self, path: Sequence[str], place: Place, plan: list[Splice], value: object) -> str:
        """The text after the plan, if it then says the same but for this one change."""
        text = apply(self.layout.text, plan)
        change = Change(self.layout.tape, place, value)
        try:
            as_wanted = change.is_all(Tape(text))
        except Exception:  # as above
            as_wanted = False
        if not as_wanted:
            raise EditRefused(f"{_name(path)}: {self._obstacle(place, change)}; change it by hand")
        return text

    def _obstacle(self, place: Place, change: Change) -> str:
        """What most likely stands in the way of an edit that did not pass the check."""
        node = place.node or self.layout.root
        if node is None:
            return "the file has no place for it"
        if (found := change.disturbed()) is not None:
            alias, anchored = found
            line, use = self.layout.line(anchored.start), self.layout.line(alias.start)
            return f"the anchor &{anchored.anchor} at line {line} is used at line {use}, which would change too"
        parent = place.trail[-1][0] if place.trail else node
        merge = next((key for key in parent.children[::2] if key.merges), None) if parent.mapping else None
        if merge is not None:
            return f"the merge at line {self.layout.line(merge.start)} plays a part in it"
        if self.layout.ends_in_block_scalar:
            return "the last line of the file has no line break, and one would become part of its text"
        return f"at line {self.layout.line(node.start)} the edit would change something else as well"


def _brings_more(node: Node) -> bool:
    """Whether a key that does not stand in this node may be in its data all the same."""
    return node.kind is Kind.ALIAS or (node.mapping and any(key.merges for key in node.children[::2]))


def _name(path: Sequence[str]) -> str:
    return repr(".".join(path))


def _explain(error: Exception) -> str:
    """What a YAML error says, in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"{problem} at line {mark.line + 1}" if mark else problem
