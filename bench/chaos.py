"""`python -m bench.chaos`: five minutes in which everything goes wrong that may, and what is promised all the same.

The acts are in tests/live/chaos/acts.py, the promises in tests/live/chaos/invariants.py. The exit status is 1 if one is
broken; then the schedule and the seed are printed, so that it can be run again.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.live.chaos.chaos import Outcome, chaos
from tests.live.chaos.invariants import INVARIANTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="by default another each time")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    say(f"seed {options.seed}, {options.seconds:.0f} s, in {folder}")
    try:
        with chaos(folder, options.seed, options.seconds, say) as outcome:
            broken = judge(outcome)
    except KeyboardInterrupt:
        say("interrupted; everything that was started has been ended")
        return 130
    if not broken:
        shutil.rmtree(folder, ignore_errors=True)
    return int(broken)


def judge(outcome: Outcome) -> bool:
    """Says of each promise whether it was kept; whether one was broken."""
    faults = {}
    for invariant in INVARIANTS:
        try:
            invariant(outcome)
        except AssertionError as error:
            faults[invariant.__name__] = str(error)
        say(f"{'BROKEN' if invariant.__name__ in faults else 'kept  '}  {invariant.__name__}")
    if faults:
        say(outcome.story())
    for name, fault in faults.items():
        say(f"BROKEN {name}: {fault}")
    messages, workers = len(outcome.world.publisher.confirmed), len(outcome.world.born())
    say(f"{messages:,} messages confirmed, {workers} worker processes, {outcome.watch.looks} looks")
    return bool(faults)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
