"""`set_value` and `remove`: an edit from reading the text to checking the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from state.edit import splices
from state.edit.layout import EditRefused, Layout, Place, Splice, apply, item_number
from state.edit.nodes import LOADER, Kind, Node

_BOM = "\ufeff"
_GONE = object()


def set_value(text: str, path: Sequence[str], value: object) -> str:
    """The text with `value` (plain data: str, int, float, bool, None, list, dict) at `path`.

    What is missing of the path is added behind the last entry of the mapping it belongs to. A number in the path leads
    to an item of a list, counted from 0. The text comes back as it is if the value is already there.

    Raises EditRefused where that cannot be done without changing something else.
    """
    before = _Reading(text)
    if before.has(path) and _same(before.value(path), value):
        return text
    place = before.find(path)
    if len(place.rest) > 1:
        before.refuse_merged(path, place)
    layout = before.layout
    try:
        plan = splices.add(layout, place, value) if place.rest else splices.replace(layout, place.trail, value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EditRefused(f"the value for {_name(path)} cannot be written as YAML: {_explain(error)}") from error
    return before.checked(path, place, plan, value)


def remove(text: str, path: Sequence[str]) -> str:
    """The text without the entry at `path`.

    With it go the comment right above it in the same column, the deeper ones below it, and its blank line if blank
    lines set it apart. Comments at the top of the file stay. A mapping that becomes empty is left as `{}`.

    Raises EditRefused where that cannot be done without changing something else, or if there is no such entry.
    """
    before = _Reading(text)
    place = before.find(path)
    if place.rest:
        before.refuse_merged(path, place)
        raise EditRefused(f"{_name(path)} is not in the file, so there is nothing to remove")
    return before.checked(path, place, splices.remove(before.layout, place.trail), _GONE)


class _Reading:
    """A text with its data and its layout."""

    def __init__(self, text: str) -> None:
        self._bom = text[: text.startswith(_BOM)]
        text = text.removeprefix(_BOM)
        try:
            self._data = _load(text)
        except Exception as error:  # PyYAML's constructors let through whatever int(), date() and the like raise
            raise EditRefused(f"the file is not readable as it stands: {_explain(error)}; repair it first") from error
        self.layout = Layout(text)

    def has(self, path: Sequence[str]) -> bool:
        try:
            self.value(path)
        except (LookupError, TypeError):
            return False
        return True

    def value(self, path: Sequence[str]) -> Any:
        data = self._data
        for key in path:
            number = item_number(key) if isinstance(data, list) else None
            data = data[key if number is None else number]
        return data

    def find(self, path: Sequence[str]) -> Place:
        """Where the path leads. Refuses one that goes through an alias: what it changes is written elsewhere."""
        if not path:
            raise EditRefused("the path is empty: an edit changes one entry, not the whole file")
        place = self.layout.find(path)
        if place.rest and place.node is not None and place.node.kind is Kind.ALIAS:
            reached = path[: len(path) - len(place.rest)]
            raise EditRefused(self._from_elsewhere(reached, "an alias", place.node))
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
        """The text after the plan, if it then holds the old data with this one change and nothing else."""
        text = apply(self.layout.text, plan)
        try:
            as_wanted = _same(_load(text), _changed(self._data, path, value))
        except Exception:  # as above
            as_wanted = False
        if not as_wanted:
            raise EditRefused(f"{_name(path)}: {self._obstacle(place)}; change it by hand")
        return self._bom + text

    def _obstacle(self, place: Place) -> str:
        """What most likely stands in the way of an edit that did not pass the check."""
        node = place.node or self.layout.root
        if node is None:
            return "the file has no place for it"
        touched = {id(container): container for container, _ in place.trail}
        touched |= {id(below): below for below in node.walk()}
        for alias in self.layout.aliases:
            anchored = touched.get(id(alias.target))
            if anchored and id(alias) not in touched:
                line, use = self.layout.line(anchored.start), self.layout.line(alias.start)
                return f"the anchor &{anchored.anchor} at line {line} is used at line {use}, which would change too"
        parent = place.trail[-1][0] if place.trail else node
        merge = next((key for key in parent.children[::2] if key.merges), None)
        if merge is not None:
            return f"the merge at line {self.layout.line(merge.start)} plays a part in it"
        if self.layout.ends_in_block_scalar:
            return "the last line of the file has no line break, and one would become part of its text"
        return f"at line {self.layout.line(node.start)} the edit would change something else as well"


def _name(path: Sequence[str]) -> str:
    return repr(".".join(path))


def _explain(error: Exception) -> str:
    """What a YAML error says, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"{problem} at line {mark.line + 1}" if mark else problem


def _load(text: str) -> Any:
    return yaml.load(text, Loader=LOADER)


def _changed(data: Any, path: Sequence[str], value: object) -> Any:
    """A copy of the data with one value changed; what is shared through aliases stays as it was in the other places."""
    if not path:
        return value
    key, *deeper = path
    if isinstance(data, list):
        number = item_number(key)
        return [_changed(item, deeper, value) if at == number else item for at, item in enumerate(data)]
    if not isinstance(data, dict | None):
        raise TypeError(f"no {key!r} in a {type(data).__name__}")
    changed = {**(data or {}), key: _changed((data or {}).get(key), deeper, value)}
    return {name: item for name, item in changed.items() if item is not _GONE}


def _same(old: Any, new: Any) -> bool:
    """Equality that tells 1 from True and 1.0, takes .nan for itself, and survives data that contains itself."""
    todo, seen = [(old, new)], set()
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
        if not isinstance(a, dict | list):
            if a != b and (a == a or b == b):
                return False
        elif (id(a), id(b)) not in seen:
            seen.add((id(a), id(b)))
            if len(a) != len(b) or (isinstance(a, dict) and a.keys() != b.keys()):
                return False
            todo += [(a[key], b[key]) for key in a] if isinstance(a, dict) else zip(a, b, strict=True)
    return True
