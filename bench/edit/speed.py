"""One value of a large file changed: by us with the check, in a whole write, and by ruamel.yaml's load and dump."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import yaml
from ruamel.yaml import YAML

from state.edit import remove, set_value
from state.file import DesiredFile
from state.reader import parse

PEER = "ruamel.yaml: load, set, dump"
HEAD = "# The queues of everybody.\nversion: 1\n\nqueues:\n"
QUEUE = """\
  # team {n}
  queue-{n:05}:
    type: quorum
    arguments: {{x-max-length: {n}}}  # bound
    workers:
      send_email:
        count: 5
"""


def large_file(queues: int) -> str:
    return HEAD + "".join(QUEUE.format(n=n) for n in range(queues))


Way = Callable[[], Callable[[], object]]  # prepares a round and returns what is to be timed


def measure(queues: int, rounds: int) -> str:
    """A table of what each takes: medians of rounds that are interleaved, in seconds of wall time."""
    text = large_file(queues)
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(text, queues, Path(folder) / "queues.yaml")
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, prepare in ways.items():
                way = prepare()
                begun = time.perf_counter()
                way()
                took[name].append(time.perf_counter() - begun)
    return table({name: median(seconds) for name, seconds in took.items()}, text)


def ways_of(text: str, queues: int, path: Path) -> dict[str, Way]:
    queue, numbers, fresh = f"queue-{queues // 2:05}", count(6), count()
    where = ("queues", queue, "workers", "send_email", "count")
    path.write_text(text)
    file = DesiredFile(path)

    def anew() -> str:
        """A text that nobody has seen yet: what was read before is remembered, and must not count."""
        return f"{text}# {next(fresh)}\n"

    def by_ruamel(given: str) -> None:
        reader = YAML()
        reader.preserve_quotes = True
        data = reader.load(given)
        data["queues"][queue]["workers"]["send_email"]["count"] = next(numbers)
        reader.dump(data, io.StringIO())

    def whole_write() -> Callable[[], object]:
        parse(path.read_bytes(), path.name)  # the daemon has what is in force
        return partial(file.edit, lambda text: set_value(text, where, next(numbers)))

    return {
        PEER: lambda: partial(by_ruamel, anew()),
        "set a value, checked": lambda: partial(set_value, anew(), where, next(numbers)),
        "add a queue, checked": lambda: partial(set_value, anew(), ("queues", "new"), {"type": "quorum"}),
        "remove a queue, checked": lambda: partial(remove, anew(), ("queues", queue)),
        "validate the file": lambda: partial(parse, anew().encode()),
        "a whole write: read, edit, validate, sync, exchange": whole_write,
        "for comparison: PyYAML with libyaml reads it": lambda: partial(yaml.load, anew(), yaml.CSafeLoader),
    }


def table(seconds: dict[str, float], text: str) -> str:
    peer = seconds[PEER]
    lines = [f"{len(text.splitlines()):,} lines", "", "| | s | × ruamel.yaml |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {took:.3f} | {peer / took:.1f} |" for name, took in seconds.items()]
    return "\n".join([*lines, ""])
