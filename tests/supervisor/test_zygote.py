"""Workers forked from a process that has imported their module: as good as any other, and sooner there."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import workers
from reconciler.supervisor import proc, zygotes
from reconciler.supervisor.marker import MARKER, owner_of, read_mark
from reconciler.supervisor.zygote import Zygote, short
from state.processes import Limits, ObservedWorker, Pool, WorkerSpec, WorkerState
from tests.nodes import TestVhost
from tests.supervisor.support import Running, fields, is_gone, log_of, supervised
from tests.waiting import async_eventually

ENTRY = Path(workers.__path__[0]) / "__main__.py"
POOL = Pool("work", "work")
NO_LIMITS = Limits()
HEAD = "import os, sys, random\nfrom .base import BaseWorker\n"
BODY = """
class Work(BaseWorker):
    def process_message(self, ch, method, properties, body):
        self.logger.info("got {}", body.decode())
"""


@pytest.fixture
def make(tmp_path: Path, vhost: TestVhost) -> Callable[..., WorkerSpec]:
    """Writes the module, and says how its workers are to be run."""
    folder = tmp_path / "site" / "workers"
    folder.mkdir(parents=True)
    with vhost.node.api() as api:
        path = f"/api/queues/{vhost.name.replace('/', '%2F')}/work"
        api.put(path, json={"durable": True}).raise_for_status()

    def make(top: str = "", body: str = BODY, limits: Limits = NO_LIMITS, **env: str) -> WorkerSpec:
        source = HEAD + top + body
        (folder / "work.py").write_text(source)
        return WorkerSpec(
            pool=POOL,
            command=(sys.executable, "-P", str(ENTRY), "run", "work"),
            env={
                "AMQP_URL": vhost.amqp_url,
                "QUEUE_NAME": "work",
                "WORKER_NAME": "work",
                "WORKERS_FOLDER": str(folder),
                **env,
            },
            cwd=str(folder.parent),
            grace=30.0,
            digest=str(hash((source, str(env), str(limits)))),
            module="work",
            code=str(hash(source)),
            zygote=True,
            limits=limits,
        )

    return make


async def ready(it: Running, count: int = 1) -> list[ObservedWorker]:
    def all_ready() -> list[ObservedWorker]:
        found = [w for w in it.supervisor.observe() if w.state is WorkerState.READY]
        return found if len(found) == count else []

    return await async_eventually(all_ready, 60)


def parent_of(pid: int) -> int:
    stat = proc.read_stat(pid)
    assert stat
    return stat.parent


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()


def descriptors(pid: int) -> dict[int, str]:
    found: dict[int, str] = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed since
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


async def kept_by(zygote: int, state: Path) -> dict[int, str]:
    """Its descriptors once it has closed what it was handed for its children; it tells of them first."""
    handed = ("pipe:", "/memfd:", str(state / "logs"))

    def kept() -> dict[int, str]:
        found = descriptors(zygote)
        return {} if any(name.startswith(handed) for name in found.values()) else found

    return await async_eventually(kept)


async def test_one_zygote_is_the_parent_of_all(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    async with supervised(tmp_path / "state") as it:
        for slot in range(5):
            it.supervisor.start_worker(make(), slot)
        found = await ready(it, 5)
        assert len({w.pid for w in found}) == 5
        (zygote,) = {parent_of(w.pid or 0) for w in found}
        assert command_line(zygote) == "reconciler: zygote work"
        assert parent_of(zygote) == os.getpid()
        assert {w.exec_reason for w in found} == {None}
    await async_eventually(lambda: is_gone(zygote))
    assert list((tmp_path / "state" / "zygotes").iterdir()) == []


async def test_pools_of_one_image_have_each_its_own_environment(
    tmp_path: Path, make: Callable[..., WorkerSpec], vhost: TestVhost
) -> None:
    with vhost.node.api() as api:
        path = f"/api/queues/{vhost.name.replace('/', '%2F')}/other"
        api.put(path, json={"durable": True}).raise_for_status()
    tell = BODY.replace("    def process", "    def __init__(self, *_):\n        TELL\n    def process").replace(
        "TELL", "print('IS', os.environ['QUEUE_NAME'], os.environ.get('QUEUE_DEAD_LETTER'), flush=True)"
    )
    one = make(body=tell, PREFETCH="3", QUEUE_DEAD_LETTER="dead", LOG_FORMAT="text")
    two = replace(one, pool=Pool("other", "work"), env={**one.env, "QUEUE_NAME": "other", "PREFETCH": "7"})
    del two.env["QUEUE_DEAD_LETTER"]  # type: ignore[attr-defined]
    async with supervised(tmp_path / "state") as it:
        for slot in range(3):
            for spec in (one, two):
                it.supervisor.start_worker(spec, slot)
        found = await ready(it, 6)
        assert len({parent_of(worker.pid or 0) for worker in found}) == 1
        for worker in found:
            theirs = ("work dead", 3) if worker.pool == POOL else ("other None", 7)
            assert f"IS {theirs[0]}\n" in log_of(worker)
            assert f"consuming from {worker.pool.queue} as work-{worker.slot}-{worker.pid}: " in log_of(worker)
            assert f"prefetch {theirs[1]}," in log_of(worker)


async def test_a_zygote_keeps_nothing_of_the_pools_that_it_has_forked_for(
    tmp_path: Path, make: Callable[..., WorkerSpec]
) -> None:
    one = make()
    two = replace(one, pool=Pool("other", "work"), env={**one.env, "PREFETCH": "7"})
    async with supervised(tmp_path / "state") as it:
        opened = []
        for turn in range(4):
            for spec in (one, two):
                it.supervisor.start_worker(spec, turn)
                found = await ready(it, 2 * turn + 1 + (spec is two))
            opened.append(len(await kept_by(parent_of(found[0].pid or 0), tmp_path / "state")))
        assert len(set(opened)) == 1, opened


FORKS = """
import logging, threading
own = random.Random(7)
hooked = []
os.register_at_fork(after_in_child=lambda: hooked.append(os.getpid()))
random.gauss(0, 1)  # which keeps a second one for the next call

def told():
    here = threading.main_thread().native_id == threading.get_native_id()
    return " ".join(map(str, (here, hooked[-1:] == [os.getpid()], random.gauss(0, 1), random.random())))
"""


async def test_what_a_module_and_python_do_at_a_fork_is_done_and_in_the_workers_own_forks_too(
    tmp_path: Path, make: Callable[..., WorkerSpec]
) -> None:
    body = BODY.replace(
        "    def process",
        """    def __init__(self, *_):
        print("IS", told(), flush=True)
        with logging._lock if hasattr(logging, "_lock") else threading.Lock():
            threading.Thread(target=lambda: logging.getLogger("x").warning("waits for the lock")).start()
            random.seed(1)
            child = os.fork()
            if child == 0:
                logging.getLogger("x").warning("has a lock of its own")
                print("IS", told(), flush=True)
                os._exit(0)
        os.waitpid(child, 0)
        random.seed(1)
        print("IS", told(), flush=True)

    def process""",
    )
    async with supervised(tmp_path / "state") as it:
        for slot in range(2):
            it.supervisor.start_worker(make(FORKS, body), slot)
        numbers = []
        for worker in await ready(it, 2):
            log = log_of(worker)
            assert "has a lock of its own" in log
            said = [line.split() for line in log.splitlines() if line.startswith("IS ")]
            assert [line[2] for line in said] == ["True"] * 3
            assert said[0][1] == "True"  # Python itself forgets that in a fork, before 3.12
            numbers += [number for line in said for number in line[3:]]
        assert len(set(numbers)) == len(numbers) - 2, "but for those after random.seed(1)"


async def test_one_that_does_not_answer_is_replaced_and_its_workers_go_on(
    tmp_path: Path, make: Callable[..., WorkerSpec]
) -> None:
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make(), 0)
        (first,) = await ready(it)
        assert it.supervisor._zygotes
        it.supervisor._zygotes.deaf = 0.5
        stopped = parent_of(first.pid or 0)
        os.kill(stopped, signal.SIGSTOP)
        it.supervisor.start_worker(make(), 1)
        found = await ready(it, 2)
        assert found[0].pid == first.pid
        await async_eventually(lambda: is_gone(stopped))
        assert parent_of(found[1].pid or 0) != stopped
        os.kill(first.pid or 0, signal.SIGSEGV)
        await async_eventually(lambda: any(e.kind == "exited" and "SIGSEGV" in e.text for e in it.events))
        await ready(it, 2)


async def test_it_ends_as_any_python_process(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    """What was registered for the end runs, executors end, and nothing that was printed is lost."""
    body = BODY.replace(
        "    def process",
        "    def __init__(self, channel, queue_name):\n"
        "        import atexit, concurrent.futures, threading, time\n"
        "        atexit.register(print, 'at exit', flush=False)\n"
        "        concurrent.futures.ThreadPoolExecutor(2).submit(print, 'in a thread').result()\n"
        "        late = lambda: (threading.main_thread().join(), print('after main'))\n"
        "        threading.Thread(target=late).start()\n"
        "        HELD.write('held'), PACKED.write(b'packed')\n"
        "        self.own = open(os.environ['WORKERS_FOLDER'] + '/own', 'w')\n"
        "        self.own.write('own')\n"
        "        self.me = self\n"
        "    def process",
    )
    body = (
        "import gzip\nHELD = open(os.environ['WORKERS_FOLDER'] + '/held', 'w')\n"
        "PACKED = gzip.open(os.environ['WORKERS_FOLDER'] + '/packed', 'wb')\n"
    ) + body
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make(body=body), 0)
        (worker,) = await ready(it)
        it.supervisor.stop_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe() == ())
        found = it.supervisor.find(worker.pid or 0)
        assert found
        assert found.reason == "stopped"
        text = log_of(found)
        assert text.index("in a thread") < text.index("after main") < text.index("at exit")
    (folder,) = {path.parent for path in tmp_path.rglob("held")}
    assert (folder / "held").read_text() == "held"
    assert (folder / "own").read_text() == "own"
    assert gzip.decompress((folder / "packed").read_bytes()) == b"packed"


async def test_it_has_one_thread_and_is_connected_to_nobody_but_us(
    tmp_path: Path, make: Callable[..., WorkerSpec]
) -> None:
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make(), 0)
        (worker,) = await ready(it)
        zygote = parent_of(worker.pid or 0)
        assert len(list(Path(f"/proc/{zygote}/task").iterdir())) == 1
        sockets = [name for name in descriptors(zygote).values() if name.startswith("socket:")]
        assert len(sockets) == 6, "where it listens, this daemon, and twice both ends of what wakes a loop"
        (log,) = (tmp_path / "state" / "zygotes").glob("*.log")
        assert "consuming from rehearsal" in log.read_text()
        assert not {"WARNING", "ERROR"} & set(log.read_text().split())


async def test_it_is_in_every_way_a_process_of_its_own(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    tell = BODY.replace(
        "    def process", "    def __init__(self, channel, queue_name):\n        TELL\n    def process"
    ).replace(
        "TELL",
        "print('IS', __import__('json').dumps(dict(cwd=os.getcwd(), random=random.random(), env=dict(os.environ), "
        "nice=os.nice(0), files=__import__('resource').getrlimit(7)[0], "
        "cores=sorted(os.sched_getaffinity(0)), gc=__import__('gc').isenabled(), "
        "term=str(__import__('signal').getsignal(15)))))",
    )
    limits = Limits(nice=3, cpu_affinity=(0,), rlimits={"nofile": 333})
    async with supervised(tmp_path / "state") as it:
        for slot in range(2):
            it.supervisor.start_worker(make(body=tell, limits=limits, GREETING="hällo"), slot)
        found = await ready(it, 2)
        told = [json.loads(next(line for line in log_of(w).splitlines() if line.startswith("IS "))[3:]) for w in found]
        for worker, own in zip(found, told, strict=True):
            pid = worker.pid or 0
            stat = proc.read_stat(pid)
            assert stat
            assert (stat.session, stat.group) == (pid, pid)
            assert command_line(pid) == f"reconciler: work/work[{worker.slot}]"
            assert own["cwd"] == str(tmp_path / "site")
            assert (own["env"]["SLOT"], own["env"]["GREETING"]) == (str(worker.slot), "hällo")
            assert (own["nice"], own["files"], own["cores"], own["gc"]) == (3, 333, [0], True)
            mark = read_mark(proc.environ_of(pid, MARKER))
            assert mark
            assert (mark.owner, mark.pool, mark.slot) == (owner_of(tmp_path / "state"), POOL, worker.slot)
            files = descriptors(pid)
            assert (files[0], files[1], files[2]) == ("/dev/null", worker.log_path, worker.log_path)
            assert not any("zygote" in name or "memfd" in name or name.startswith("/proc") for name in files.values())
        assert told[0]["random"] != told[1]["random"]
        ours = {name for name in descriptors(found[0].pid or 0).values() if name.startswith("socket:")}
        theirs = {name for name in descriptors(parent_of(found[0].pid or 0)).values() if name.startswith("socket:")}
        assert not ours & theirs


@pytest.mark.parametrize(
    ("end", "reason"), [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGSEGV, "killed by SIGSEGV")]
)
async def test_how_one_ended_is_known(
    tmp_path: Path, make: Callable[..., WorkerSpec], end: signal.Signals, reason: str
) -> None:
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make(), 0)
        (first,) = await ready(it)
        os.kill(first.pid or 0, end)
        await async_eventually(lambda: it.supervisor.observe()[0].pid not in (None, first.pid))
        ended = it.supervisor.find(first.pid or 0)
        assert ended
        assert (ended.reason or "").startswith(reason)
        await ready(it)


async def test_what_it_has_started_ends_with_it(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    family = BODY.replace(
        "    def process",
        "    def __init__(self, channel, queue_name):\n"
        "        import subprocess\n"
        "        print('CHILD', subprocess.Popen(['sleep', '1000']).pid, flush=True)\n"
        "    def process",
    )
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make(body=family), 0)
        (first,) = await ready(it)
        child = int(log_of(first).split("CHILD ")[1].split()[0])
        os.kill(first.pid or 0, signal.SIGKILL)
        await async_eventually(lambda: is_gone(child))


UNFIT = {
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        "1 thread",
    ),
    "socket": ("import socket\nkept = socket.socket()\n", "opens 1 socket"),
    "queue name": ("NAME = os.environ['QUEUE_NAME']\n", "reads QUEUE_NAME"),
    "slot": ("SLOT = os.getenv('SLOT', '?')\n", "reads SLOT"),
    "end": ("if 'zygote' in sys.argv: os._exit(7)\n", "exit code 7"),
}


@pytest.mark.parametrize("kind", UNFIT)
async def test_a_module_that_cannot_be_shared_is_executed(
    tmp_path: Path, make: Callable[..., WorkerSpec], kind: str
) -> None:
    top, words = UNFIT[kind]
    async with supervised(tmp_path / "state") as it:
        for slot in range(2):
            it.supervisor.start_worker(make(top), slot)
        found = await ready(it, 2)
        assert {parent_of(w.pid or 0) for w in found} == {os.getpid()}
        assert all(words in (w.exec_reason or "") for w in found), found[0].exec_reason


async def test_a_zygote_that_dies_is_replaced_and_its_workers_go_on(
    tmp_path: Path, make: Callable[..., WorkerSpec]
) -> None:
    async with supervised(tmp_path / "state") as it:
        for slot in range(3):
            it.supervisor.start_worker(make(), slot)
        before = await ready(it, 3)
        zygote = parent_of(before[0].pid or 0)
        os.kill(zygote, signal.SIGKILL)
        await async_eventually(lambda: is_gone(zygote) and parent_of(before[0].pid or 0) != zygote)
        assert it.supervisor.observe() == tuple(before)
        os.kill(before[0].pid or 0, signal.SIGKILL)
        await async_eventually(lambda: it.supervisor.observe()[0].pid not in (None, before[0].pid))
        after = await ready(it, 3)
        assert [w.pid for w in after[1:]] == [w.pid for w in before[1:]]
        assert command_line(parent_of(after[0].pid or 0)) == "reconciler: zygote work"
        ended = it.supervisor.find(before[0].pid or 0)
        assert ended
        assert (ended.reason or "").startswith(("killed by SIGKILL", "exit status unknown"))  # by kernel


async def test_a_file_that_the_module_imports_is_imported_anew(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    helper = tmp_path / "site" / "helper.py"
    helper.write_text("WORD = 'one'\n")
    told = "    def __init__(self, channel, queue_name):\n        print('WORD', helper.WORD)\n    def process"
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make("import helper\n", BODY.replace("    def process", told)), 0)
        (first,) = await ready(it)
        assert "WORD one" in log_of(first)
        helper.write_text("WORD = 'another'\n")
        it.supervisor.restart_worker(POOL, 0)
        await async_eventually(lambda: it.supervisor.observe()[0].pid not in (None, first.pid))
        (second,) = await ready(it)
        assert "WORD another" in log_of(second)


async def test_no_worker_begins_before_it_is_on_file(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    """A daemon that dies between the two leaves nothing."""
    async with supervised(tmp_path / "state") as it:
        launcher = it.supervisor._workshop().launcher
        process = await launcher.launch(make(), 0)
        assert "starts" not in Path(process.record.log_path).read_text() or not is_gone(process.pid)
        process.let_go(it.supervisor._workshop().loop)
        os.close(process._gate)
        await async_eventually(lambda: is_gone(process.pid))
        assert "consuming" not in Path(process.record.log_path).read_text()


DAEMON = """
import asyncio, pickle, sys
from pathlib import Path
from reconciler.supervisor import Supervisor
async def main():
    supervisor = Supervisor(Path(sys.argv[1]), lambda _: None)
    await supervisor.start()
    spec = pickle.loads(sys.stdin.buffer.read())
    for slot in range(3):
        supervisor.start_worker(spec, slot)
    while [w.state.value for w in supervisor.observe()] != ["ready"] * 3:
        await asyncio.sleep(0.02)
    print("up", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def killed_daemon(state: Path, spec: WorkerSpec) -> None:
    """Three workers of a daemon that was killed once they were ready."""
    import pickle

    command = [sys.executable, "-c", DAEMON, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdin
        assert daemon.stdout
        daemon.stdin.write(pickle.dumps(spec))
        daemon.stdin.close()
        assert daemon.stdout.readline() == b"up\n"
        daemon.kill()


async def test_the_next_daemon_hears_from_the_zygote_how_they_ended(
    tmp_path: Path, make: Callable[..., WorkerSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygotes, "HELLO", 30.0)  # however busy the machine
    spec = make()
    killed_daemon(tmp_path / "state", spec)
    records = [fields(path) for path in (tmp_path / "state" / "processes").glob("*.json")]
    pids = {record["slot"]: record["pid"] for record in records}
    zygote = parent_of(pids[0])
    os.kill(pids[0], signal.SIGSEGV)
    await async_eventually(lambda: proc.read_stat(pids[0]) is None)  # its zygote has reaped it
    async with supervised(tmp_path / "state") as it:
        assert [w.pid for w in it.supervisor.observe()] == [pids[1], pids[2]]
        ended = it.supervisor.find(pids[0])
        assert ended
        assert (ended.reason or "").startswith("ended while no daemon was running; killed by SIGSEGV")
        os.kill(pids[1], signal.SIGABRT)
        await async_eventually(lambda: it.supervisor.find(pids[1]).state is WorkerState.EXITED)  # type: ignore[union-attr]
        assert (it.supervisor.find(pids[1]).reason or "").startswith("killed by SIGABRT")  # type: ignore[union-attr]
        await ready(it, 2)
        for slot in range(3):
            it.supervisor.start_worker(spec, slot)
        found = await ready(it, 3)
        assert pids[2] in {w.pid for w in found}
        assert {parent_of(w.pid or 0) for w in found if w.pid != pids[2]} != {zygote}, "a new daemon, a new zygote"
    await async_eventually(lambda: is_gone(zygote))


async def test_who_connects_hears_how_they_ended_before_it_hears_that_all_is_told(
    tmp_path: Path, make: Callable[..., WorkerSpec]
) -> None:
    killed_daemon(tmp_path / "state", make())
    first, *others = sorted(fields(path)["pid"] for path in (tmp_path / "state" / "processes").glob("*.json"))
    zygote = parent_of(first)
    os.kill(first, signal.SIGABRT)
    await async_eventually(lambda: proc.read_stat(first) is None)
    heard: list[dict[str, object]] = []
    [path] = (tmp_path / "state" / "zygotes").glob("*.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        with short(path) as address:
            client.connect(address)
        while not heard or "hello" not in heard[-1]:
            heard.append(json.loads(client.recv(65536)))
    assert heard == [{"ended": first, "code": -signal.SIGABRT}, {"hello": zygote, "alive": others}]
    async with supervised(tmp_path / "state"):
        pass  # which sees the others off


async def test_nobody_else_may_ask_it_for_a_child(tmp_path: Path, make: Callable[..., WorkerSpec]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    async with supervised(tmp_path / "state") as it:
        it.supervisor.start_worker(make(), 0)
        await ready(it)
        (path,) = (tmp_path / "state" / "zygotes").glob("*.sock")
        for folder in [path, *path.parents[:8]]:
            if str(folder) != "/":
                folder.chmod(folder.stat().st_mode | 0o777 if folder == path else folder.stat().st_mode | 0o711)
        child = os.fork()
        if child == 0:
            try:
                os.setresuid(65534, 65534, 65534)
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                    stranger.connect(str(path))
                    os._exit(0 if stranger.recv(100) == b"" else 1)
            except OSError:
                os._exit(0)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_room_for_a_title_is_not_shown(make: Callable[..., WorkerSpec]) -> None:
    from reconciler.supervisor.image import image_of

    one, other = image_of(make()), image_of(make(QUEUE_NAME="other"))
    assert one.key == other.key, "a queue's name is no part of the image"
    assert image_of(make(GREETING="x")).key != one.key
    assert image_of(make("# other code\n")).key != one.key


async def test_one_that_answers_no_more_holds_up_no_daemon(tmp_path: Path) -> None:
    """Each start leaves a connection in its queue, which is full some day."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stuck:
        stuck.bind(str(path))
        stuck.listen(8)
        refused = 0
        for _ in range(12):
            zygote = Zygote(path, asyncio.get_running_loop(), lambda *_: None)
            try:
                zygote.connect()
            except OSError:
                refused += 1
            zygote.close()
        assert refused
