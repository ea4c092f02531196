"""Who changed the file, and by which way. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

FILE, API, CLI, GIT, ROLLBACK = "file", "api", "cli", "git", "rollback"
MAX_NAME = 200  # characters of what a caller calls itself


@dataclass(frozen=True)
class Origin:
    """`by` is "name" or "name <mail>", as far as anybody said it; `via` one of the ways above.

    `text`: what was done, where the change itself does not tell it.
    """

    via: str
    by: str | None = None
    text: str | None = None

    @property
    def name(self) -> str | None:
        """The name alone, as git takes it."""
        return (self.by or "").split("<")[0].strip() or self.mail

    @property
    def mail(self) -> str | None:
        found = re.search(r"<([^<>]+)>", self.by or "")
        return found[1].strip() if found else None


def named(text: str) -> str | None:
    """What a caller calls itself, as one printable line of bounded length; None if nothing is left of it."""
    line = "".join(c if c.isprintable() else " " for c in text[:MAX_NAME])
    return " ".join(line.split()) or None
