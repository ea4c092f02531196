"""One line a record, whoever logs; and a full disk costs lines, not the worker."""

from __future__ import annotations

import re
import subprocess
import sys
from textwrap import dedent

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
    for level, tag, line in (
        ("WARNING", 1, "std {x}"),
        ("CRITICAL", 3, "two\nlines"),
        ("ERROR  ", 5, "message 5 failed: KeyError: 'deep'\nTraceback"),
    ):
        head = rf"(?m)^\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {level} \[q/work {worker.pid} #{tag}\] "
        assert re.search(head + re.escape(line), worker.log)
    assert re.search(r"(?m)^printed \{y\}$", worker.log)
    assert re.search(r"(?m)^\\udcff$", worker.log)
    assert not re.search(r"\] hidden|DEBUG", worker.log)


def test_the_level_is_the_users(bench: Bench) -> None:
    bench.queue()
    bench.publish("self.logger.debug('seen'); __import__('logging').getLogger('pika').debug('un' + 'seen')")
    worker = bench.start("work", VERBS, LOG_LEVEL="debug")
    worker.says(r"DEBUG   \[.*\] seen")
    assert worker.stop() == 0
    assert "unseen" not in worker.log


def test_a_wrong_level_is_info(bench: Bench) -> None:
    bench.queue()
    bench.start("work", VERBS, LOG_LEVEL="loud").says(r"WARNING \[q/work \d+\] LOG_LEVEL is 'loud': taken as INFO")


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
        assert popen.wait(30) == 0
    finally:
        popen.kill()


def test_what_a_module_has_made_of_the_log_before_a_fork_stays() -> None:
    script = """
        import logging, sys
        from loguru import logger
        from workers.runtime import log
        log.set_up({}, "w")
        {theirs}
        log.set_up({"LOG_LEVEL": "ERROR"}, "w")
        logger.info("info")
        logger.error("error")
        logging.error("std")
    """
    for theirs, lines in (
        ("", [" error", " std"]),
        ("logger.remove(); logger.add(sys.stdout, format='mine {message}')", ["mine info", "mine error", "mine std"]),
    ):
        code = dedent(script).replace("{theirs}", theirs)
        done = subprocess.run([sys.executable, "-c", code], cwd=ENTRY.parents[1], capture_output=True, text=True)
        found = (done.stdout + done.stderr).splitlines()
        assert len(found) == len(lines), found
        assert all(line.endswith(end) for line, end in zip(found, lines, strict=True)), found
