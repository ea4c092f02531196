"""Runs each load through each rule and prints them side by side: `python -m bench.autoscale`."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from bench.autoscale.loads import LOADS, Load, recorded
from bench.autoscale.rules import rules
from bench.autoscale.site import Outcome, Site, Workers
from state.autoscale import COOLDOWN, WINDOW, Policy

HEAD = ("load", "rule", "drain s", "wait p50 s", "wait p99 s", "changes/h", "most", "worker-hours")


def main() -> None:
    options = parsed()
    policy = Policy(options.min, options.max, options.backlog, options.cooldown, options.window)
    workers = Workers(options.service, options.start, options.prefetch)
    print(f"{policy}\n{workers}\nmean of {options.seeds} seeds\n")
    print(row(HEAD))
    print(row(["---"] * len(HEAD)))
    for name, text, outcomes in compared(options, policy, workers):
        for rule, found in outcomes.items():
            print(row(cells(name, rule, found)), flush=True)
        print(row([f"_{text}_", *[""] * (len(HEAD) - 1)]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.autoscale", description=__doc__)
    parser.add_argument("--load", type=Path, help="a recorded load: messages in each second, one number a line")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--min", type=int, default=0)
    parser.add_argument("--max", type=int, default=50)
    parser.add_argument("--backlog", type=int, default=100)
    parser.add_argument("--cooldown", type=float, default=COOLDOWN)
    parser.add_argument("--window", type=float, default=WINDOW)
    parser.add_argument("--service", type=float, default=Workers.service, help="seconds a message takes")
    parser.add_argument("--start", type=float, default=Workers.start, help="seconds until a process consumes")
    parser.add_argument("--prefetch", type=int, default=Workers.prefetch)
    return parser.parse_args()


def compared(
    options: argparse.Namespace, policy: Policy, workers: Workers
) -> Iterable[tuple[str, str, dict[str, list[Outcome]]]]:
    for make in [lambda _: recorded(options.load)] if options.load else LOADS:
        outcomes: dict[str, list[Outcome]] = {}
        for seed in range(options.seeds):
            load: Load = make(random.Random(seed))
            for rule in rules(policy, phase=random.Random(seed).random()):
                outcomes.setdefault(rule.name, []).append(Site(load, rule, workers, random.Random(seed)).run())
        yield load.name, load.text, outcomes


def cells(load: str, rule: str, found: list[Outcome]) -> list[str]:
    return [
        load,
        rule,
        f"{mean(seconds for outcome in found for seconds in outcome.drains):.1f}",
        f"{mean(outcome.waited(0.50) for outcome in found):.1f}",
        f"{mean(outcome.waited(0.99) for outcome in found):.1f}",
        f"{mean(outcome.changes / outcome.hours for outcome in found):.1f}",
        f"{max(outcome.most for outcome in found)}",
        f"{mean(outcome.worker_seconds / 3600 for outcome in found):.2f}",
    ]


def row(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    main()
