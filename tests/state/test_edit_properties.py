"""What holds for every edit, tried on texts no one would write by hand.

Each text is drawn line by line, in every style YAML has, and each comment in it names the entry it belongs to. So the
test knows which comments may go, and an independent reader (PyYAML's own, in pure Python) knows which data must stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from state.edit import EditRefused, remove, set_value

Pick = Callable[[Sequence[Any]], Any]
Path = tuple[str, ...]

KEYS = ("a", "b", "c d", "orders.dead", "on", "007", "é😀", "x" * 140, "~", "a: b", "#h", "it's", '"', "<<")
PLAIN_KEYS = ("a", "b", "c d", "orders.dead", "queue-1", "é😀", "x" * 140)
SCALARS = (
    "1", "text", "two words", "5m", "1.50", "true", "null", "~", "''", "'a''b'", '"a\\tb"', '"it\'s # no"', "a#b",
    "0x1f", "'1'", ".inf", "2024-01-01", "http://h:1/p?q=a,b", '"order.*"', "é😀",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    5, "new", "7", "", " lead", "trail ", "a: b", "a #b", "- a", "on", "1.10", "~", None, True, 2.5, float("inf"),
    "é😀", "two\nlines\n",
    "tab\there", "bell\x07", "\u2028", "[x", "a, b", "{", "%x", "@x", "`x", "&x", "*x", "!x", "|", ">",
    "x" * 255, "'q'", '"q"', "---", "...", "=", "<<", "2024-01-01", "1e3", "0o7", "y",
    {}, [], {"k": 1}, {"k": {"on": [1, 2]}}, [1, "a, b"], [{"a": 1}, {"b": {"c": [1]}}], {"x" * 200: {"~": None}}, [[]],
)  # fmt: skip


class Writer:
    """Writes one text, choice by choice. `kind` leaves out what edits must refuse, or puts in more of it."""

    def __init__(self, pick: Pick, kind: str) -> None:
        self.pick = pick
        self.kind = kind
        self.anchors: list[str] = []
        self.lines: list[str] = []

    def chance(self, one_in: int) -> bool:
        return bool(self.pick((False,) * (one_in - 1) + (True,)))

    def text(self) -> str:
        self.head()
        if self.kind == "flow":
            self.lines.append(self.flow((), 0, 0))
        else:
            self.mapping((), 0, 0)
        if self.chance(4):
            self.lines += ["", "# tail"]
        eol = self.pick(("\n", "\n", "\r\n"))
        end = self.pick((eol, eol, ""))
        return self.pick(("", "", "\ufeff")) + "\n".join(self.lines).replace("\n", eol) + end

    def head(self) -> None:
        if self.chance(3):
            self.lines += ["# heading", *[""] * self.pick((0, 1, 2))]
        if self.chance(8):
            self.lines += ["---"]

    def keys(self, depth: int) -> list[str]:
        count = self.pick((1, 2, 3, 4) if depth < 2 else (1, 2))
        return list(dict.fromkeys(self.pick(KEYS if self.chance(4) else PLAIN_KEYS) for _ in range(count)))

    def key(self, name: str) -> str:
        plain = name in PLAIN_KEYS
        style = self.pick(("", "", "'", '"') if plain else ("'", '"'))
        if style == "'":
            return "'" + name.replace("'", "''") + "'"
        return '"' + name.replace('"', '\\"') + '"' if style else name

    def mapping(self, path: Path, depth: int, column: int, first: str = "") -> None:
        pad, apart = " " * column, self.chance(4)
        for at, name in enumerate(self.keys(depth)):
            entry = (*path, name)
            if at and apart:
                self.lines.append("")
            if not (at == 0 and first):
                self.above(path, entry, pad)
            lead = first if at == 0 and first else pad
            self.entry(entry, depth, column, lead + self.key(name) + ":")
            indentless = self.lines[-1].startswith(f"{pad}- ")  # what is deeper below it belongs to its last item
            if self.chance(8) and self.lines[-1].strip() and not indentless:
                self.lines.append(f"{pad} # of {'/'.join(entry)}")
        if self.kind in ("alias", "odd") and self.anchors and self.chance(4):
            self.lines.append(f"{pad}<<: *{self.pick(self.anchors)}")

    def above(self, path: Path, entry: Path, pad: str) -> None:
        if self.chance(8):
            self.lines += [f"{pad}# of {'/'.join(path)}", ""]
        if self.chance(6):
            top = not any(line.strip() and not line.startswith(("#", "---")) for line in self.lines)
            heading = top and not any(line.startswith("#") for line in self.lines)
            self.lines += [f"{pad}# of {'/'.join(() if heading else entry)}"] * self.pick((1, 2))

    def entry(self, path: Path, depth: int, column: int, head: str) -> None:
        kinds = ["scalar", "scalar", "flow", "null", "block scalar", "multiline"]
        kinds += ["mapping", "mapping", "sequence"] if depth < 3 else []
        kinds += ["alias"] if self.kind in ("alias", "odd") and self.anchors else []
        kind = self.pick(kinds)
        if kind == "alias":
            self.lines.append(f"{head} *{self.pick(self.anchors)}{self.trailing(path)}")
            return
        anchored: list[str] = []
        if self.kind in ("alias", "odd") and self.chance(3):
            anchored = [f"n{len(self.anchors) + sum('&' in line for line in self.lines)}"]
            head += f" &{anchored[0]}"
        self.value(kind, path, depth, column, head)
        self.anchors += anchored

    def value(self, kind: str, path: Path, depth: int, column: int, head: str) -> None:
        pad, step = " " * column, self.pick((2, 2, 4, 1, 3))
        match kind:
            case "scalar":
                self.lines.append(f"{head} {self.pick(SCALARS)}{self.trailing(path)}")
            case "flow":
                self.lines.append(f"{head} {self.flow(path, depth, column + step)}{self.trailing(path)}")
            case "null":
                self.lines.append(f"{head}{self.trailing(path)}")
            case "block scalar":
                style = self.pick(("|", ">", "|-", "|2", *(("|+", ">+") if self.kind == "odd" else ())))
                blank = [""] if self.chance(3) else []
                self.lines += [
                    f"{head} {style}{self.trailing(path)}",
                    f"{pad}  text # no",
                    *blank,
                    f"{pad}  more",
                    *blank,
                ]
            case "multiline":
                quote = self.pick(('"', "'", ""))
                self.lines += [f"{head} {quote}one", f"{pad}  two{quote}{self.trailing(path)}"]
            case "mapping":
                self.lines.append(f"{head}{self.trailing(path)}")
                self.mapping(path, depth + 1, column + step)
            case "sequence":
                self.lines.append(f"{head}{self.trailing(path)}")
                self.sequence(path, depth + 1, column + self.pick((0, step)))

    def sequence(self, path: Path, depth: int, column: int) -> None:
        dash = " " * column + "- "
        for at in range(self.pick((1, 2, 3))):
            item = (*path, str(at))
            match self.pick(("scalar", "flow", "mapping")):
                case "scalar":
                    self.lines.append(f"{dash}{self.pick(SCALARS)}{self.trailing(item)}")
                case "flow":
                    self.lines.append(f"{dash}{self.flow(item, depth, column + 2)}{self.trailing(item)}")
                case "mapping":
                    self.mapping(item, depth + 1, column + 2, first=dash)

    def flow(self, path: Path, depth: int, column: int) -> str:
        if self.chance(4):
            return "{}"
        if depth > 1 and self.chance(3):
            return f"[{', '.join(self.pick(SCALARS[:8]) for _ in range(self.pick((0, 1, 3))))}]"
        entries = [(name, self.flow_entry((*path, name), depth, column)) for name in self.keys(depth)]
        if self.chance(3) and self.kind != "block":
            return self.flow_lines(path, entries, column)
        space = self.pick((" ", "", " "))
        return "{" + space + ", ".join(entry for _, entry in entries) + self.pick(("", "", ",")) + space + "}"

    def flow_entry(self, path: Path, depth: int, column: int) -> str:
        key = self.key(path[-1])
        if self.chance(8):
            return f"{key}: "
        nested = depth < 3 and self.chance(3)
        plain = [scalar for scalar in SCALARS if "," not in scalar]
        return f"{key}: {self.flow(path, depth + 1, column + 2) if nested else self.pick(plain)}"

    def flow_lines(self, path: Path, entries: list[tuple[str, str]], column: int) -> str:
        pad, comma, lines = " " * (column + 2), self.pick(("", ",")), ["{"]
        for at, (name, entry) in enumerate(entries):
            last = at == len(entries) - 1
            lines.append(f"{pad}{entry}{comma if last else ','}{self.trailing((*path, name))}")
        closing = self.pick((True, True, False)) or "#" in lines[-1]
        return "\n".join([*lines, " " * (column + 1) + "}"]) if closing else "\n".join(lines) + "}"

    def trailing(self, path: Path) -> str:
        return f"  # of {'/'.join(path)}" if self.chance(5) else ""


def write(pick: Pick, kind: str) -> str:
    writer = Writer(pick, kind)
    return writer.text()


def paths(data: Any, before: Path = ()) -> list[Path]:
    if len(before) > 6:
        return []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    found: list[Path] = []
    for key, value in items:
        here = (*before, str(key))
        found += [here, *paths(value, here)]
    return found


def read_raw(text: str) -> Any:
    return yaml.load(text, Loader=yaml.SafeLoader)


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


GONE = object()


def comments(text: str) -> list[str]:
    return [line[line.rindex("# of") :] for line in text.splitlines() if "# of" in line]


def owned(comment: str, path: Path) -> bool:
    return comment.removeprefix("# of ").split("/")[: len(path)] == list(path)


@st.composite
def texts(draw: st.DrawFn, kind: str) -> tuple[str, Any]:
    text = write(lambda options: draw(st.sampled_from(options)), kind)
    try:
        return text, read(text)
    except (yaml.YAMLError, ValueError, TypeError):
        assume(False)
        raise


def choose(pick: Pick, data: Any) -> Path:
    """A path that is there, or one that is not, or one that is only partly there."""
    path: Path = pick([(), *paths(data)])
    new: Path = pick(((), (), ("new",), ("on", "~"), ("new", "x" * 200, "z"), ("0",), ("1",), ("2", "k")))
    return (*path, *new) or ("new",)


def changed_lines(text: str, result: str) -> tuple[int, int]:
    """How many lines of the old text are gone, and how many of the new one were not there."""
    before, after = (whole.removeprefix("\ufeff").splitlines() for whole in (text, result))
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    same = sum(block.size for block in blocks)
    return len(before) - same, len(after) - same


def check_text(text: str, result: str, path: Path) -> None:
    """The comments of other entries, the byte order mark and the line endings are still there."""
    kept = [comment for comment in comments(text) if not owned(comment, path)]
    assert [comment for comment in comments(result) if not owned(comment, path)] == kept
    assert result.startswith("\ufeff") == text.startswith("\ufeff")
    assert ("\r" in result) <= ("\r" in text)
    assert "\r\n" not in text or "\n" not in result.replace("\r\n", "")


def check_set(text: str, path: Path, value: Any) -> str:
    result = set_value(text, path, value)
    old, wanted = read(text), put(read(text), path, plain(value))
    assert read(result) == wanted
    assert (result == text) == (old == wanted)
    check_text(text, result, path)
    gone, _ = changed_lines(text, result)
    if path not in paths(read_raw(text)):
        assert gone <= 2
        assert comments(result) == comments(text)
    return result


def check_remove(text: str, path: Path) -> str:
    result = remove(text, path)
    assert read(result) == put(read(text), path, GONE)
    check_text(text, result, path)
    _, new = changed_lines(text, result)
    assert new <= 2
    return result


# what an edit says no to in texts without anchors
EXPECTED = ("this is a", "nothing to remove", "has no line break")

KINDS = pytest.mark.parametrize("kind", ["block", "flow", "mixed", "alias", "odd"])
TRY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def attempt(kind: str, edit: Callable[..., str], *args: Any) -> str | None:
    """The result of an edit; None if it was refused with good reason."""
    try:
        return edit(*args)
    except EditRefused as refused:
        message = str(refused)
    assert kind in ("alias", "odd") or any(reason in message for reason in EXPECTED)
    return None


@KINDS
@TRY
@given(st.data())
def test_setting_changes_one_value_and_nothing_else(kind: str, data: st.DataObject) -> None:
    text, old = data.draw(texts(kind))
    path = choose(lambda options: data.draw(st.sampled_from(options)), old)
    attempt(kind, check_set, text, path, data.draw(st.sampled_from(VALUES)))


@KINDS
@TRY
@given(st.data())
def test_removing_takes_one_entry_and_nothing_else(kind: str, data: st.DataObject) -> None:
    text, old = data.draw(texts(kind))
    attempt(kind, check_remove, text, data.draw(st.sampled_from(paths(old) or [("new",)])))


@KINDS
@TRY
@given(st.data())
def test_setting_and_removing_gives_the_data_back(kind: str, data: st.DataObject) -> None:
    text, old = data.draw(texts(kind))
    path = (*data.draw(st.sampled_from([(), *paths(old)])), "fresh")
    added = attempt(kind, check_set, text, path, data.draw(st.sampled_from(VALUES)))
    if added is not None:
        assert read(check_remove(added, path)) == put(put(read(text), path, None), path, GONE)


TOKENS = (
    "a", "b", "on", "1", " ", "  ", "\n", "\n  ", "\n- ", ":", ": ", ",", "{", "}", "[", "]", "- ", "? ", "&x ", "*x",
    "<<: ", "!!str ", "!!set ", "!!int ", "!t ", "|\n", ">+\n", "#", " # ", '"', "'", "---\n", "...\n", "%", "\t", "\r",
    "\x85", "\u2028", "\ufeff", "\x00", "\ud800", "2024-99-99", "=", "é",
)  # fmt: skip


@settings(TRY, max_examples=400)
@given(st.lists(st.sampled_from(TOKENS), max_size=25).map("".join), st.sampled_from([("a",), ("a", "b"), ("0",), ()]))
def test_any_text_is_edited_or_refused(text: str, path: Path) -> None:
    for edit in (lambda: set_value(text, path, "new"), lambda: remove(text, path)):
        with suppress(EditRefused):
            edit()
