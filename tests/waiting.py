"""Waiting for conditions with a deadline; nothing here sleeps and hopes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], within: float = 30.0, every: float = 0.02) -> T:
    """Calls `check` until it returns something true; fails after `within` seconds with its last word.

    An AssertionError of `check` counts as "not yet".
    """
    deadline = time.monotonic() + within
    while True:
        try:
            result, reason = check(), "it stayed false"
        except AssertionError as error:
            result, reason = None, str(error) or "an assertion without a word"
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {reason}")
        time.sleep(every)


async def async_eventually(check: Callable[[], T | Awaitable[T]], timeout: float = 30.0, every: float = 0.02) -> T:
    """`eventually` for tests that run in a loop; `check` may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = check()
            result, reason = (await found if isinstance(found, Awaitable) else found), "it stayed false"
        except AssertionError as error:
            result, reason = None, str(error) or "an assertion without a word"
        if result:
            return result  # type: ignore[return-value]
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {reason}")
        await asyncio.sleep(every)
