"""What the environment tells the daemon and is none of its workers' business: they inherit the rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

NAMES = ("RECONCILER_GIT_URL", "RECONCILER_GIT_SECRET")


@contextlib.contextmanager
def kept_private() -> Iterator[None]:
    """Takes them out of the environment for a while. What is executed after it has them again."""
    taken = {name: os.environ.pop(name) for name in NAMES if name in os.environ}
    try:
        yield
    finally:
        os.environ |= taken
