"""A disk so small that it can be filled: a tmpfs in place of the state folder, where one may be mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

SIZE = 64 * 1024 * 1024


class SmallDisk:
    """`there` says whether it could be mounted; `why_not` in words, if not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
            self.there, self.why_not = done.returncode == 0, done.stderr.strip()
        except OSError as error:
            self.there, self.why_not = False, str(error)

    def fill(self) -> None:
        """Until not one byte is left."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        write(file.fileno(), size)

    def empty(self) -> None:
        """Takes the ballast away; nothing if there is none."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.there:
            plain = subprocess.run(["umount", str(self._folder)], capture_output=True)
            if plain.returncode:  # somebody still has a file open there
                subprocess.run(["umount", "--lazy", str(self._folder)], capture_output=True)
            self.there = False


def write(fd: int, size: int) -> None:
    if os.write(fd, b"\0" * size) < size:
        raise OSError(errno.ENOSPC, "full")
