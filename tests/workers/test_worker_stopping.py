"""SIGTERM in every state; kill -9; and signals that are not ours to take."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable

import pytest

from tests.workers.worker_bench import VERBS, Bench, until


def within_two_seconds(seconds: Callable[[], float]) -> bool:
    """Whether it can be done: others use this machine, so it may take some tries to see that."""
    return any(seconds() < 2 for _ in range(5))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_the_message_in_hand_and_gives_the_rest_back(bench: Bench, number: int) -> None:
    bench.queue()
    waits = "[time.sleep(0.02) for _ in iter(Path('go').exists, True)]"
    bodies = ["0", waits, *map(str, range(1, 19))]
    bench.publish(*bodies)
    worker = bench.start("work", VERBS)
    worker.says("begins ", 2)
    worker.popen.send_signal(number)
    worker.told(STOPPING="1")
    until(lambda: bench.consumers() == 0)  # at once, not after the message
    worker.popen.send_signal(number)  # a second one changes nothing
    assert re.findall(r"ends (.*)", worker.log) == ["0"]
    (bench.root / "go").touch()
    assert worker.ended() == 0
    done = re.findall(r"ends (.*)", worker.log)
    assert worker.log.count("begins ") == len(done) == 2
    assert [*done, *bench.take()] == bodies
    assert f"worker work stops: {len(done)} processed, 0 failed" in worker.log


def test_kill_9_gives_every_unsettled_message_back(bench: Bench) -> None:
    bench.queue()
    bench.publish("result = True", *["time.sleep(60)"] * 4)
    worker = bench.start("work", VERBS)
    worker.says("begins time.sleep")
    assert worker.stop(signal.SIGKILL) == -signal.SIGKILL
    second = bench.start("work", VERBS.replace("exec(body", "assert method.redelivered; exec(b'0'"))
    second.says(r"ends time.sleep\(60\)", 4)
    assert second.stop() == 0
    assert bench.take() == []


def test_a_stop_while_the_module_is_imported(bench: Bench) -> None:
    bench.queue()
    # Not one long sleep: a signal that comes just before it would be heard after it.
    worker = bench.start("work", "import time\nprint('importing')\nwhile True: time.sleep(0.2)")
    worker.says("importing")
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"AMQP_URL": "amqp://127.0.0.1:1/"}, "cannot connect to the broker at 127.0.0.1:1: Connection refused"),
        ({"QUEUE_NAME": "missing"}, "queue missing does not exist"),
    ],
)
def test_a_stop_before_it_ever_consumed(bench: Bench, env: dict[str, str], words: str) -> None:
    def stopped_in() -> float:
        worker = bench.start("work", VERBS, **env)
        worker.says(words)
        began = time.monotonic()
        assert worker.stop() == 0
        return time.monotonic() - began

    assert within_two_seconds(stopped_in)


def test_a_stop_while_the_broker_says_nothing(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)

        def stopped_in() -> float:
            worker = bench.start("work", VERBS, AMQP_URL=f"amqp://127.0.0.1:{silent.getsockname()[1]}/")
            connection, _ = silent.accept()
            with connection:
                began = time.monotonic()
                assert worker.stop() == 0, worker.log
                return time.monotonic() - began

        assert within_two_seconds(stopped_in)


def test_a_child_that_the_handler_forks_and_ends_is_not_the_worker(bench: Bench) -> None:
    fork = "import multiprocessing as m; p = m.get_context('fork').Process(target=time.sleep, args=[60]); p.start(); "
    bench.queue()
    bench.publish(fork + "p.terminate(); p.join(); print('child', p.exitcode)", "print('alive')")
    worker = bench.start("work", VERBS)
    worker.says("child -15")
    worker.says("(?m)^alive")
    assert "told to stop" not in worker.log
    assert worker.stop() == 0


def test_a_crash_of_the_interpreter_leaves_its_traces(bench: Bench) -> None:
    bench.queue()
    bench.publish("os.kill(os.getpid(), signal.SIGSEGV)")
    worker = bench.start("work", VERBS)
    assert worker.ended() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in worker.log
    until(lambda: bench.count() == 1)  # the broker has yet to hear of its end
