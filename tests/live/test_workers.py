"""From the file to the processes: counts, what a worker does with its messages, and how it ends."""

from __future__ import annotations

import os
import signal
import stat
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.live.sites import RECORD, Site, is_alive, processes_of, site_on, zombies_under, zygotes_of
from tests.nodes import TestNode
from tests.system import ECHO
from tests.waiting import eventually

TEMPLATE = """\
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


@pytest.fixture(scope="module")
def shared(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_on(broker, tmp_path_factory.mktemp("workers")) as site:
        site.start()
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    """The running site of this module, without workers and traces of the test before."""
    (shared.out / "go").touch()
    shared.empty()
    for trace in shared.out.iterdir():
        trace.unlink()
    return shared


def pool(worker: str, **keys: Any) -> str:
    """The file with one queue `work`, and one worker on it."""
    inner = "".join(f", {key}: {value}" for key, value in keys.items()).removeprefix(", ")
    return f"version: 1\nqueues:\n  work:\n    on_remove: delete\n    workers:\n      {worker}: {{{inner}}}\n"


def scaled(site: Site, worker: str, count: int, **keys: Any) -> set[int]:
    """Saves that count into the file and waits until exactly so many are ready."""
    site.write(pool(worker, count=count, **keys))

    def are_ready() -> tuple[set[int]] | None:
        there = site.list_workers()
        ready = {worker["pid"] for worker in there if worker["state"] == "ready"}
        return (ready,) if len(ready) == len(there) == count else None

    (pids,) = eventually(are_ready)
    return pids


def messages(site: Site, queue: str = "work") -> int:
    """Ready and in flight, by the broker's live counts."""
    return int(site.vhost.queues()[queue]["messages"])  # type: ignore[call-overload]


# -- how many ----------------------------------------------------------------------------------------------------


def test_the_count_in_the_file_is_the_number_of_processes(site: Site) -> None:
    for count in (1, 4, 2, 0):
        pids = scaled(site, "echo", count)
        assert len(pids) == count
        assert all(is_alive(pid) for pid in pids)
        assert site.settled()["queues"]["work"]["workers"]["echo"] == {"desired": count, "ready": count, "restarts": 0}


def test_who_is_listed_as_ready_counts_as_such_in_the_status(site: Site) -> None:
    """Also before the next turn sees it."""
    site.write(pool("record", count=2))
    eventually(lambda: len(site.pids()) == 2)
    site.settled()
    for _ in range(10):
        killed = min(site.pids())
        os.kill(killed, signal.SIGKILL)
        eventually(partial(others_are_ready, site, killed), every=0.001)
        assert site.status()["queues"]["work"]["workers"]["record"]["ready"] == 2
        listed = site.get("/queue/list", queue_names="work").json()["queues"][0]
        assert listed["reason"] is None


def others_are_ready(site: Site, killed: int) -> bool:
    return len(site.pids() - {killed}) == 2


def test_each_says_to_the_broker_who_it_is(site: Site) -> None:
    """Also those that were forked together, from one that had all ready but for that."""
    site.write(pool("record", count=3))
    eventually(lambda: len(site.pids()) == 3)
    pids = {worker["pid"]: worker["slot"] for worker in site.list_workers()}

    def shown() -> dict[int, str]:
        with site.vhost.node.api() as api:
            all_of_them = [c.get("client_properties", {}) for c in api.get("/api/connections").json()]
        return {c["pid"]: c["connection_name"] for c in all_of_them if c.get("pid") in pids}

    eventually(lambda: shown() == {pid: f"reconciler worker work/record[{slot}]" for pid, slot in pids.items()})


def test_scaling_up_does_not_touch_the_running_workers(site: Site) -> None:
    scaled(site, "echo", 2)
    before = {worker["pid"]: worker["started_at"] for worker in site.list_workers()}
    scaled(site, "echo", 4)
    after = {worker["pid"]: worker["started_at"] for worker in site.list_workers()}
    assert before.items() <= after.items()


def test_scaling_down_takes_the_idle_ones_and_the_busy_finish_their_message(site: Site) -> None:
    scaled(site, "hold", 3, prefetch=1, grace=30)
    site.send("work", ["a", "b"])
    eventually(lambda: len(site.begun()) == 2)
    busy = {int(name.rpartition("-")[2]) for name in site.begun()}
    eventually(lambda: sum(w["busy"] for w in site.list_workers()) == 2)
    scaled(site, "hold", 2, prefetch=1, grace=30)
    assert site.pids() == busy
    site.write(pool("hold", count=0, prefetch=1, grace=30))
    eventually(lambda: [w["state"] for w in site.list_workers()] == ["stopping", "stopping"])
    assert not site.done()
    (site.out / "go").touch()
    eventually(lambda: not site.list_workers())
    assert site.done() == site.begun()
    eventually(lambda: messages(site) == 0)


def test_a_worker_that_outstays_its_grace_is_killed_and_its_message_comes_back(site: Site) -> None:
    scaled(site, "hold", 1, prefetch=1, grace=1)
    site.send("work", ["late"])
    eventually(site.begun)
    scaled(site, "hold", 0, prefetch=1, grace=1)
    assert messages(site) == 1
    assert not site.done()


@pytest.mark.parametrize("change", [{"env": "{COLOUR: red}"}, {"prefetch": 3}])
def test_other_settings_roll_the_workers_batch_by_batch_and_lose_nothing(site: Site, change: dict[str, Any]) -> None:
    before = scaled(site, "record", 4)
    least = 4
    numbers = [str(n) for n in range(2000)]
    site.send("work", numbers[:1000])
    site.write(pool("record", count=4, **change))
    site.send("work", numbers[1000:])

    def rolled() -> bool:
        nonlocal least
        ready = site.pids()
        least = min(least, len(ready))
        return len(ready) == 4 and not ready & before

    eventually(rolled, within=60)
    assert least >= 3, "more than a quarter was away at once"
    eventually(lambda: set(numbers) == set(site.recorded()))
    eventually(lambda: messages(site) == 0)
    assert Counter(site.recorded()).most_common(1)[0][1] == 1, "a clean roll delivers nothing twice"


def test_other_code_rolls_its_workers_batch_by_batch_and_no_others(site: Site) -> None:
    site.worker("coder", RECORD.replace("Record", "Coder"))
    site.write("version: 1\nqueues:\n  work: {workers: {coder: 4, echo: 1}}\n")
    site.settled()
    before, others = site.pids(worker_name="coder"), site.pids(worker_name="echo")
    least = 4
    site.worker("coder", RECORD.replace("Record", "Coder").replace("body.decode()", '"new " + body.decode()'))

    def rolled() -> bool:
        nonlocal least
        ready = site.pids(worker_name="coder")
        least = min(least, len(ready))
        return len(ready) == 4 and not ready & before

    eventually(rolled, within=60)
    assert least >= 3, "more than a quarter was away at once"
    assert site.pids(worker_name="echo") == others
    site.write("version: 1\nqueues:\n  work: {workers: {coder: 4}}\n")
    site.settled()
    site.send("work", ["message"])
    eventually(lambda: site.recorded() == ["new message"])


def test_an_edit_of_what_a_module_imports_from_the_folder_rolls_it_and_no_others(site: Site) -> None:
    """Beside it or in a package; what does not import rolls nothing, and what mends it need not be the module."""
    package = site.workers / "lib"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("HELLO = 1\n")
    site.worker("helper", "from .lib.words import HELLO\n")
    site.worker("record", "from .helper import HELLO\n" + RECORD)
    site.worker("other", RECORD)
    site.write("version: 1\nqueues:\n  work: {workers: {record: 2, other: 2}}\n")
    eventually(lambda: len(site.pids()) == 4)
    others = site.pids(worker_name="other")
    for number, path in enumerate((site.workers / "helper.py", package / "words.py")):
        before = site.pids(worker_name="record")
        path.write_text(path.read_text() + f"# edit {number}\n")
        eventually(lambda: len(now := site.pids(worker_name="record")) == 2 and not now & before)  # noqa: B023
    before = site.pids(worker_name="record")
    (package / "words.py").write_text("from .more import HELLO\n")
    eventually(lambda: "No module named 'workers.lib.more'" in str(site.status()["file_error"]))
    (package / "more.py").write_text("HELLO = 2\n")
    eventually(lambda: len(now := site.pids(worker_name="record")) == 2 and not now & before)
    assert site.status()["file_error"] is None
    assert site.pids(worker_name="other") == others


def test_a_module_that_is_only_touched_rolls_nothing_not_even_by_a_new_daemon(site: Site) -> None:
    """A checkout gives every file a new time."""
    before = scaled(site, "echo", 2)
    (site.workers / "echo.py").touch()
    site.write(pool("echo", count=3))
    site.settled()
    assert before < site.pids()
    before = site.pids()
    site.kill()
    site.worker("echo", "import no_such_thing\n")
    site.start()
    eventually(lambda: "no_such_thing" in (site.status()["file_error"] or ""))
    assert site.pids() == before
    site.worker("echo", ECHO)
    site.settled()
    assert site.pids() == before


def test_a_queue_may_have_several_workers_and_each_is_scaled_by_itself(site: Site) -> None:
    both = "version: 1\nqueues:\n  work: {{workers: {{echo: {}, record: {}}}}}\n"
    site.write(both.format(1, 2))
    site.settled()
    before = site.pids(worker_name="record")
    site.write(both.format(3, 2))
    site.settled()
    assert len(site.pids(worker_name="echo")) == 3
    assert site.pids(worker_name="record") == before


# -- any program -------------------------------------------------------------------------------------------------

SH_WORKER = """\
#!/bin/sh
echo "queue $QUEUE_NAME worker $WORKER_NAME prefetch $PREFETCH colour $COLOUR broker ${AMQP_URL%%:*}"
python3 -c '
import os, socket
address = os.environ["NOTIFY_SOCKET"]
address = chr(0) + address[1:] if address.startswith("@") else address
supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
supervisor.sendto(b"READY=1", address)
# As systemd-notify does: of a helper that has gone before it is heard nobody can know whose it was.
heard, held = os.pipe()
socket.send_fds(supervisor, [b"BARRIER=1"], [held], 0, address)
os.close(held)
os.read(heard, 1)
'
trap 'echo told to stop; exit 0' TERM
while :; do sleep 0.1; done
"""


def test_a_command_is_run_with_what_it_needs_and_is_ready_when_it_says_so(site: Site) -> None:
    script = site.folder / "resize.sh"
    script.write_text(SH_WORKER)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    scaled(site, "resize", 1, command=f"[{script}, --fast]", prefetch=7, env="{COLOUR: blue}")
    (pid,) = site.pids()
    lines = site.get(f"/logs/workers/logs/{pid}").json()["lines"]
    assert any("queue work worker resize prefetch 7 colour blue broker amqp" in line for line in lines), lines
    scaled(site, "resize", 0, command=f"[{script}, --fast]")
    assert any("told to stop" in line for line in site.get(f"/logs/workers/logs/{pid}").json()["lines"])
    assert not is_alive(pid)


def test_a_command_that_never_says_that_it_is_ready_counts_as_starting(site: Site) -> None:
    site.write(pool("mute", command="[sleep, '1000']", count=1))
    eventually(lambda: [w["state"] for w in site.list_workers()] == ["starting"])

    def told() -> bool:
        status = site.status()
        assert not status["healthy"]
        return "mute: 0 of 1 ready" in (status["queues"].get("work", {}).get("reason") or "")

    eventually(told)
    pid = eventually(lambda: site.list_workers()[0]["pid"])
    assert [w["state"] for w in site.list_workers()] == ["starting"]
    scaled(site, "mute", 0, command="[sleep, '1000']")
    assert not is_alive(pid)


def test_a_command_that_does_not_exist_is_told_as_such(site: Site) -> None:
    site.write(pool("ghost", command="[/no/such/program]", count=1))

    def told() -> bool:
        reason = site.status()["queues"].get("work", {}).get("reason") or ""
        assert "ghost: 0 of 1 ready" in reason, reason
        return "/no/such/program" in reason

    eventually(told)


# -- messages ----------------------------------------------------------------------------------------------------


def test_the_template_of_the_contract_works_as_it_stands(site: Site) -> None:
    site.worker("send_email", TEMPLATE)
    (pid,) = scaled(site, "send_email", 1)
    assert site.publish("work", {"to": "ann@example.org"}).status_code == 200

    def handled() -> bool:
        lines = site.get(f"/logs/workers/logs/{pid}").json()["lines"]
        return any("Processing message: {'message': {'to': 'ann@example.org'}" in line for line in lines)

    eventually(handled)
    eventually(lambda: messages(site) == 0)
    eventually(lambda: site.list_workers()[0]["processed"] == 1)


def test_a_worker_that_is_killed_loses_no_message(site: Site) -> None:
    (first,) = scaled(site, "hold", 1, prefetch=1)
    site.send("work", ["precious"])
    assert eventually(site.begun) == {f"precious-{first}"}
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(site.begun()) == 2)
    (site.out / "go").touch()
    (second,) = eventually(site.done)
    assert second.rpartition("-")[0] == "precious"
    assert second != f"precious-{first}"
    (worker,) = site.list_workers()
    assert worker["restarts"] == 1
    eventually(lambda: messages(site) == 0)


def test_ten_thousand_messages_through_eight_workers_and_none_is_lost(site: Site) -> None:
    scaled(site, "record", 8)
    numbers = [str(n) for n in range(10_000)]
    site.send("work", numbers)
    eventually(lambda: len(set(site.recorded())) == len(numbers), within=120, every=0.2)
    eventually(lambda: messages(site) == 0)
    assert set(site.recorded()) == set(numbers)
    eventually(lambda: sum(w["processed"] for w in site.list_workers()) == len(numbers))


# -- crashing and ending -----------------------------------------------------------------------------------------

CRASH = """\
import sys

from .base import BaseWorker


class Crash(BaseWorker):
    def __init__(self, channel, queue_name):
        print("about to fail", flush=True)
        raise RuntimeError("no database at db.example.org")
"""
CRASH += "\n    def process_message(self, ch, method, properties, body):\n        return True\n"


def test_a_crash_loop_shows_its_exit_code_and_last_words_and_its_log_stays(site: Site) -> None:
    site.worker("crash", CRASH)
    site.write(pool("crash", count=1))

    def in_backoff() -> dict[str, Any]:
        found = site.list_workers(state="backoff")
        assert found, site.list_workers()
        return found[0]

    def told() -> bool:
        """Between two tries; each is another moment."""
        status = site.status()
        assert not status["healthy"]
        reason = status["queues"]["work"]["reason"]
        assert "crash: 0 of 1 ready" in reason
        assert "backoff" in reason
        assert "exit code 1: RuntimeError: no database at db.example.org" in reason
        return True

    worker = eventually(in_backoff)
    why, _, loop = worker["reason"].partition(" (crash loop: ")  # it is one after a few deaths
    assert why == "exit code 1: RuntimeError: no database at db.example.org"
    assert not loop or loop.endswith(" s)")
    assert worker["restarts"] >= 1
    assert worker["retry_at"]
    eventually(told)
    page = site.get(f"/logs/workers/logs/{worker['pid']}")
    assert page.status_code == 200
    assert any("about to fail" in line for line in page.json()["lines"])


def test_a_mended_module_ends_its_crash_loop(site: Site) -> None:
    site.worker("crash", CRASH)
    site.write(pool("crash", count=1))
    eventually(lambda: site.list_workers(state="backoff"))
    site.worker("crash", CRASH.replace("raise RuntimeError", "print"))
    eventually(lambda: len(site.pids()) == 1)


GRANDPARENT = """\
import subprocess
import sys

from .base import BaseWorker


class Grandparent(BaseWorker):
    def __init__(self, channel, queue_name):
        super().__init__(channel, queue_name)
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])

    def process_message(self, ch, method, properties, body):
        return True
"""


def test_a_stop_leaves_no_process_not_even_the_workers_own_children(site: Site) -> None:
    site.worker("grandparent", GRANDPARENT)
    scaled(site, "grandparent", 2)
    # The daemon, two workers, a child of each. What has just been forked does not have its own name yet.
    eventually(lambda: len(processes_of(site) - zygotes_of(site)) == 5)
    assert site.stop() == 0
    eventually(lambda: not processes_of(site))  # what was killed takes the kernel a moment
    site.start()


def test_scaling_down_ends_the_workers_own_children_too(site: Site) -> None:
    site.worker("grandparent", GRANDPARENT)
    scaled(site, "grandparent", 2)
    scaled(site, "grandparent", 0)
    eventually(lambda: len(processes_of(site) - zygotes_of(site)) == 1)


def test_no_zombies_are_left_of_workers_that_end_in_all_ways(site: Site) -> None:
    pids = scaled(site, "echo", 3)
    for pid, number in zip(pids, (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV), strict=True):
        os.kill(pid, number)
    eventually(lambda: len(site.pids()) == 3 and not site.pids() & pids)
    assert site.process is not None
    eventually(lambda: not zombies_under(site.process.pid))  # type: ignore[union-attr]


def test_the_log_of_a_worker_can_be_read_by_its_pid_after_it_ended(site: Site) -> None:
    (pid,) = scaled(site, "echo", 1)
    site.send("work", ["remember me"])
    eventually(lambda: messages(site) == 0)
    scaled(site, "echo", 0)
    page = site.get(f"/logs/workers/logs/{pid}", lines=1000).json()
    assert page["pid"] == pid
    assert any("remember me" in line for line in page["lines"])
    assert any("1 processed, 0 failed" in line for line in page["lines"])
