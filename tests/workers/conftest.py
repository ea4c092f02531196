"""The broker and the user's folder that the tests of a worker process start with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.workers.worker_bench import Bench, Proxy


@pytest.fixture
def bench(tmp_path: Path, vhost: Any) -> Iterator[Bench]:
    made = Bench(tmp_path, vhost.amqp_url)
    yield made
    made.close()


@pytest.fixture
def proxy(vhost: Any) -> Iterator[Proxy]:
    made = Proxy(vhost.amqp_url)
    yield made
    with suppress(OSError):
        made.down()
