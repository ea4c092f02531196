"""One thing that the broker will not do as the file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from state.faults import dotted

Path = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """`path` is as `state.reader.locate` takes it."""

    severity: Literal["error", "warning"]  # the broker will refuse it; it will do something else
    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}"


def refused(path: Path, message: str) -> Finding:
    return Finding("error", path, message)


def otherwise(path: Path, message: str) -> Finding:
    return Finding("warning", path, message)
