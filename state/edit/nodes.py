"""What a YAML text is made of, each piece with its place: the parser's events, and the nodes they are seen as.

Events are kept flat, as numbers and short tuples: a large file has many, of which an edit looks at few. A node is made
only when somebody asks for it. Two texts that say the same event by event hold the same data, so comparing them
costs no construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import yaml

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

STR, MERGE, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:null"
PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")  # of collections that are dict and list

_RESOLVER = yaml.resolver.Resolver()


class Kind(Enum):
    """What a node is."""

    SCALAR = "a single value"
    ALIAS = "an alias"
    MAPPING = "a mapping"
    SEQUENCE = "a list"


_SCALAR: Any = yaml.ScalarEvent
_ALIAS: Any = yaml.AliasEvent
_DOCUMENT: Any = yaml.DocumentStartEvent
_STARTS = {yaml.MappingStartEvent: Kind.MAPPING, yaml.SequenceStartEvent: Kind.SEQUENCE}
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class Tape:
    """The events of a text's only document, by number; the lists below have one item for each.

    Raises yaml.YAMLError and UnicodeEncodeError for what is not YAML, and if there is a second document.
    """

    def __init__(self, text: str) -> None:
        self.kinds: list[Kind | None] = []  # None: the end of a collection
        self.says: list[tuple[Any, ...]] = []  # what it means, without its place and style
        self.styles: list[Any] = []  # of a scalar its quote, or `|` or `>`; of a collection, whether in braces
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.closes: list[int] = []  # where what starts here ends
        self.targets: dict[int, int] = {}  # of each alias: what it stands for
        self.document = 0  # behind the `---`, if there is one
        self._read(LOADER(text))

    def __len__(self) -> int:
        return len(self.says)

    def _read(
        self, parser: Any
    ) -> None:  # the one loop that a large file spends its time in: no calls it can do without
        kinds, says, styles, starts, ends, closes = (
            self.kinds, self.says, self.styles, self.starts, self.ends, self.closes,
        )  # fmt: skip
        opened: list[int] = []
        anchors: dict[str, int] = {}
        while parser.check_event():
            event = parser.get_event()
            kind, at = type(event), len(says)
            if kind is _SCALAR:
                kinds.append(Kind.SCALAR)
                says.append((event.value, event.tag, event.implicit, event.anchor))
                styles.append(event.style or "")
            elif kind in _ENDS:
                closes[opened.pop()] = at
                kinds.append(None)
                says.append(())
                styles.append("")
            elif kind in _STARTS:
                opened.append(at)
                kinds.append(_STARTS[kind])
                says.append((_STARTS[kind], event.tag, event.anchor))
                styles.append(event.flow_style)
            elif kind is _ALIAS:
                self._point(at, event, anchors)
                kinds.append(Kind.ALIAS)
                says.append((event.anchor,))
                styles.append("")
            else:
                self._outside(event)
                continue
            closes.append(at)
            starts.append(event.start_mark.index)
            ends.append(event.end_mark.index)
            if kind is not _ALIAS and kind not in _ENDS and event.anchor is not None:
                anchors[event.anchor] = at

    def _point(self, at: int, event: Any, anchors: dict[str, int]) -> None:
        if event.anchor not in anchors:
            raise yaml.composer.ComposerError(None, None, f"found undefined alias {event.anchor!r}", event.start_mark)
        self.targets[at] = anchors[event.anchor]

    def _outside(self, event: Any) -> None:
        if type(event) is _DOCUMENT:
            if self.says:
                raise yaml.composer.ComposerError(None, None, "found a second document", event.start_mark)
            self.document = event.end_mark.index

    def construct(self, at: int) -> Any:
        """The data of the node that starts here, as PyYAML makes it. Raises whatever its constructors raise."""
        composer = _Composer(self)
        return composer.loader.construct_document(composer.node(at))

    def node(self, at: int) -> Node:
        return Node(self, at)


class _Composer:
    """PyYAML's nodes from a part of a tape; an alias gets what it stands for, also if that is elsewhere."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.loader = LOADER("")
        self.known: dict[int, yaml.Node] = {}

    def node(self, at: int) -> yaml.Node:
        at = self.tape.targets.get(at, at)
        return self.known.get(at) or self._new(at)

    def _new(self, at: int) -> yaml.Node:
        resolve, kind = self.loader.resolve, self.tape.kinds[at]
        if kind is Kind.SCALAR:
            value, tag, implicit, _ = self.tape.says[at]
            tag = resolve(yaml.ScalarNode, value, implicit) if tag in (None, "!") else tag
            self.known[at] = yaml.ScalarNode(tag, value)
            return self.known[at]
        of = yaml.MappingNode if kind is Kind.MAPPING else yaml.SequenceNode
        _, tag, _ = self.tape.says[at]
        node = self.known[at] = of(resolve(of, None, True) if tag in (None, "!") else tag, [])
        children = [self.node(child) for child in children_of(self.tape, at)]
        node.value += zip(children[::2], children[1::2], strict=True) if kind is Kind.MAPPING else children
        return node


def children_of(tape: Tape, at: int) -> Iterator[int]:
    """Where the children of a collection start; those of a mapping are key, value, key, value, …"""
    stop, closes = tape.closes[at], tape.closes
    at += 1
    while at < stop:
        yield at
        at = closes[at] + 1


class Node:
    """A scalar, an alias or a collection, with its children; those of a mapping are key, value, key, value, …"""

    __slots__ = ("_children", "at", "end", "head", "kind", "start", "style", "tape")

    def __init__(self, tape: Tape, at: int) -> None:
        self.tape = tape
        self.at = at  # its number on the tape
        kind = tape.kinds[at]
        assert kind is not None
        self.kind = kind
        self.start = tape.starts[at]  # where its anchor, its tag or its content starts
        self.head = tape.ends[at]  # of a collection: behind the opening brace, or its first entry
        self.end = tape.ends[tape.closes[at]]  # of a block collection: runs on to the next token
        self.style: str = tape.styles[at] if kind is Kind.SCALAR else ""
        self._children: list[Node] | None = None

    @property
    def children(self) -> list[Node]:
        if self._children is None:
            self._children = [Node(self.tape, at) for at in children_of(self.tape, self.at)]
        return self._children

    @property
    def anchor(self) -> str | None:
        return None if self.kind is Kind.ALIAS else self.tape.says[self.at][-1]

    @property
    def tag(self) -> str | None:
        return None if self.kind is Kind.ALIAS else self.tape.says[self.at][1]

    @property
    def value(self) -> str:
        return str(self.tape.says[self.at][0]) if self.scalar else ""

    @property
    def target(self) -> Node:
        """Of an alias: what it stands for."""
        return Node(self.tape, self.tape.targets[self.at]) if self.kind is Kind.ALIAS else self

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
    def flow(self) -> bool:
        """Whether it is a collection in braces or brackets."""
        return not self.scalar and bool(self.tape.styles[self.at])

    @property
    def block(self) -> bool:
        """Whether it is a collection in block style."""
        return (self.mapping or self.sequence) and not self.flow

    @property
    def step(self) -> int:
        """How many children make one entry."""
        return 2 if self.mapping else 1

    @property
    def resolved(self) -> str | None:
        """The tag a scalar ends up with: what YAML reads it as. None for a collection."""
        node = self.target
        if not node.scalar:
            return None
        value, tag, implicit, _ = node.tape.says[node.at]
        if tag is not None and tag != "!":
            return str(tag)
        return str(_RESOLVER.resolve(yaml.ScalarNode, value, implicit))

    @property
    def null(self) -> bool:
        return self.scalar and self.resolved == NULL

    @property
    def merges(self) -> bool:
        return self.resolved == MERGE

    @property
    def plain_data(self) -> bool:
        """Whether it is no set, ordered mapping or the like, which look as mappings and lists do."""
        return self.scalar or self.tag in PLAIN_TAGS

    def named(self, name: str) -> bool:
        """Whether it is a key that YAML reads as this string."""
        return self.target.value == name and self.resolved == STR

    def walk(self) -> Iterator[Node]:
        """This node and all below it, in the order of the text."""
        todo = [self]
        while todo:
            node = todo.pop()
            yield node
            todo += reversed(node.children)
