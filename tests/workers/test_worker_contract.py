"""The template of the contract as it stands, and where a worker's class may come from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.workers.worker_bench import ENTRY, Bench

TEMPLATE = """
from .base import BaseWorker
import json

class SendEmail(BaseWorker):
    def __init__(self, channel, queue_name):              # optional
        super().__init__(channel, queue_name)
        self.logger = self.logger.bind(worker_name="send_email")

    def process_message(self, ch, method, properties, body):
        data = json.loads(body)
        self.logger.info(f"Processing message: {data}")
        ch.basic_ack(delivery_tag=method.delivery_tag)     # optional: True acks, False or an exception rejects
        return True
"""


def test_the_template_runs_as_it_stands(bench: Bench) -> None:
    bench.queue()
    bench.publish(json.dumps({"to": "a{b}", "n": 1}))
    worker = bench.start("send_email", TEMPLATE)
    worker.says(r"INFO    \[q/send_email \d+ #1\] Processing message: \{'to': 'a\{b\}', 'n': 1\}")
    assert worker.stop() == 0
    assert bench.count() == 0


def test_a_worker_without_any_init_and_one_that_calls_no_super(bench: Bench) -> None:
    source = """
        from workers.base import BaseWorker
        class Work(BaseWorker):
            {init}
            def process_message(self, ch, method, properties, body):
                self.logger.info(f"{{body}} from {{self.queue_name}}, open {{self.channel.is_open}}")
    """
    bench.queue()
    for name, init in (("none", ""), ("bare", "def __init__(self, channel, queue_name): self.x = 1")):
        bench.publish(name)
        worker = bench.start(name, source.format(init=init))
        worker.says(f"b'{name}' from q, open True")
        assert worker.stop() == 0
    assert bench.count() == 0


@pytest.mark.parametrize("style", ["from .base import BaseWorker", "from workers.base import BaseWorker"])
def test_a_folder_with_a_stale_base_of_its_own_and_decoys_all_round(bench: Bench, tmp_path: Path, style: str) -> None:
    decoy = tmp_path / "decoy"
    for folder in (decoy / "workers", tmp_path / "workers"):  # on PYTHONPATH, and in the current folder
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    bench.write("base.py", "class BaseWorker: pass")
    bench.write("__init__.py", "raise RuntimeError('not ours')")
    bench.write("log.py", "greeting = 'from the helper'")
    (tmp_path / "mylib.py").write_text("name = 'mylib'")
    source = f"""
        {style}
        import mylib
        from .log import greeting
        class Work(BaseWorker):
            def process_message(self, ch, method, properties, body):
                print(mylib.name, greeting, __name__)
    """
    bench.queue()
    bench.publish("x")
    worker = bench.start("work", source, PYTHONPATH=str(decoy))
    worker.says("mylib from the helper workers.work")
    assert worker.stop() == 0


def test_the_sample_runs_from_our_own_folder(bench: Bench) -> None:
    bench.queue()
    bench.publish("hello {there}")
    worker = bench.start("echo", WORKERS_FOLDER=str(ENTRY.parent))
    worker.says(r"Z INFO    \[\S+ \d+ #1\] hello \{there\}")
    assert worker.stop() == 0


def test_the_users_echo_wins_over_the_sample(bench: Bench) -> None:
    bench.queue()
    bench.publish("x")
    source = """
        from .base import BaseWorker
        class Mine(BaseWorker):
            def process_message(self, ch, method, properties, body): print("mine")
    """
    bench.start("echo", source).says("mine")


def test_only_base_and_runtime_are_taken_names() -> None:
    ours = {path.stem for path in ENTRY.parent.iterdir() if not path.name.startswith("__pyc")}
    assert ours == {"__init__", "__main__", "base", "echo", "runtime"}


def test_multiprocessing_finds_the_handlers_functions(bench: Bench) -> None:
    bench.queue()
    bench.publish("20")
    source = """
        import multiprocessing
        from .base import BaseWorker
        def double(n): return 2 * n
        class Work(BaseWorker):
            def process_message(self, ch, method, properties, body):
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print("doubled", pool.apply(double, [int(body)]))
    """
    worker = bench.start("work", source).ready()
    worker.says("doubled 40")
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"AMQP_URL": ""}, "AMQP_URL is not set"),
        ({"AMQP_URL": "amqp://guest:secret@host:port/"}, "AMQP_URL cannot be read"),
        ({"PREFETCH": "many"}, "PREFETCH is 'many' (a number from 0, unlimited, to 65535)"),
        ({}, "handlers/work.py does not exist (make it, with one subclass of BaseWorker)"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(tmp_path: Path, env: dict[str, str], words: str) -> None:
    bench = Bench(tmp_path, "amqp://a:b@127.0.0.1:1/")
    worker = bench.start("work", **env)
    assert worker.ended() == 1
    assert words in worker.log.splitlines()[-1]
    assert "secret" not in worker.log
    bench.close()
    assert os.path.exists(bench.folder)
