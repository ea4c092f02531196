"""The embedded broker on real nodes: where it listens, what it keeps, what it leaves, and how it says no."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pika
import pytest

from reconciler.broker import embedded
from reconciler.broker import node as nodes
from reconciler.broker.embedded import EmbeddedBroker, installed
from reconciler.broker.keeper import keep
from reconciler.errors import Permanent
from tests.nodes import FLUSH, TestNode, ctl
from tests.waiting import async_eventually, eventually

ROOT = Path(__file__).parents[2]
DAEMON = """
import asyncio, signal, sys
from pathlib import Path
from reconciler.broker.embedded import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
asyncio.run(broker.start())
print(broker.pid, flush=True)
signal.pause()
"""


def pids_of(folder: Path) -> set[int]:
    """Every process of the node in `folder`, known by the home that it was given."""
    home = f"HOME={folder}".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if home in entry.read_bytes().split(b"\0"):
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def inodes_of(pid: int) -> Iterator[str]:
    """What its descriptors lead to; those that it closes meanwhile left out, as all of them if it ends."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield os.readlink(fd)


def nothing_is_left(folder: Path) -> None:
    """What was killed ends when the kernel comes to it."""
    eventually(lambda: not pids_of(folder))


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """The (address, port) pairs on which these processes listen, over IPv4 and IPv6; addresses as /proc writes them."""
    inodes = {inode for pid in pids for inode in inodes_of(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found


def publish(url: str, body: bytes) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def take(url: str) -> bytes | None:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        return connection.channel().basic_get("kept", auto_ack=True)[2]


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_listens_on_loopback_alone(broker: TestNode) -> None:
    remembered = json.loads((broker.folder / "node.json").read_text())
    ports = {value for name, value in remembered.items() if name.endswith("_port")}

    def on_loopback_alone() -> bool:  # the kernel's table may change while it is read
        sockets = listening(pids_of(broker.folder))
        assert {port for _, port in sockets} == ports
        assert {address for address, _ in sockets} <= {"0100007F", "00000000000000000000000001000000"}
        return True

    eventually(on_loopback_alone)


def test_its_secrets_are_its_owners(broker: TestNode) -> None:
    for name in ("node.json", ".erlang.cookie", "rabbitmq.conf"):
        assert (broker.folder / name).stat().st_mode & 0o077 == 0, name


def test_a_terminals_ctrl_c_does_not_reach_it(broker: TestNode) -> None:
    assert broker.pid is not None
    assert os.getsid(broker.pid) == os.getpgid(broker.pid) == broker.pid


def test_stop_leaves_nothing_and_a_restart_has_everything(broker: TestNode, own_broker: TestNode) -> None:
    urls = own_broker.amqp_url, own_broker.management_url
    publish(own_broker.amqp_url, b"through a stop")
    ports = {port for _, port in listening(pids_of(own_broker.folder))}
    own_broker.stop()
    nothing_is_left(own_broker.folder)
    assert not any(accepts(port) for port in ports)
    assert broker.pid is not None  # the other node, in another folder, did not notice

    own_broker.start()
    assert (own_broker.amqp_url, own_broker.management_url) == urls
    assert take(own_broker.amqp_url) == b"through a stop"


def test_a_killed_node_comes_back_with_its_ports_and_data(own_broker: TestNode) -> None:
    url = own_broker.amqp_url
    publish(url, b"through a crash")
    own_broker.kill()
    assert own_broker.pid is None
    own_broker.start()
    assert own_broker.amqp_url == url
    assert take(url) == b"through a crash"


class Heard:
    """What the keeper tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.back = asyncio.Event()

    def __call__(self, text: str, *, well: bool = False) -> None:
        self.lines.append(text)
        if well:
            self.back.set()


@contextlib.asynccontextmanager
async def kept(folder: Path) -> AsyncIterator[tuple[EmbeddedBroker, Heard]]:
    """A node that runs, and is kept running."""
    node, heard = EmbeddedBroker(folder), Heard()
    await node.start()
    keeper = asyncio.create_task(keep(node, heard))
    try:
        yield node, heard
        assert not keeper.done()
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})
        await node.stop()


def test_a_node_that_dies_is_started_again_where_it_was(tmp_path: Path) -> None:
    async def scene() -> None:
        async with kept(tmp_path) as (node, heard):
            before, url = node.pid, node.amqp_url
            assert before
            await asyncio.to_thread(publish, url, b"through a crash")
            await asyncio.to_thread(ctl, tmp_path, *FLUSH)
            os.kill(before, signal.SIGKILL)
            async with asyncio.timeout(90):
                await heard.back.wait()
            assert node.pid not in (None, before)
            assert node.amqp_url == url
            assert await asyncio.to_thread(take, url) == b"through a crash"
            assert "has ended (killed by SIGKILL): it is started again" in heard.lines[0]

    asyncio.run(scene())
    nothing_is_left(tmp_path)


def test_a_node_that_cannot_come_back_is_tried_again_until_it_can(tmp_path: Path) -> None:
    async def scene() -> None:
        async with kept(tmp_path) as (node, heard):
            spoilt = tmp_path / "conf.d" / "mine.conf"
            spoilt.write_text("no.such.setting = 1\n")
            assert node.pid
            os.kill(node.pid, signal.SIGKILL)
            await async_eventually(lambda: len(heard.lines) > 1, timeout=60)
            assert "no.such.setting" in heard.lines[1]
            assert "it is tried again in 1 s" in heard.lines[1]
            spoilt.unlink()
            async with asyncio.timeout(90):
                await heard.back.wait()

    asyncio.run(scene())


def test_the_node_of_a_killed_daemon_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with ünicode"
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    node = TestNode(folder)
    try:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        daemon.kill()
        daemon.communicate()
        node.start()
        assert node.pid == pid
    finally:
        node.stop()
    nothing_is_left(folder)


def test_a_stop_while_it_boots_is_no_kill_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 3600.0)  # one that does not heed its signals would not end

    async def start_and_stop(after: float) -> None:
        broker = EmbeddedBroker(tmp_path)
        starting = asyncio.create_task(broker.start())
        await asyncio.sleep(after)
        starting.cancel()
        await asyncio.wait({starting})
        await broker.stop()

    for after in (0.3, 1.5):
        asyncio.run(start_and_stop(after))
        nothing_is_left(tmp_path)


def test_a_start_that_was_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    broker = TestNode(tmp_path)
    (tmp_path / "data").mkdir()
    nodes.prepare(tmp_path, None)
    (tmp_path / "data" / "half").write_text("made")  # by a first boot that was killed
    broker.start()
    try:
        assert not (tmp_path / "data" / "half").exists()
    finally:
        broker.stop()


def test_a_configuration_it_refuses_is_told_with_the_log(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "mine.conf").write_text("no.such.setting = 1\n")
    with pytest.raises(Permanent, match=rf"(?s)died while it started.*{tmp_path}/log/.*no\.such\.setting"):
        TestNode(tmp_path).start()
    nothing_is_left(tmp_path)


def test_an_address_that_is_taken_is_told_with_the_log(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (tmp_path / "conf.d" / "mine.conf").write_text(f"listeners.tcp.2 = 127.0.0.1:{port}\n")
        with pytest.raises(Permanent, match=rf"(?s)died while it started.*{tmp_path}/log/.*eaddrinuse") as told:
            TestNode(tmp_path).start()
    assert len(str(told.value).splitlines()) < 8
    nothing_is_left(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Permanent, match=r"cannot write to .*/file"):
        TestNode(tmp_path / "file" / "broker").start()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}'])
def test_a_memory_that_is_spoilt_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text)
    with pytest.raises(Permanent, match=r"node\.json is not readable .*: mend it, or delete"):
        TestNode(tmp_path).start()
    assert (tmp_path / "node.json").read_text() == text


def test_without_rabbitmq_both_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not installed()
    with pytest.raises(Permanent, match=r"apt-get install rabbitmq-server.*AMQP_URL=") as told:
        TestNode(tmp_path / "broker").start()
    assert "\n" not in str(told.value)


def test_debians_wrapper_is_seen_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "rabbitmq-server"
    wrapper.write_text("#!/bin/sh\nexec su rabbitmq\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nodes.find_server() not in (None, wrapper)
    monkeypatch.setattr(nodes, "PLACES", ())
    assert nodes.find_server() is None


def test_ports_are_kept_until_somebody_else_has_one(tmp_path: Path) -> None:
    first = nodes.prepare(tmp_path, None)
    assert nodes.prepare(tmp_path, nodes.read_node(tmp_path)).ports == first.ports
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.dist_port))
        other.listen()
        with pytest.raises(Permanent, match=f"cannot listen on port {first.dist_port} again"):
            nodes.prepare(tmp_path, first, same_ports=True)
        second = nodes.prepare(tmp_path, nodes.read_node(tmp_path))
    assert set(second.ports).isdisjoint({first.dist_port})
    assert (second.name, second.password, second.cookie) == (first.name, first.password, first.cookie)


def test_a_copied_folder_is_another_node(tmp_path: Path, broker: TestNode) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(broker.folder / "node.json", copy)
    original, copied = nodes.read_node(broker.folder), nodes.read_node(copy)
    assert original is not None
    assert copied is not None
    assert original.mark != copied.mark
    assert set(nodes.prepare(copy, copied).ports).isdisjoint(original.ports)


def test_its_environment_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "RABBITMQ_NODE_PORT", "ERL_FLAGS"):
        monkeypatch.setenv(name, "the daemon's")
    assert "the daemon's" not in nodes.environment(nodes.prepare(tmp_path, None)).values()


def test_a_second_stop_and_a_kill_after_it_do_nothing(tmp_path: Path) -> None:
    broker = TestNode(tmp_path)
    broker.stop()
    broker.kill()
    assert broker.pid is None
    with pytest.raises(Permanent, match="has not been started"):
        broker.amqp_url  # noqa: B018


def test_what_is_told_while_it_starts(tmp_path: Path) -> None:
    told: list[str] = []

    async def start_and_stop() -> None:
        broker = EmbeddedBroker(tmp_path)
        await broker.start(told.append)
        await broker.start(told.append)  # it runs: nothing to do, nothing to say
        assert broker.pid
        os.kill(broker.pid, signal.SIGKILL)
        eventually(lambda: not broker.running)
        await broker.stop()

    asyncio.run(start_and_stop())
    tries = [number for number, line in enumerate(told) if "port mapper was not up in time; once more" in line]
    last = told[tries[-1] + 1 :] if tries else told  # a busy machine may take one or two
    assert [line.split(" (")[0].rstrip("0123456789") for line in last] == [
        f"broker: starting node {json.loads((tmp_path / 'node.json').read_text())['name']}, pid ",
        "broker: AMQP answers on 127.0.0.1:",
        "broker: management answers on 127.0.0.1:",
    ]
    nothing_is_left(tmp_path)
