"""`python -m bench.topology`: ten thousand queues from one file, beside what people use without us, in one run.

Each measurement has a virtual host of its own on one private RabbitMQ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from tests.nodes import TestNode, TestVhost

from . import edits, ours, peers


@dataclass(frozen=True)
class Row:
    """One measurement. `limit` is what issue 4 asks for: at most that much, or that many times the peer's speed."""

    what: str
    unit: str
    ours: float
    peers: dict[str, float]
    limit: str = ""

    @property
    def ratios(self) -> dict[str, float]:
        return {name: took / self.ours for name, took in self.peers.items()}


class Bench:
    def __init__(self, options: argparse.Namespace, node: TestNode, folder: Path) -> None:
        self.options, self.node, self.folder = options, node, folder
        self._made = 0

    @contextmanager
    def vhost(self) -> Iterator[TestVhost]:
        self._made += 1
        made = self.node.make_vhost(f"bench-{self._made}")
        yield made
        with self.node.api() as api, suppress(httpx.RemoteProtocolError):  # RabbitMQ closes what takes over a minute
            api.delete(f"/api/vhosts/{made.name}", timeout=900)

    def run(self) -> Iterator[Row]:
        many, names = self.options.queues, peers.names_of(self.options.queues)
        with self.vhost() as theirs:
            one_by_one = said("pika, one by one", peers.timed(lambda: peers.declare_one_by_one(theirs, names)))
            again = said("pika, again", peers.timed(lambda: peers.declare_one_by_one(theirs, names)))
            passive = said("passive", peers.timed(lambda: peers.declare_one_by_one(theirs, names, passive=True)))
        with self.vhost() as theirs:
            imported = said("definitions", peers.timed(lambda: peers.import_definitions(theirs, names)))
        with self.vhost() as mine:
            system = ours.site(self.folder / "many", mine, ours.file_of(many))
            planned = said("plan", ours.timed(system, "plan", status=2))
            applied = said("apply", ours.timed(system, "apply", "--yes"))
            unchanged = said("apply again", ours.timed(system, "apply", "--yes"))
            known = {"pika, one by one": one_by_one, "POST definitions": imported}
            yield Row(f"{many:,} queues declared, s", "s", applied, known, "3 × pika")
            yield Row("again, nothing to do, s", "s", unchanged, {"pika, one by one": again})
            yield Row(f"plan of {many:,} queues, s", "s", planned, {"passive, one by one": passive}, "3 s")
            yield from self.idle(system, mine)
        for count in self.options.files:
            yield from self.edits(count)

    def idle(self, system: ours.System, vhost: TestVhost) -> Iterator[Row]:
        system.start()
        try:
            system.settled(within=120)
            turn = statistics.median(ours.turn_seconds(system) for _ in range(self.options.turns))
            known = {
                "GET /api/queues": peers.timed(lambda: peers.list_all(vhost)),
                "rabbitmqctl list_queues": peers.timed(lambda: peers.list_with_ctl(vhost)),
            }
            yield Row("a turn with nothing to do, s", "s", said("idle turn", turn), known, "1 s")
            share = said("idle share", ours.idle_share(system, self.options.idle))
            yield Row("idle at a resync of 30 s, % of a core", "%", share, {}, "5 %")
        finally:
            system.stop()

    def edits(self, count: int) -> Iterator[Row]:
        with self.vhost() as theirs:
            names = peers.names_of(count)
            peers.import_definitions(theirs, names)
            known = {
                "POST definitions": 1000 * peers.timed(lambda: peers.import_definitions(theirs, [*names, "one"])),
                "pika, one by one": 1000 * peers.timed(lambda: peers.declare_one_by_one(theirs, [*names, "two"])),
            }
        for how, save in edits.SAVES.items():
            with self.vhost() as mine:
                text = ours.file_of(count)
                system = ours.site(self.folder / f"{count} {how}", mine, text)
                system.start()
                try:
                    system.settled(within=120)
                    found = [1000 * s for s in edits.latencies(system, mine, text, save, self.options.edits)]
                finally:
                    system.stop()
                limit = "100 ms" if count <= 50 else "1000 ms"
                what = f"a line more in {count:,}, saved {how}, ms"
                yield Row(what, "ms", said(what, statistics.median(found)), known, limit)


def said(what: str, number: float) -> float:
    print(f"{what}: {number:.3f}", file=sys.stderr, flush=True)
    return number


def main() -> int:
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="topology-"))
    node = TestNode(folder / "broker")
    try:
        node.start()
        report(list(Bench(options, node, folder).run()), options)
    finally:
        node.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.topology", description=__doc__)
    parser.add_argument("--queues", type=int, default=10_000, metavar="N")
    parser.add_argument("--files", type=lambda text: [int(n) for n in text.split(",")], default=[50, 2000])
    parser.add_argument("--edits", type=int, default=9, metavar="N", help="of each file, each way")
    parser.add_argument("--turns", type=int, default=5, metavar="N")
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--markdown", action="store_true", help="the table as docs/performance.md has it")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def report(rows: list[Row], options: argparse.Namespace) -> None:
    if options.json:
        print(
            json.dumps(
                {"cores": len(os.sched_getaffinity(0)), "rows": [asdict(row) | {"ratios": row.ratios} for row in rows]}
            )
        )
        return
    cells = [[row.what, f"{row.ours:,.3g}", row.limit, shown(row)] for row in rows]
    titles = ["", "reconciler", "at most", "peers (× ours)"]
    if options.markdown:
        print("\n".join("| " + " | ".join(line) + " |" for line in [titles, ["---", "---:", "---", "---"], *cells]))
        return
    table = Table(*titles)
    for line in cells:
        table.add_row(*line)
    Console(width=max(120, Console().width)).print(table)


def shown(row: Row) -> str:
    return "; ".join(f"{name} {took:,.3g} (× {row.ratios[name]:,.2g})" for name, took in row.peers.items())


if __name__ == "__main__":
    sys.exit(main())
