"""Numbers and names as English says them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def word(number: int) -> str:
    return WORDS[number] if number < len(WORDS) else f"{number:,}"


def is_are(number: int) -> str:
    return "is" if number == 1 else "are"


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{word(number)} times")


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "nothing"


def ago(seconds: float) -> str:
    if seconds < 90:
        return f"{max(0, seconds):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"


def sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def pasted(name: str) -> str:
    """A name as an argument of a command that a person pastes into a shell."""
    return f"{'-- ' if name.startswith('-') else ''}{shlex.quote(name)}"
