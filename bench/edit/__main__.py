"""`python -m bench.edit`: one edit of a large file beside ruamel.yaml's, then as many generated texts as are asked for.

Texts and judges are those of tests/state: libyaml reads the data, ruamel.yaml the comments.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from multiprocessing import Pool

from bench.edit.speed import measure
from tests.state.documents import KINDS, document
from tests.state.judges import try_edit

CHUNK = 1_000
FIRST = 10_000  # seeds below are those of `make test`
SHOWN = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.edit", description=__doc__)
    parser.add_argument("--queues", type=int, default=2000, help="in the large file (default 2000: 14,000 lines)")
    parser.add_argument("--rounds", type=int, default=5, help="of each, interleaved; the median counts")
    parser.add_argument("--documents", type=int, default=100_000, help="how many texts (0: none)")
    parser.add_argument("--first", type=int, default=FIRST, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if asked.rounds:
        print(measure(asked.queues, asked.rounds))
    if asked.documents:
        sys.exit(judge(asked.first, asked.documents, asked.processes))


def judge(first: int, count: int, processes: int) -> int:
    """Tries so many texts; the exit status is 1 if an edit was wrong."""
    begun, outcomes, wrong = time.monotonic(), Counter[str](), 0
    starts = range(first, first + count, CHUNK)
    with Pool(processes) as pool:
        for done, failures in pool.imap_unordered(try_chunk, [(at, min(CHUNK, first + count - at)) for at in starts]):
            outcomes += done
            for failure in failures[: max(0, SHOWN - wrong)]:
                print(failure)
            wrong += len(failures)
            tell(outcomes, wrong, count, time.monotonic() - begun)
    print()
    return 1 if wrong else 0


def tell(outcomes: Counter[str], wrong: int, count: int, seconds: float) -> None:
    parts = ", ".join(f"{outcomes[name]:,} {name}" for name in ("done", "refused", "unread"))
    end = "\r" if sys.stdout.isatty() else "\n"
    total = outcomes.total() + wrong
    if end == "\r" or total == count or total % (100 * CHUNK) == 0:
        print(f"{total:,} of {count:,} texts in {seconds:.0f} s: {parts}, {wrong} wrong ", end=end, flush=True)


def try_chunk(chunk: tuple[int, int]) -> tuple[Counter[str], list[str]]:
    outcomes, failures = Counter[str](), []
    for seed in range(chunk[0], sum(chunk)):
        kind = KINDS[seed % len(KINDS)]
        try:
            outcomes[try_edit(seed, kind)] += 1
        except Exception as error:
            failures.append(f"try_edit({seed}, {kind!r}): {error!r}\n{document(seed, kind)}")
    return outcomes, failures


if __name__ == "__main__":
    main()
