"""All zygotes of a daemon: one for each image that is in use, and those that earlier daemons left."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.supervisor.image import PER_WORKER, Image
from reconciler.supervisor.marker import MARKER
from reconciler.supervisor.starts import StartQueue
from reconciler.supervisor.zygote import Forked, Lost, Stale, Unfit, Zygote
from state.file import remove

HELLO = 0.5  # seconds for those of an earlier daemon to say what they know; one may be busy importing
DEAF = 10.0  # seconds for one that has imported its module to fork; then it is stopped or stuck, and is replaced
IMPORT = 120.0  # seconds for it to import its module, as for the check before
HOPELESS = 3  # zygotes of one image in a row that died before they had forked anything: there is no fourth
log = logging.getLogger(__name__)
MARK_ROOM = 4096  # bytes for a worker's mark, see workers/runtime/newborn.py


class Zygotes:
    """Gives each image its zygote, and each forked worker its parent."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop, cold: StartQueue) -> None:
        self._folder = folder
        self._loop = loop
        self._cold = cold
        self._by_image: dict[str, Zygote] = {}
        self._all: set[Zygote] = set()
        self._unfit: dict[str, str] = {}
        self._deaths: dict[str, int] = {}
        self.deaf = DEAF
        self._numbers = itertools.count(1)
        self._ended: dict[int, int] = {}  # the codes of children whose end nobody has asked for yet
        self._asking: dict[int, asyncio.Event] = {}
        self._starting: set[asyncio.Task[None]] = set()

    async def reconnect(self) -> None:
        """Connects to those that an earlier daemon left, and hears which of their children live and how some ended.

        They are not forked from: since they were started there may have been an upgrade.
        """
        for path in self._folder.glob("*.sock"):
            zygote = Zygote(path, self._loop, self._child_ended)
            try:
                zygote.connect()
                zygote.retired = True
                self._all.add(zygote)
            except OSError:
                _remove(zygote)
        with suppress(TimeoutError):
            async with asyncio.timeout(HELLO):
                await asyncio.gather(*(zygote.ready.wait() for zygote in self._all))

    @property
    def pids(self) -> set[int]:
        """Those that are our children."""
        return {zygote.pid for zygote in self._all if zygote.pid}

    def parent_of(self, pid: int) -> Zygote | None:
        """The zygote that has this child."""
        return next((zygote for zygote in self._all if not zygote.dead and pid in zygote.alive), None)

    def why_unfit(self, image: Image) -> str | None:
        """Why workers of this image cannot be forked, as far as it is known."""
        return self._unfit.get(image.key)

    async def fork(
        self, image: Image, environment: Mapping[str, str], request: Mapping[str, Any], log: int
    ) -> tuple[Forked, Zygote]:
        """A child of the image's zygote, which is started if there is none. Raises Unfit, and OSError.

        Of its `environment` it is told what its zygote has not got: most of it is the same for all.
        """
        while True:
            if why := self.why_unfit(image):
                raise Unfit(why)
            zygote = self._by_image.get(image.key)
            if zygote is None or zygote.dead:
                zygote = self._start(image, environment)
            try:
                await zygote.ready.wait()
                async with asyncio.timeout(self.deaf):
                    forked = await zygote.fork({**request, "env": zygote.lacks(environment)}, log)
            except TimeoutError:
                await self._give_up_on(zygote, image)
            except Lost:
                await self._mourn(zygote, image)
            except Stale:
                self._replace(zygote, image)
            except Unfit as unfit:
                self._unfit[image.key] = str(unfit)
            else:
                self._deaths.pop(image.key, None)
                return forked, zygote

    async def code_of(self, pid: int, parent: Zygote, seconds: float) -> int | None:
        """How a child ended; None if its parent does not say in time, or has died."""
        if pid not in self._ended and not parent.dead:
            self._asking[pid] = asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._asking[pid].wait()
            self._asking.pop(pid, None)
        return self.take_code(pid)

    def take_code(self, pid: int) -> int | None:
        """How a child ended, if that was told; its zygote then forgets it."""
        code = self._ended.pop(pid, None)
        if code is not None:
            for zygote in self._all:
                zygote.known(pid)
        return code

    def retire(self, images: set[str]) -> None:
        """Has those end that none of `images` needs, as soon as they have no children."""
        for key in self._by_image.keys() - images:
            self._by_image.pop(key).retire()
        for zygote in [zygote for zygote in self._all if zygote.gone]:
            _remove(zygote)
            self._all.discard(zygote)

    async def close(self) -> None:
        """Has all end that have no children left, and sees them off."""
        for zygote in self._all:
            zygote.retire()
        await self._until_gone(2.0)
        for zygote in self._all:
            zygote.kill()
        await self._until_gone(10.0)  # killed: it is a matter of the kernel
        self.retire(set())
        self.let_go()

    async def _until_gone(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(zygote.pid and not zygote.gone for zygote in self._all):
                    await asyncio.sleep(0.005)

    def let_go(self) -> None:
        """Leaves them to the next daemon."""
        for task in self._starting:
            task.cancel()
        for zygote in self._all:
            zygote.close()
        self._all.clear()
        self._by_image.clear()

    def _start(self, image: Image, environment: Mapping[str, str]) -> Zygote:
        path = self._folder / f"{image.key}-{os.getpid()}-{next(self._numbers)}.sock"
        zygote = Zygote(path, self._loop, self._child_ended)
        zygote.environment = bare(environment)
        self._by_image[image.key] = zygote
        self._all.add(zygote)
        self._starting.add(task := self._loop.create_task(self._launch(zygote, image)))
        task.add_done_callback(self._starting.discard)
        return zygote

    async def _launch(self, zygote: Zygote, image: Image) -> None:
        async with self._cold.turn():
            zygote.start(image)
            try:
                async with asyncio.timeout(IMPORT):
                    await zygote.ready.wait()
            except TimeoutError:
                zygote.kill(all_the_same=True)

    async def _give_up_on(self, zygote: Zygote, image: Image) -> None:
        """It does not answer. Its children go on as orphans, and we hear of their ends by their pidfds."""
        log.warning("the process that forks workers of %s does not answer: it is killed and replaced", image.module)
        zygote.kill(all_the_same=True)
        await self._mourn(zygote, image)

    async def _mourn(self, zygote: Zygote, image: Image) -> None:
        if self._by_image.get(image.key) is not zygote:
            return
        del self._by_image[image.key]
        deaths = self._deaths[image.key] = self._deaths.get(image.key, 0) + 1
        if deaths >= HOPELESS:
            self._unfit[image.key] = f"the process that imports its module for all dies: {await zygote.last_words()}"

    def _replace(self, zygote: Zygote, image: Image) -> None:
        if self._by_image.get(image.key) is zygote:
            del self._by_image[image.key]
            zygote.retire()

    def _child_ended(self, pid: int, code: int) -> None:
        self._ended[pid] = code
        if asking := self._asking.get(pid):
            asking.set()


def _remove(zygote: Zygote) -> None:
    remove(zygote.path)
    remove(zygote.log)


def bare(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment without what is that worker's own, and with room for the mark of each."""
    own = (*PER_WORKER, "SLOT", "NOTIFY_SOCKET", "LOG_FILE")
    kept = {key: value for key, value in environment.items() if key not in own}
    return kept | {MARKER: "zygote".ljust(MARK_ROOM), "SPT_NOENV": "1"}
