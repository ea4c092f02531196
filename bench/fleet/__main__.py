"""`python -m bench.fleet`: every supervisor in turn, round after round, and a table of what came of it."""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
from rich.console import Console

from reconciler.broker.embedded import EmbeddedBroker

from . import install, jobs, many, rounds, table
from .managers import MANAGERS, OURS
from .rounds import Plan, Sample

PEERS = [name for name in MANAGERS if name != OURS]
Visit = Callable[[str, Path | None, Plan], Sample]


def main() -> int:
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the peers hold two pipes for each worker
    try:
        with private_broker() as (amqp_url, management_url):
            plan = Plan(amqp_url, management_url, options.workers, options.kills, options.idle, options.lines)
            report(options, *measure(options, plan))
    except KeyboardInterrupt:
        say("interrupted; everything that was started has been ended")
        return 130
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--workers", type=int, default=200, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--peers", default=",".join(PEERS), help="of %(default)s; empty for none")
    parser.add_argument("--kinds", default="runtime,light,program", help="of the workers: %(default)s")
    parser.add_argument("--many", type=int, default=1000, metavar="N", help="workers of ours alone; 0 for none")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="in each round")
    parser.add_argument(
        "--idle", type=float, default=60.0, metavar="SECONDS", help="whole minutes are fair: what is done once a minute"
    )
    parser.add_argument("--lines", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--markdown", action="store_true", help="the tables as docs/performance.md has them")
    parser.add_argument("--json", action="store_true", help="every sample, on standard output")
    options = parser.parse_args()
    for name, allowed in (("peers", PEERS), ("kinds", list(KINDS))):
        chosen = [word for word in getattr(options, name).split(",") if word]
        if wrong := set(chosen) - set(allowed):
            parser.error(f"--{name}: {', '.join(sorted(wrong))} (there are {', '.join(allowed)})")
        setattr(options, name, chosen)
    return options


KINDS: dict[str, Visit] = {
    "runtime": rounds.visit_runtime,
    "light": rounds.visit_light,
    "program": rounds.visit_program,
}


def measure(options: argparse.Namespace, plan: Plan) -> tuple[dict[str, list[Sample]], Sample]:
    """Samples by supervisor, and what ours did alone."""
    peers = dict(found_peers(options.peers))
    samples: dict[str, list[Sample]] = {name: [] for name in (OURS, *peers)}
    for number in range(options.rounds):
        order = list(samples)
        order = order[number % len(order) :] + order[: number % len(order)]  # each is first in its turn
        for kind in options.kinds:
            for name in order:
                visit = functools.partial(KINDS[kind], name, peers.get(name), plan)
                samples[name].append(tried(f"round {number + 1}, {kind}", name, visit))
    if not options.many:
        return samples, {}
    alone = tried(f"{options.many} workers", OURS, lambda: many.visit_many(plan, options.many))
    return samples, alone


def tried(words: str, name: str, visit: Callable[[], Sample]) -> Sample:
    """A supervisor that fails loses this sample, and the others go on."""
    try:
        sample = visit()
    except (TimeoutError, RuntimeError, OSError) as error:
        say(f"{words}: {name} FAILED: {error}")
        return {}
    say(f"{words}: {name}: " + ", ".join(f"{key} {table.shown(value)}" for key, value in sample.items()))
    return sample


def found_peers(names: list[str]) -> Iterator[tuple[str, Path]]:
    for name in names:
        try:
            yield name, install.installed(name)
        except install.NotThere as error:
            say(f"left out: {error}")


@contextmanager
def private_broker() -> Iterator[tuple[str, str]]:
    """A RabbitMQ of its own with the peers' queue on a vhost of theirs; ours makes its own."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-broker-"))
    broker = EmbeddedBroker(folder)
    try:
        asyncio.run(broker.start())
        declare(broker.amqp_url)
        yield broker.amqp_url, broker.management_url
    finally:
        asyncio.run(broker.stop())
        shutil.rmtree(folder, ignore_errors=True)


def declare(amqp_url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    connection.channel().queue_declare(jobs.QUEUE, durable=True)
    connection.close()


def report(options: argparse.Namespace, samples: dict[str, list[Sample]], alone: Sample) -> None:
    results = {name: table.medians(mine) for name, mine in samples.items()}
    words = {"n": options.workers, "many": options.many, "lines": options.lines}
    if options.json:
        ratios = {key: table.ratio(key, results) for key in table.ROWS}
        everything = {"samples": samples, "medians": results, "ratios": ratios, "alone": alone, **words}
        print(json.dumps(everything | {"cores": len(os.sched_getaffinity(0))}, indent=1))
        return
    tables = {"The fleet (medians; less is better)": table.summary(results, words)}
    if alone:
        tables[f"{options.many:,} workers"] = table.alone(alone, words)
    console = Console(width=max(110, Console().width))
    for title, rows in tables.items():
        print(table.markdown(rows) + "\n") if options.markdown else console.print(table.pretty(rows, title))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
