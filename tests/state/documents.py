"""YAML texts that nobody would write by hand: in every style there is, drawn line by line from a seed.

Each comment names the entry that it belongs to, so that who reads only the comments knows which ones an edit may take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Pick = Callable[[Sequence[Any]], Any]
Path = tuple[str, ...]

KINDS = ("block", "flow", "mixed", "alias", "odd", "bare")

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


def document(seed: int, kind: str) -> str:
    """One text. The kinds "block" and "flow" keep to one style, "alias" has anchors, aliases and merges, "odd" has what
    edits must refuse now and then, "bare" next to nothing.
    """
    rng = Random(f"{seed} {kind}")
    return bare(rng.choice) if kind == "bare" else Writer(rng.choice, kind).text()


BARE = (
    "", "# of \n", "# of \n# of ", "{}", "{ }  # of \n", "---\n", "--- # of \n", "---\n# of \n...\n", "\n\n", "a:\n",
    "a:  # of a\n", "# of \na: {}\n", "a: {}  # of a\n# of ", "a: []\nb: ~  # of b", "{a: }", "%YAML 1.1\n---\n",
    "# of \n\n{}\n# of \n", "a: null # of a\n", "[]\n", "- \n", "a: &x {}\nb: *x\n",
)  # fmt: skip


def bare(pick: Pick) -> str:
    text = str(pick(BARE)).replace("\n", pick(("\n", "\n", "\r\n")))
    return str(pick(("", "", "\ufeff"))) + text


class Writer:
    """Writes one text, choice by choice."""

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
        if self.kind == "odd" and name in PLAIN_KEYS and self.chance(30):
            return str(self.pick((f"!!str {name}", f"&k{len(self.lines)} {name}", f"? {name}\n")))
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
            lead, begun = first if at == 0 and first else pad, len(self.lines)
            self.entry(entry, depth, column, lead + self.key(name) + ":")
            begun += at == 0 and bool(first)
            # a comment that is deeper than the dashes of a list in the column of its key belongs to the last item
            indentless = any(line.startswith(f"{pad}-") for line in self.lines[begun:])
            if self.chance(8) and self.lines[-1].strip() and not indentless:
                self.lines.append(f"{pad} # of {'/'.join(entry)}")
        if self.kind in ("alias", "odd") and self.anchors and self.chance(4):
            self.lines.append(f"{pad}<<: *{self.pick(self.anchors)}")

    def above(self, path: Path, entry: Path, pad: str) -> None:
        if self.chance(8):
            self.lines += [f"{pad}# of {'/'.join(path)}", ""]
        if self.chance(6):
            top = not any(line.strip() and not line.startswith(("#", "---")) for line in self.lines)
            comments = [line.startswith("#") for line in self.lines]
            heading = top and (not any(comments) or comments[-1])
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
                tag = self.pick(("!!str ", "!!int ", "! ")) if self.kind == "odd" and self.chance(12) else ""
                self.lines.append(f"{head} {tag}{self.pick(SCALARS)}{self.trailing(path)}")
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
            if at and self.chance(8):
                self.lines.append("")
            if at and self.chance(6):
                self.lines.append(f"{' ' * column}# of {'/'.join(item)}")
            match self.pick(("scalar", "flow", "mapping", "empty" if self.chance(4) else "sequence")):
                case "scalar":
                    self.lines.append(f"{dash}{self.item_anchor()}{self.pick(SCALARS)}{self.trailing(item)}")
                case "empty":
                    self.lines.append(f"{dash}{self.trailing(item)}".rstrip(" "))
                case "sequence":
                    self.lines.append(f"{dash}- {self.pick(SCALARS)}{self.trailing((*item, '0'))}")
                    self.lines.append(f"{' ' * column}  - {self.flow((*item, '1'), depth + 1, column + 4)}")
                case "flow":
                    self.lines.append(f"{dash}{self.flow(item, depth, column + 2)}{self.trailing(item)}")
                case "mapping":
                    self.mapping(item, depth + 1, column + 2, first=dash)

    def item_anchor(self) -> str:
        if self.kind not in ("alias", "odd") or not self.chance(6):
            return ""
        name = f"n{len(self.anchors) + sum('&' in line for line in self.lines)}"
        self.anchors.append(name)
        return f"&{name} "

    def flow(self, path: Path, depth: int, column: int) -> str:
        if self.chance(4):
            return "{}"
        if depth > 1 and self.chance(3):
            items = [self.pick(SCALARS[:8]) for _ in range(self.pick((0, 1, 3)))]
            if items and self.chance(3) and self.kind != "block":
                return self.flow_lines(path, [(str(at), item) for at, item in enumerate(items)], column, "[]")
            return f"[{', '.join(items)}]"
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

    def flow_lines(self, path: Path, entries: list[tuple[str, str]], column: int, braces: str = "{}") -> str:
        pad, comma, lines = " " * (column + 2), self.pick(("", ",")), [braces[0]]
        for at, (name, entry) in enumerate(entries):
            last = at == len(entries) - 1
            lines.append(f"{pad}{entry}{comma if last else ','}{self.trailing((*path, name))}")
        closing = self.pick((True, True, False)) or "#" in lines[-1]
        return "\n".join([*lines, " " * (column + 1) + braces[1]]) if closing else "\n".join(lines) + braces[1]

    def trailing(self, path: Path) -> str:
        return f"{self.pick(('  ', '  ', ' ', '      '))}# of {'/'.join(path)}" if self.chance(5) else ""
