"""What several tests of the supervisor start with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.supervisor.support import patience


@pytest.fixture
def patient() -> Iterator[None]:
    """Whoever is in backoff stays there."""
    with patience():
        yield
