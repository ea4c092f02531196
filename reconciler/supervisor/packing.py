"""Has renamed log files packed, one at a time, by a process of low priority; asks again where somebody writes yet."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reconciler.journal import pack
from state.child import run

log = logging.getLogger(__name__)

AT_FIRST = 2.0  # seconds after the rename
AGAIN = 15.0  # seconds until another try
COMMAND = (sys.executable, "-I", "-S", str(Path(pack.__file__).resolve()))


class Packing:
    """`held` is told of each file that could not be packed because a process still has it open, `packed` of each that
    there is nothing more to do about."""

    def __init__(self, held: Callable[[Path], None], packed: Callable[[Path], None] = lambda _: None) -> None:
        self._held = held
        self._packed = packed
        self._waiting: dict[Path, float] = {}
        self._more = asyncio.Event()
        self._said: set[str] = set()

    def add(self, path: Path) -> None:
        if path not in self._waiting:
            self._waiting[path] = asyncio.get_running_loop().time() + AT_FIRST
            self._more.set()

    async def run(self) -> None:
        """Until it is cancelled; a process at work is then ended, and its file left as it was."""
        loop = asyncio.get_running_loop()
        while True:
            self._more.clear()
            path = min(self._waiting, key=lambda path: self._waiting[path], default=None)
            if path is None:
                await self._more.wait()
                continue
            if (wait := self._waiting[path] - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._more.wait()
                continue
            if await self._pack(path):
                self._waiting.pop(path, None)
                self._packed(path)
            else:
                self._waiting[path] = loop.time() + AGAIN

    async def _pack(self, path: Path) -> bool:
        """Whether there is nothing more to do."""
        if not path.exists():
            return True
        try:
            ended = await run([*COMMAND, str(path)])
        except OSError as error:
            self._say(f"cannot start the packing of logs: {error.strerror}")
            return False
        if ended.status == pack.BUSY:
            self._held(path)
        elif ended.status:
            self._say(f"cannot pack a log: {ended.err.decode(errors='replace').strip()[-300:]}")
        return ended.status == 0

    def _say(self, text: str) -> None:
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            log.warning("%s", text)
