"""The folder `workers/` beside the followed file: checked out if the repository has it, else the one on this machine.

`site/workers` is a link that is moved at once from one whole checkout to the next.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath

from reconciler.settings import Followed
from state.git import Clone

KEPT = 2  # checkouts, beside those that workers run from: they may import late, or read a file beside their module
IN_USE = ".reconciler-in-use"  # in each checkout: a file that workers hold a lock of, see `workers/__main__.py`


class Workers:
    """Beside the clone in `folder`: `site/workers`, a link, and `trees/`, what it leads to."""

    def __init__(self, folder: Path, followed: Followed) -> None:
        self._site = folder / "site"
        self._trees = folder / "trees"
        self._here = followed.workers_here
        self._path = str(PurePosixPath(followed.path).parent / "workers")
        self.taken = False  # does the repository bring them?

    async def follow(self, clone: Clone, commit: str) -> None:
        """Brings the link to what `commit` says. Raises GitFailed, OSError."""
        tree = await clone.folder(commit, self._path)
        self.taken = tree is not None
        target = self._trees / tree / "workers" if tree else self._here
        if tree and not target.is_dir():
            fresh = self._trees / f".{tree}"
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
            await clone.check_out(tree, fresh / "workers")
            await asyncio.to_thread(fresh.rename, self._trees / tree)
        if tree:
            await asyncio.to_thread((target.parent / IN_USE).touch)  # also of one that an older version made
        await asyncio.to_thread(self._link, target)

    def _link(self, target: Path) -> None:
        self._site.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = self._site / "workers"
        if link.is_symlink() and Path(os.readlink(link)) == target:
            return
        fresh = self._site / ".workers"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)
        self._sweep(target)

    def _sweep(self, target: Path) -> None:
        if target.parent.parent == self._trees:
            os.utime(target.parent)
        with suppress(OSError):
            trees = sorted(self._trees.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
            for old in trees[KEPT:]:
                if not is_used(old):
                    shutil.rmtree(old, ignore_errors=True)


def is_used(tree: Path) -> bool:
    """Does a worker run from it? Each holds a lock, also one whose module has not changed for many commits."""
    try:
        fd = os.open(tree / IN_USE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
