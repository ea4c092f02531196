"""What all tests share: a real broker for the session, a virtual host for each test, and the whole system running."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster import Cluster
from tests.nodes import TestNode, TestVhost
from tests.servers import shipped, version4, version4_or_skip
from tests.system import System

_numbers = itertools.count(1)

# How long an example took tells how busy the machine was: by itself hypothesis fails a test over 200 ms.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# A shell that starts the suite in the background has it ignore Ctrl-C, and every process under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object | None:
    """Runs `async def test_…` in a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """One node for the whole session."""
    node = TestNode(tmp_path_factory.mktemp("broker"))
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="session")
def broker4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A node of RabbitMQ 4, for the tests that ask for it."""
    node = TestNode(tmp_path_factory.mktemp("broker4"), version4_or_skip())
    node.start()
    yield node
    node.stop()


@pytest.fixture
def vhost4(broker4: TestNode) -> Iterator[TestVhost]:
    """A virtual host of this test's own on RabbitMQ 4."""
    made = broker4.make_vhost(f"test/{next(_numbers)}")
    yield made
    broker4.drop_vhost(made.name)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes, for the tests that ask for them; whoever kills one starts it again."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), version4() or shipped())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def vhost(broker: TestNode) -> Iterator[TestVhost]:
    """A virtual host of this test's own on the session's node."""
    made = broker.make_vhost(f"test/{next(_numbers)}")
    yield made
    broker.drop_vhost(made.name)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[TestNode]:
    """A node of this test's own, to be stopped, killed and started at will. It runs."""
    node = TestNode(tmp_path / "own-broker")
    node.start()
    yield node
    node.stop()


@pytest.fixture
def system(tmp_path: Path, vhost: TestVhost) -> Iterator[System]:
    """A folder with queues.yaml and workers/, on this test's virtual host. Call `start()` to have the daemon run."""
    made = System(tmp_path / "site", vhost.amqp_url, vhost.management_url)
    yield made
    made.stop()


@pytest.fixture
def on_own_broker(own_broker: TestNode, tmp_path: Path) -> Iterator[tuple[System, TestVhost]]:
    """As `system`, on a node of this test's own, and the virtual host there."""
    vhost = own_broker.make_vhost("site")
    made = System(tmp_path / "site", vhost.amqp_url, vhost.management_url)
    yield made, vhost
    made.stop()


@pytest.fixture
def live_system(system: System) -> System:
    """The whole system, running, with no queues yet."""
    system.start()
    return system


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """The quick and pure first, the whole system last: a plain mistake shows in seconds."""
    order = {"state": 0, "reconciler": 1, "supervisor": 2, "workers": 3, "broker": 4, "web": 5, "live": 6}
    items.sort(key=lambda item: order.get(Path(item.path).parent.name, 1))
