"""Samples in, a table out: medians, and how many times better ours is than the best peer."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rich.table import Table

from .managers import OURS
from .rounds import Sample

FLOOR = 0.0005  # what is less counts as this in a ratio: no division by nothing
ROWS = {
    "start": "0 → {n} ready, s",
    "start cpu": "CPU that it took, s",
    "memory": "memory of {n} and what runs them (PSS), MiB",
    "daemon memory": "of it, what runs them, MiB",
    "back": "kill -9 one → ready again, s",
    "idle": "idle with {n}, % of a core",
    "stop": "{n} → 0, s",
    "light start": "light: 0 → {n} ready, s",
    "light start cpu": "light: CPU that it took, s",
    "light memory": "light: memory of {n} and what runs them, MiB",
    "light back": "light: kill -9 one → ready again, s",
    "light stop": "light: {n} → 0, s",
    "program start": "program: 0 → {n} ready, s",
    "program back": "program: kill -9 one → ready again, s",
    "program stop": "program: {n} → 0, s",
    "lines": "a worker writes {lines:,} lines: CPU of the daemon, s",
}
MANY = {
    "many start": "0 → {many} ready, s",
    "many memory": "memory of {many} and what runs them (PSS), MiB",
    "many daemon pss": "the daemon itself (PSS), MiB",
    "many daemon rss": "the daemon itself (RSS), MiB",
    "many adopted": "daemon killed: the next one has {many} in hand, s",
    "many adopted, imports apart": "of it, beyond Python's start and imports, s",
    "many stop": "{many} → 0, s",
}


def medians(samples: Sequence[Sample]) -> Sample:
    """By key, over the rounds in which it was measured."""
    keys = {key: None for sample in samples for key in sample}
    return {key: statistics.median(s[key] for s in samples if key in s) for key in keys}


def ratio(key: str, results: Mapping[str, Sample]) -> float | None:
    """The best peer's value by ours: above 1, ours is better. None without either."""
    peers = [sample[key] for name, sample in results.items() if name != OURS and key in sample]
    if not peers or key not in results.get(OURS, {}):
        return None
    return max(min(peers), FLOOR) / max(results[OURS][key], FLOOR)


Rows = list[list[str]]


def summary(results: Mapping[str, Sample], words: Mapping[str, int]) -> Rows:
    """All supervisors side by side, the names first."""
    rows = [["", *results, "× best peer"]]
    for key, text in ROWS.items():
        if any(key in sample for sample in results.values()):
            factor = ratio(key, results)
            cells = [shown(sample.get(key)) for sample in results.values()]
            rows.append([text.format(**words), *cells, f"{factor:.2f}" if factor else ""])
    return rows


def alone(sample: Sample, words: Mapping[str, int]) -> Rows:
    """What only the reconciler was asked to do."""
    return [["", OURS], *([text.format(**words), shown(sample.get(key))] for key, text in MANY.items())]


def pretty(rows: Rows, title: str) -> Table:
    """For a terminal."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if number else "left")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown(rows: Rows) -> str:
    """For docs/performance.md."""
    ruler = ["---"] + ["---:"] * (len(rows[0]) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ruler, *rows[1:]])


def shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
