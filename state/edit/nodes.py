"""What a YAML text is made of, each piece with its place: built by `layout` from the parser's events."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import yaml

LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_RESOLVER = yaml.resolver.Resolver()


class Kind(Enum):
    """What a node is."""

    SCALAR = "a single value"
    ALIAS = "an alias"
    MAPPING = "a mapping"
    SEQUENCE = "a list"


KINDS = {
    yaml.ScalarEvent: Kind.SCALAR,
    yaml.AliasEvent: Kind.ALIAS,
    yaml.MappingStartEvent: Kind.MAPPING,
    yaml.SequenceStartEvent: Kind.SEQUENCE,
}
_NONE: list[Node] = []  # shared by all leaves, never filled


class Node:
    """A scalar, an alias or a collection, with its children; those of a mapping are key, value, key, value, …

    It keeps numbers rather than events and marks: a large file has many, and each would cost the garbage collector.
    """

    __slots__ = (
        "anchor",
        "children",
        "end",
        "flow",
        "head",
        "kind",
        "plain",
        "start",
        "style",
        "tag",
        "target",
        "value",
    )

    def __init__(self, event: Any) -> None:
        self.kind = kind = KINDS[type(event)]
        self.start: int = event.start_mark.index  # where its anchor, its tag or its content starts
        self.head: int = event.end_mark.index  # of a collection: behind the opening brace, or its first entry
        self.end = self.head
        self.anchor: str | None = None if kind is Kind.ALIAS else event.anchor
        self.tag: str | None = None
        self.style = self.value = ""
        self.plain = self.flow = False
        self.children = _NONE
        self.target: Node = self  # of an alias: what it stands for
        if kind is Kind.SCALAR:
            self.tag, self.value, self.plain = event.tag, event.value, event.implicit[0]
            self.style = event.style or ""  # `'`, `"`, `|`, `>`, or nothing for plain
        elif kind is not Kind.ALIAS:
            self.tag, self.flow = event.tag, event.flow_style
            self.children = []

    @property
    def scalar(self) -> bool:
        return self.kind is Kind.SCALAR

    @property
    def mapping(self) -> bool:
        return self.kind is Kind.MAPPING

    @property
    def sequence(self) -> bool:
        return self.kind is Kind.SEQUENCE

    @property
    def block(self) -> bool:
        """Whether it is a collection in block style."""
        return (self.mapping or self.sequence) and not self.flow

    @property
    def resolved(self) -> str | None:
        """The tag a scalar ends up with: what YAML reads it as. None for a collection."""
        node = self.target
        if not node.scalar:
            return None
        if node.tag is not None and node.tag != "!":
            return node.tag
        return str(_RESOLVER.resolve(yaml.ScalarNode, node.value, (node.plain, not node.plain)))

    @property
    def null(self) -> bool:
        return self.scalar and self.resolved == "tag:yaml.org,2002:null"

    @property
    def merges(self) -> bool:
        return self.resolved == "tag:yaml.org,2002:merge"

    def named(self, name: str) -> bool:
        """Whether it is a key that YAML reads as this string."""
        return self.target.value == name and self.resolved == "tag:yaml.org,2002:str"

    def walk(self) -> Iterator[Node]:
        """This node and all below it, in the order of the text."""
        todo = [self]
        while todo:
            node = todo.pop()
            yield node
            todo += reversed(node.children)
