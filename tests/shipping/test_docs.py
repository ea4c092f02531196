"""docs/queues.md tells of every key of the file, and its examples are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from state.desired import Binding, Desired, Exchange, Pause, PolicyRule, Queue, Worker
from state.reader import parse

PAGE = (Path(__file__).parents[2] / "docs" / "queues.md").read_text()
LISTED = (Queue, Worker, Exchange, Binding, PolicyRule)


@pytest.mark.parametrize("key", [key for kind in LISTED for key in kind.model_fields])
def test_every_key_has_a_line_of_a_table(key: str) -> None:
    assert re.search(rf"^\| `{key}` \|", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("key", [*Desired.model_fields, *Pause.model_fields])
def test_the_others_are_told_of(key: str) -> None:
    assert re.search(rf"\b{key}\b", PAGE)


def test_its_file_is_valid() -> None:
    example = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL) if "paused" in text)
    assert parse(f"version: 1\n{example}".encode()).queues["emails"].paused


def test_the_example_of_the_topology_is_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "topology.md").read_text()
    example = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)[0]
    assert len(parse(example.encode()).all_bindings()) == 3
