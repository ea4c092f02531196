"""Whether an edit did what it was asked for and nothing else, judged by readers that have no part in making it.

The data is read by libyaml and PyYAML's own constructor, the comments by ruamel.yaml's scanner.
"""

from __future__ import annotations

from random import Random
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.scanner import RoundTripScanner

from state.edit import EditRefused, remove, set_value
from tests.state.documents import VALUES, Path, document

GONE = object()
BOM = "\ufeff"

# What an edit says no to in texts without anchors and oddities …
EXPECTED = ("this is a", "nothing to remove", "has no line break")
# … and what it says there of the way out.
WAYS_OUT = ("by hand", "nothing to remove", "repair it first", "cannot be written as YAML")


def try_edit(seed: int, kind: str) -> str:
    """Draws a text and an edit, and does it: "unread", "refused" or "done". Raises AssertionError if it is wrong."""
    text, rng = document(seed, kind), Random(seed)
    try:
        data = read(text)
    except (yaml.YAMLError, ValueError, TypeError, LookupError):  # what PyYAML's constructors raise
        return "unread"
    judge = rng.choice((judge_set, judge_set, judge_remove, judge_both))
    try:
        judge(text, data, rng)
    except EditRefused as refused:
        message = str(refused)
        assert any(way in message for way in WAYS_OUT), message
        assert kind in ("alias", "odd", "bare") or any(reason in message for reason in EXPECTED), message
        return "refused"
    return "done"


def judge_set(text: str, data: Any, rng: Random) -> None:
    path = choose(data, rng)
    check_set(text, path, rng.choice(VALUES))


def judge_remove(text: str, data: Any, rng: Random) -> None:
    check_remove(text, rng.choice(paths(data) or [("new",)]))


def judge_both(text: str, data: Any, rng: Random) -> None:
    """What was added and is removed leaves the data as it was, and a mapping that had entries each byte.

    But for one: `{a:}` becomes `{a: , b: 1}`, and then `{a: }`.
    """
    above = rng.choice([(), *paths(data)])
    path = (*above, "fresh")
    added = check_set(text, path, rng.choice(VALUES))
    result = check_remove(added, path)
    assert read(result) == put(put(data, path, None), path, GONE)
    had = at(data, above)
    if isinstance(had, dict) and had:
        assert result.replace(" ", "") == text.replace(" ", ""), "what had entries is as it was, byte for byte"


def choose(data: Any, rng: Random) -> Path:
    """A path that is there, or one that is not, or one that is only partly there."""
    path: Path = rng.choice([(), *paths(data)])
    new: Path = rng.choice(((), (), ("new",), ("on", "~"), ("new", "x" * 200, "z"), ("0",), ("1",), ("2", "k")))
    return (*path, *new) or ("new",)


def check_set(text: str, path: Path, value: Any) -> str:
    result = set_value(text, path, value)
    old, wanted = read(text), put(read(text), path, plain(value))
    assert read(result) == wanted
    assert (result == text) == (old == wanted)
    is_there = path in paths(read_raw(text))
    check_text(text, result, path if is_there else None)
    return result


def check_remove(text: str, path: Path) -> str:
    result = remove(text, path)
    assert read(result) == put(read(text), path, GONE)
    check_text(text, result, path)
    left = [comment for comment in comments(result) if owned(comment, path)]
    shifted = path[-1].isdigit()  # then the next item has its number now
    assert shifted or not left, left
    return result


def check_text(text: str, result: str, path: Path | None) -> None:
    """The comments of other entries, the other lines, the byte order mark and the line endings are as they were."""
    before, after = comments(text), comments(result)
    assert [c for c in before if path is None or not owned(c, path)] == [
        c for c in after if path is None or not owned(c, path)
    ]
    assert is_part(after, before)
    assert result.startswith(BOM) == text.startswith(BOM)
    assert ("\r" in result) <= ("\r" in text)
    assert "\r\n" not in text or "\n" not in result.replace("\r\n", "")
    if result != text:
        check_lines(text, result, path)


def check_lines(text: str, result: str, path: Path | None) -> None:
    """All lines but those of the entry are there byte for byte; one that is added touches two at most."""
    old, new = (whole.removeprefix(BOM).splitlines() for whole in (text, result))
    above, below = same_at_start(old, new), same_at_start(old[::-1], new[::-1])
    if path is None:
        assert len(old) - above - below <= 2, old[above : len(old) - below]
        return
    first, last = span(text, path)
    assert above >= first, (above, first, old[above])
    assert below >= len(old) - 1 - last, (below, last, old[len(old) - 1 - below])


def same_at_start(old: list[str], new: list[str]) -> int:
    return next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def span(text: str, path: Path) -> tuple[int, int]:
    """The first and last line that an edit of the entry may touch: its own, and blank lines and comments around it.

    Between braces also the neighbours', for their commas.
    """
    node: Any = yaml.compose(text.removeprefix(BOM), Loader=yaml.CSafeLoader)
    lines = text.removeprefix(BOM).splitlines()
    first, last, above = 0, len(lines), 0
    for part in path:
        entries = entries_of(node)
        names = [key.value if key is not child else str(at) for at, (key, child) in enumerate(entries)]
        at = names.index(part) if part in names else None
        if at is None:
            return first, last  # what an alias or a merge brings stands elsewhere
        key, child = entries[at]
        is_alias = child.start_mark.index < key.start_mark.index
        end = key.end_mark.line if is_alias else child.end_mark.line
        if is_alias and lines[end + 1 : end + 2] and lines[end + 1].lstrip().startswith(":"):  # `? key`, `: *alias`
            end += 1
        start, first, last = key.start_mark, key.start_mark.line, end
        if node.flow_style or len(entries) == 1:  # the commas of the neighbours; or `{}` behind the key above
            first, last = above, node.end_mark.line
        elif at == 0 and lines[start.line][: start.column].strip():  # behind a dash: the next one moves up
            last = max(last, entries[1][0].start_mark.line)
        above, node = start.line, child
    while first > 0 and is_bare(lines[first - 1]):
        first -= 1
    while last + 1 < len(lines) and is_bare(lines[last + 1]):
        last += 1
    return first, last


def entries_of(node: Any) -> list[tuple[Any, Any]]:
    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    return [(item, item) for item in node.value] if isinstance(node, yaml.SequenceNode) else []


def is_bare(line: str) -> bool:
    return not line.strip() or line.strip().startswith("#")


def is_part(some: list[str], whole: list[str]) -> bool:
    """Whether these are in that list, in its order."""
    rest = iter(whole)
    return all(item in rest for item in some)


# -- the readers -------------------------------------------------------------------------------------------------


class Listening(RoundTripScanner):
    """ruamel.yaml's scanner, which keeps the comments that it comes by."""

    def __init__(self, loader: Any = None) -> None:
        self.heard: list[str] = []
        super().__init__(loader)

    def scan_to_next_token(self) -> Any:
        found = super().scan_to_next_token()
        if found is not None:
            self.heard.append(found[0])
        return found

    def scan_block_scalar_ignored_line(self, start_mark: Any) -> Any:
        found = super().scan_block_scalar_ignored_line(start_mark)
        if found is not None:
            self.heard.append(found)
        return found


def comments(text: str) -> list[str]:
    """The comments of a text in their order, byte for byte, as ruamel.yaml finds them."""
    reader = YAML(pure=True)
    reader.Scanner = Listening
    for _ in reader.scan(text):
        pass
    return [heard.strip() for heard in reader.scanner.heard if heard.strip()]


def owned(comment: str, path: Path) -> bool:
    return comment.removeprefix("# of ").split("/")[: len(path)] == list(path)


def read_raw(text: str) -> Any:
    return yaml.load(text.removeprefix(BOM), Loader=yaml.CSafeLoader)


def read(text: str) -> Any:
    return plain(read_raw(text))


def plain(data: Any) -> Any:
    """Copied so that nothing is shared, with types told apart: True is not 1, and .nan is itself."""
    if isinstance(data, dict):
        return {key: plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list) else (type(data).__name__, repr(data))


def put(data: Any, path: Path, value: Any) -> Any:
    """The data with the value at the path; GONE takes the entry out."""
    if not path:
        return value
    if isinstance(data, list):
        items = [put(item, path[1:], value) if str(at) == path[0] else item for at, item in enumerate(data)]
        items += [put({}, path[1:], value)] if path[0] == str(len(data)) else []
        return [item for item in items if item is not GONE]
    data = {} if data == plain(None) else dict(data)
    data[path[0]] = put(data.get(path[0], {}), path[1:], value)
    return {key: item for key, item in data.items() if item is not GONE}


def at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[int(part) if isinstance(data, list) else part]
    return data


def paths(data: Any, before: Path = ()) -> list[Path]:
    if len(before) > 6:
        return []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found: list[Path] = []
    for key, value in items:
        here = (*before, str(key))
        found += [here, *paths(value, here)]
    return found
