"""One line a record, whoever logs; and a full disk costs lines, not the worker."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.workers.worker_bench import ENTRY, VERBS, Bench, until


def test_every_way_to_say_something(bench: Bench) -> None:
    bench.queue()
    bench.publish(
        "import logging; logging.getLogger('mine').warning('std %s', '{x}')",
        "logging = __import__('logging'); logging.getLogger('pika.x').info('hidden'); print('printed {y}')",
        "from loguru import logger; logger.critical('two\\nlines'); logger.debug('hidden')",
        "print('\\udcff', file=sys.stderr)",
        "def f(): raise KeyError('deep')\nf()",
    )
    worker = bench.start("work", VERBS)
    worker.says("KeyError")
    assert worker.stop() == 0
    stamp = r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
    for line in ("WARNING std {x}", "CRITICAL two\nlines", "ERROR   message 5 failed: KeyError: 'deep'\nTraceback"):
        assert re.search(stamp + re.escape(line), worker.log)
    assert re.search(r"(?m)^printed \{y\}$", worker.log)
    assert re.search(r"(?m)^\\udcff$", worker.log)
    assert not re.search("INFO +hidden|DEBUG", worker.log)


def test_the_level_is_the_users(bench: Bench) -> None:
    bench.queue()
    bench.publish("self.logger.debug('seen'); __import__('logging').getLogger('pika').debug('un' + 'seen')")
    worker = bench.start("work", VERBS, LOG_LEVEL="debug")
    worker.says("DEBUG   seen")
    assert worker.stop() == 0
    assert "unseen" not in worker.log


def test_a_wrong_level_is_info(bench: Bench) -> None:
    bench.queue()
    bench.start("work", VERBS, LOG_LEVEL="loud").says("WARNING LOG_LEVEL is 'loud': taken as INFO")


def test_a_full_disk_costs_only_lines(bench: Bench) -> None:
    bench.queue("out")
    bench.queue()
    bench.publish(
        "print('x' * 10000); ch.basic_publish('', 'out', b'did')", "1 / 0", "ch.basic_publish('', 'out', b'too')"
    )
    process = bench.start("work", VERBS)  # only for its environment: the one below shares the queue
    process.ready().stop()
    bench.publish(
        "print('x' * 10000); ch.basic_publish('', 'out', b'did')", "1 / 0", "ch.basic_publish('', 'out', b'too')"
    )
    env = {"AMQP_URL": bench.url, "QUEUE_NAME": "q", "WORKERS_FOLDER": str(bench.folder)}
    with open("/dev/full", "wb") as full:
        popen = subprocess.Popen([sys.executable, "-P", str(ENTRY), "run", "work"], env=env, stdout=full, stderr=full)
    try:
        until(lambda: bench.count("out") == 4)
        popen.terminate()
        assert popen.wait(10) == 0
    finally:
        popen.kill()
