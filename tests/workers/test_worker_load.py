"""Under load: stops and a broker restart lose no message, and a clean stop doubles none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tests.workers.worker_bench import Bench, until

COUNT = """
    import os
    from .base import BaseWorker
    class Count(BaseWorker):
        '''Writes each message into its own file, so that one can count who handled what.'''
        def __init__(self, channel, queue_name):
            self.file = open(f"handled.{os.getpid()}", "a", buffering=1)
        def process_message(self, ch, method, properties, body):
            self.file.write(f"{body.decode()} {method.redelivered}\\n")
"""


def handled(root: Path) -> list[str]:
    return [line for path in root.glob("handled.*") for line in path.read_text().splitlines()]


def test_stops_under_load_lose_and_double_nothing(bench: Bench) -> None:
    bench.queue()
    bodies = [str(n) for n in range(6000)]
    bench.publish(*bodies)
    for done in (500, 1500, 3000):
        worker = bench.start("count", COUNT, PREFETCH="100").ready()  # the one before may have handled as many
        until(lambda done=done: len(handled(bench.root)) > done)
        assert worker.stop() == 0
    worker = bench.start("count", COUNT, PREFETCH="100")
    worker.told(X_BUSY="0", READY="1")
    until(lambda: len(handled(bench.root)) >= len(bodies), 60)
    assert worker.stop() == 0
    assert Counter(line.split()[0] for line in handled(bench.root)) == Counter(bodies)
    assert bench.count() == 0


def test_a_restart_of_the_broker_under_load(tmp_path: Path, own_broker: Any) -> None:
    bench = Bench(tmp_path, own_broker.amqp_url)
    bench.queue()
    bodies = [str(n) for n in range(4000)]
    bench.publish(*bodies)
    until(lambda: bench.count() == len(bodies))  # what is still on its way would be lost with the broker
    workers = [bench.start("count", COUNT, SLOT=str(slot)).ready() for slot in range(3)]
    until(lambda: len(handled(tmp_path)) > 300)
    own_broker.stop()
    for worker in workers:
        worker.told(RELOADING="1")
    own_broker.start()
    for worker in workers:
        worker.says("consuming from q as", 2)
    until(lambda: len({line.split()[0] for line in handled(tmp_path)}) == len(bodies), 60)
    doubled = [line for line, _ in Counter(handled(tmp_path)).items() if line.endswith("True")]
    assert len(doubled) <= 3 * 10 * 2  # at most what was in flight
    assert all(worker.stop() == 0 for worker in workers)
    assert bench.count() == 0
    assert all("Traceback" not in worker.log for worker in workers)
    bench.close()
