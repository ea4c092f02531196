"""Edits a file again and again, killed with SIGKILL at one line of our code after the other: a program of its own,
because it forks. Prints how many lines there were.

    killed.py FOLDER            alone
    killed.py FOLDER foreign    somebody else writes in the worst moment: right before the exchange
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import state.file
import state.replace
from state.edit import set_value
from state.file import DesiredFile
from state.reader import parse

TEXT = "version: 1\nqueues:\n  a: {}\n"
WATCHED = {state.file.__file__, state.replace.__file__}


def main(folder: Path, foreign: bool) -> None:
    path = folder / "queues.yaml"
    for number in count(1):
        for entry in folder.iterdir():
            entry.unlink()
        path.write_text(TEXT)
        child = os.fork()
        if child == 0:
            edit_until(path, number, foreign)
        status = os.waitpid(child, 0)[1]
        check(path, foreign and (folder / "written").exists())
        if not os.WIFSIGNALED(status):
            assert status == 0, f"the edit failed before line {number}"
            print(number - 1)
            return


def edit_until(path: Path, number: int, foreign: bool) -> None:
    if foreign:
        write_before_exchange(path)
    sys.settrace(Killer(number).trace)
    DesiredFile(path).edit(lambda text: set_value(text, ("queues", "ours"), {}))
    os._exit(0)


class Killer:
    def __init__(self, number: int) -> None:
        self.left = number

    def trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


def write_before_exchange(path: Path) -> None:
    real = state.replace._rename

    def rename(old: str, new: Path, flags: int) -> None:
        mark = path.with_name("written")
        if not mark.exists():
            path.write_text(TEXT + "  theirs: {}\n")
            mark.touch()
        real(old, new, flags)

    state.replace._rename = rename


def check(path: Path, with_theirs: bool) -> None:
    file = DesiredFile(path)
    if not with_theirs:  # else ours may stand there for the moment that the sweep ends
        assert whole(path) in ({"a"}, {"a", "ours"}), path.read_text()
    file.sweep()
    file.edit(lambda text: set_value(text, ("queues", "next"), {}))
    theirs = {"theirs"} if with_theirs else set()
    assert whole(path) in ({"a", "next"} | theirs, {"a", "ours", "next"} | theirs), path.read_text()
    left = {entry.name for entry in path.parent.iterdir()} - {path.name, "written"}
    assert not left, left


def whole(path: Path) -> set[str]:
    return set(parse(path.read_bytes()).queues)


if __name__ == "__main__":
    main(Path(sys.argv[1]), foreign="foreign" in sys.argv[2:])
