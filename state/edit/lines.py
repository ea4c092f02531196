"""A text by lines, as YAML 1.1 breaks them: the ground that `nodes` and `layout` stand on."""

from __future__ import annotations

import re
from bisect import bisect_right

BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


class Lines:
    """The lines of a text, by number from 0; an index counts characters into the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        breaks = [match.span() for match in BREAK.finditer(text)]
        self._starts = [0, *(end for _, end in breaks)]
        self._ends = [*(start for start, _ in breaks), len(text)]
        if breaks and self._starts[-1] == len(text):
            del self._starts[-1], self._ends[-1]

    def __len__(self) -> int:
        return len(self._starts)

    def number(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def start(self, number: int) -> int:
        return self._starts[number] if number < len(self) else len(self._text)

    def end(self, number: int) -> int:
        """Where the line ends, before its line break."""
        return self._ends[number] if number < len(self) else len(self._text)

    def column(self, index: int) -> int:
        return index - self._starts[self.number(index)]

    def content(self, number: int) -> str:
        return self._text[self.start(number) : self.end(number)]

    def blank(self, number: int) -> bool:
        return not self.content(number).strip(" \t")

    def comment(self, number: int) -> int | None:
        """The column of the `#` if the line holds nothing but a comment."""
        content = self.content(number)
        bare = content.lstrip(" \t")
        return len(content) - len(bare) if bare.startswith("#") else None

    def eol(self, number: int) -> str:
        """The line break in use at this line."""
        for near in (number, number - 1):
            eol = self._text[self.end(near) : self.start(near + 1)] if 0 <= near < len(self) else ""
            if eol in ("\n", "\r\n", "\r"):
                return eol
        return "\n"
