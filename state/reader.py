"""queues.yaml, read: bytes to `Desired`, or `Rejected` with every fault at its line and column. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from state.desired import Desired
from state.faults import Fault, Rejected, details, dotted

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 32 * 1024 * 1024
MAX_NODES = 2_000_000  # after aliases are written out: more is a bomb, not a file
BOM = "\ufeff"
STR = "tag:yaml.org,2002:str"


def revision_of(data: bytes) -> str:
    """The revision of a file: the SHA-256 of its bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def parse(data: bytes, name: str = "queues.yaml") -> Desired:
    """The desired state that `data` describes. Raises `Rejected` and nothing else, whatever the bytes."""
    return _parsed(data, name)


# A write reads the same bytes several times: to see what to edit, to check the result, to put it in force.
@lru_cache(maxsize=2)
def _parsed(data: bytes, name: str) -> Desired:
    return _Reader(name).read(data)


def locate(data: bytes, path: tuple[str, ...], message: str, name: str = "queues.yaml") -> Fault:
    """The fault `message` about what stands at `path` of a text that can be parsed."""
    return locate_all(data, [(path, message)], name)[0]


def locate_all(data: bytes, found: Iterable[tuple[tuple[str, ...], str]], name: str = "queues.yaml") -> list[Fault]:
    """As `locate`, of many at once."""
    root = Loader(data.decode().removeprefix(BOM)).get_single_node()
    marks = ((path, message, find(root, path).start_mark) for path, message in found)
    return [Fault(mark.line + 1, mark.column + 1, dotted(path), message, name) for path, message, mark in marks]


class _Reader:
    """One reading of one text; keeps the node tree so that every fault gets its line and column."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, data: bytes) -> Desired:
        try:
            return self._read(self._decode(data))
        except RecursionError:
            raise self._reject(0, 0, "", "it is nested too deeply (a queues.yaml has five levels)") from None

    def _read(self, text: str) -> Desired:
        root, raw = self._load(text)
        if root is None or raw is None:
            raise self._reject(0, 0, "", "the file is empty (write version: 1 and queues: {} if there are none)")
        try:
            return Desired.model_validate(raw)
        except ValidationError as error:
            raise Rejected(self._locate(root, path, text) for path, text in details(error)) from None

    def _reject(self, line: int, column: int, path: str, message: str) -> Rejected:
        return Rejected([Fault(line + 1, column + 1, path, message, self.name)])

    def _decode(self, data: bytes) -> str:
        if len(data) > MAX_BYTES:
            raise self._reject(0, 0, "", f"the file has {len(data):,} bytes (at most {MAX_BYTES:,})")
        try:
            return data.decode().removeprefix(BOM)
        except UnicodeDecodeError as error:
            before = data[: error.start].decode(errors="replace")
            line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
            raise self._reject(line, column, "", "this byte is not UTF-8 (save the file as UTF-8)") from None

    def _load(self, text: str) -> tuple[Node | None, Any]:
        root = None
        try:
            loader = Loader(text)
            root = loader.get_single_node()
            if root is None:
                return None, None
            if "*" not in text or "&" not in text:  # no aliases
                with suppress(*UNUSUAL):
                    return root, plain_data(loader, root)
            self._check_nodes(root)
            return root, Loader("").construct_document(root)
        except (Rejected, RecursionError):
            raise
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, text) from None
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
            raise self._reject(line, column, "", "YAML does not allow this character (take it out)") from None
        except Exception as error:  # PyYAML's constructors raise whatever int(), float() and datetime() raise
            raise self._unreadable(root, error) from None

    def _unreadable(self, root: Node | None, error: Exception) -> Rejected:
        """Every value that YAML's own types do not take, such as the 31st of June."""
        found = [(path, wrong) for node, path in walk(root) if (wrong := why_unreadable(node))] if root else []
        if root is None or not found:
            return self._reject(0, 0, "", f"a value cannot be read: {error} (quote it if it is text)")
        text = "this value cannot be read: {} (quote it if it is text)"
        return Rejected(self._locate(root, path, text.format(wrong)) for path, wrong in found)

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> Rejected:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        lines = text.splitlines()
        if line >= len(lines) and not text.endswith("\n"):  # libyaml adds the newline that is missing at the end
            line, column = len(lines) - 1, len(lines[-1])
        what = " ".join(filter(None, (error.context, error.problem)))
        tab = "\t" in "".join(lines[line : line + 1])[: column + 1]
        hint = "indent with spaces, not tabs" if tab else "check the indentation, quotes and brackets here"
        return self._reject(line, column, "", f"not YAML: {what} ({hint})")

    def _check_nodes(self, root: Node) -> None:
        faults: list[Fault] = []
        if _Sizes().of(root) > MAX_NODES:
            raise self._reject(0, 0, "", "its aliases write out to too much (write the values out instead)")
        for node, path in walk(root):
            if isinstance(node, MappingNode):
                faults += self._key_faults(node, path)
        if faults:
            raise Rejected(faults)

    def _key_faults(self, mapping: MappingNode, path: tuple[str, ...]) -> Iterator[Fault]:
        seen: dict[str, int] = {}
        for key, _ in mapping.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key, ScalarNode) or key.tag != STR:
                text = key.value if isinstance(key, ScalarNode) else "this"
                yield Fault(line, column, dotted(path), f"the key {text} is not text to YAML (quote it)", self.name)
            elif key.value in seen:
                first = f"it stands in line {seen[key.value]} already"
                where = dotted((*path, key.value))
                yield Fault(line, column, where, f"duplicate key ({first}; keep one)", self.name)
            else:
                seen[key.value] = line

    def _locate(self, root: Node, path: tuple[str, ...], message: str) -> Fault:
        mark = find(root, path).start_mark
        return Fault(mark.line + 1, mark.column + 1, dotted(path), message, self.name)


class _Sizes:
    """How many nodes a node has once its aliases are written out; refuses one that contains itself."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}

    def of(self, node: Node) -> int:
        if (size := self.known.get(id(node))) is not None:
            return size
        self.known[id(node)] = MAX_NODES + 1  # what a node that contains itself will find
        children = node.value if isinstance(node, SequenceNode) else ()
        if isinstance(node, MappingNode):
            children = [part for pair in node.value for part in pair]
        size = self.known[id(node)] = 1 + sum(map(self.of, children))
        return size


class Unusual(Exception):
    """A node that is not just text, numbers, lists, and mappings whose keys are text and there once."""


UNUSUAL = (Unusual, yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError)


def plain_data(loader: Any, node: Node) -> Any:
    """What PyYAML makes of a node without aliases, four times faster. Raises one of UNUSUAL if it may be wrong."""
    if isinstance(node, ScalarNode):
        return node.value if node.tag == STR else loader.construct_object(node)
    if isinstance(node, MappingNode) and node.tag == "tag:yaml.org,2002:map":
        data = {key.value: plain_data(loader, value) for key, value in node.value if key.tag == STR}
        if len(data) == len(node.value):
            return data
    elif isinstance(node, SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [plain_data(loader, item) for item in node.value]
    raise Unusual


def walk(root: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Every node of the tree but keys, once, with its path."""
    waiting: list[tuple[Node, tuple[str, ...]]] = [(root, ())]
    seen: set[int] = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, path
        if isinstance(node, MappingNode):
            waiting += [(value, (*path, str(key.value))) for key, value in node.value]
        elif isinstance(node, SequenceNode):
            waiting += [(item, (*path, str(i))) for i, item in enumerate(node.value)]


def why_unreadable(node: Node) -> str | None:
    try:
        if isinstance(node, ScalarNode):
            Loader("").construct_document(node)
    except Exception as error:
        return str(error)
    return None


def find(root: Node, path: tuple[str, ...]) -> Node:
    """What a fault at `path` points at: a scalar itself, the key of anything larger, else the nearest above."""
    node = best = key = root
    for part in path:
        if part == "[key]":
            return key
        step = child(node, part)
        if step is None:
            break
        key, node = step
        best = node if isinstance(node, ScalarNode) and node.value else key
    return best


def child(node: Node, part: str) -> tuple[Node, Node] | None:
    """The key and the value called `part`; an item of a sequence is its own key. The last of equals is in force."""
    if isinstance(node, MappingNode):
        return next(((k, v) for k, v in reversed(node.value) if k.value == part), None)
    if isinstance(node, SequenceNode) and part.isdigit() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)]
    return None
