"""The check of an edit: the new text says what the old one said, event by event, but for one change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from state.edit.layout import Place
from state.edit.nodes import Kind, Node, Tape

GONE = object()


class Change:
    """What an edit is to change on a tape: the events from `start` to `stop` give way to others."""

    def __init__(self, old: Tape, place: Place, value: object) -> None:
        self._old = old
        self._place = place
        self._value = value
        self.start, self.stop = self._span()
        self._around = {node.at for node, _ in place.trail}  # what holds the change, and so changes with it
        if place.rest and place.node is not None:
            self._around.add(place.node.at)

    def _span(self) -> tuple[int, int]:
        old, place, node = self._old, self._place, self._place.node
        if node is None:
            return 0, 0
        if self._adds_entry:
            return old.closes[node.at], old.closes[node.at]
        first = node
        if self._value is GONE:
            parent, at = place.trail[-1]
            first = parent.children[at + 1 - parent.step]
        return first.at, old.closes[node.at] + 1

    @property
    def _adds_entry(self) -> bool:
        node = self._place.node
        return bool(self._place.rest) and node is not None and not node.scalar

    def disturbed(self) -> tuple[Node, Node] | None:
        """An alias elsewhere whose data would change too, and what it stands for."""
        for alias, target in self._old.targets.items():
            if not self._changes(alias) and (target in self._around or self._changes(target)):
                return self._old.node(alias), self._old.node(target)
        return None

    def _changes(self, at: int) -> bool:
        return self.start <= at < self.stop

    def is_all(self, new: Tape) -> bool:
        """Whether the new tape has this change and no other. Raises whatever PyYAML's constructors raise."""
        old, start, grown = self._old, self.start, len(new) - len(self._old)
        stop = self.stop + grown
        return (
            start <= stop
            and new.says[:start] == old.says[:start]
            and new.says[stop:] == old.says[self.stop :]
            and self.disturbed() is None
            and new.targets == {self._moved(a, grown): self._moved(t, grown) for a, t in self._kept_aliases()}
            and self._is_wanted(new, stop)
        )

    def _kept_aliases(self) -> list[tuple[int, int]]:
        return [pair for pair in self._old.targets.items() if not self._changes(pair[0])]

    def _moved(self, at: int, grown: int) -> int:
        return at if at < self.start else at + grown

    def _is_wanted(self, new: Tape, stop: int) -> bool:
        """Whether what stands in the changed place is the value that was asked for."""
        start, rest, value = self.start, self._place.rest, self._value
        if value is GONE:
            return start == stop and not self._is_merged_back(new)
        names = list(rest)
        if self._adds_entry:
            key = names.pop(0)
            if self._place.node is not None and self._place.node.mapping:
                if new.kinds[start] is not Kind.SCALAR or not new.node(start).named(key):
                    return False
                start += 1
        return new.closes[start] == stop - 1 and same(new.construct(start), nested(names, value))

    def _is_merged_back(self, new: Tape) -> bool:
        parent, at = self._place.trail[-1]
        if not parent.mapping or not any(key.merges for key in parent.children[::2]):
            return False
        return parent.children[at - 1].target.value in new.construct(parent.at)


def nested(names: Sequence[str], value: object) -> object:
    """The value under keys that are not there yet."""
    for name in reversed(names):
        value = {name: value}
    return value


def same(old: Any, new: Any) -> bool:
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
