"""Logs of several files, made as rotation makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reconciler.journal import pack
from reconciler.journal.parts import next_start, older_parts, part_name


def rotate(path: Path) -> Path:
    """The file gets the name of an older one."""
    return path.rename(part_name(path, next_start(older_parts(path)), path.stat().st_size))


def packed(path: Path) -> int:
    """Has it packed by a process of its own, and returns its exit code."""
    return subprocess.run([sys.executable, "-I", "-S", pack.__file__, str(path)], check=False).returncode


def make_log(path: Path, contents: list[bytes], to_pack: list[bool]) -> None:
    """The last of the contents is the file that is written to."""
    for number, content in enumerate(contents):
        path.write_bytes(content)
        if number < len(contents) - 1:
            renamed = rotate(path)
            if to_pack[number : number + 1] == [True]:
                pack_here(renamed)


def pack_here(path: Path) -> None:
    """In this process: a new one for each file takes its time."""
    fd = os.open(path, os.O_RDONLY)
    try:
        assert pack.replace(str(path), fd) == 0
    finally:
        os.close(fd)
