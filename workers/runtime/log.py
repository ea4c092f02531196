"""The worker's log: one line a record on stderr, which the supervisor has made the worker's own file."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections import deque
from collections.abc import Mapping
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING

from loguru import logger

from .hand import Hand
from .lines import FORMATS, Lines

if TYPE_CHECKING:
    from loguru import Message

MAIN_THREAD = "MainThread"
INFO = 20  # loguru's number of it


class Sink:
    """Where loguru hands its messages; which lines they become may change after a fork, without loguru being told."""

    def __init__(self, level: int, form: str, lines: Lines) -> None:
        self.level = level
        self.form = form
        self.lines = lines

    def __call__(self, message: Message) -> None:
        line = self.lines.json if self.form == "json" else self.lines.text
        write_all(2, line(message).encode("utf-8", "backslashreplace"))

    def say(self, text: str) -> None:
        """A line of our own at INFO. It takes a tenth of the way through loguru, for what each start has to say."""
        if self.level <= INFO:
            write_all(2, self.lines.own(text, as_json=self.form == "json").encode("utf-8", "backslashreplace"))


_wrong: list[str] = []  # with the settings
_installed: tuple[int, Sink] | None = None  # our loguru handler's number, -1 if it was removed, and its sink


def set_up(env: Mapping[str, str], worker: str) -> None:
    """Send loguru, stdlib logging and print() to stdout and stderr, a line at a time.

    `env`: LOG_LEVEL, LOG_FORMAT, QUEUE_NAME, WORKER_NAME. A later call, in a process that has imported the user's
    module since the first, takes the new settings and leaves alone what that module has set up in the place of ours.
    """
    global _installed, _wrong
    level, form = env.get("LOG_LEVEL") or "INFO", env.get("LOG_FORMAT") or "text"
    number = _number(level)
    lines = Lines(env.get("QUEUE_NAME", ""), env.get("WORKER_NAME") or worker, Hand())
    sink = Sink(number, form.lower(), lines)
    if _installed is None:
        logger.remove()
        sys.stdout, sys.stderr = _forgiving(1), _forgiving(2)
        logging.basicConfig(handlers=[_Intercept()], level=number, force=True)
        logging.getLogger("pika").setLevel(logging.WARNING)  # its debug lines cost 60 % of the throughput
        _installed = _add(sink), sink
    elif (before := _installed[1]).level == number:
        before.form, before.lines = sink.form, lines
    else:
        _installed = _replace(_installed[0], sink), sink
        if logging.root.level == before.level:
            logging.root.setLevel(number)
    _wrong = _complaints(level, number, form)


def hand() -> Hand:
    """Where the lines look for the id of the message in hand; `set_up` was called before."""
    assert _installed
    return _installed[1].lines.hand


def complain() -> None:
    """Of what was wrong with the settings."""
    for text in _wrong:
        logger.warning("{}", text)


def say(text: str) -> None:
    """Tell at INFO of the runtime itself, without loguru: `set_up` was called before."""
    if _installed:
        _installed[1].say(text)


def _replace(handler: int, sink: Sink) -> int:
    """The new handler's number; none is added if the user's module has removed ours."""
    try:
        logger.remove(handler)
    except ValueError:
        return -1
    return _add(sink)


def _add(sink: Sink) -> int:
    # All of it is said, because loguru's defaults come from the environment.
    return logger.add(
        sink,
        level=sink.level,
        format="{message}",
        filter=None,
        colorize=False,
        serialize=False,
        backtrace=False,
        diagnose=False,
        enqueue=False,
        catch=True,
    )


@cache
def _number(level: str) -> int:
    try:
        return logger.level(level.upper()).no
    except ValueError:
        return logger.level("INFO").no


def _complaints(level: str, number: int, form: str) -> list[str]:
    wrong = []
    if number == INFO and level.upper() != "INFO":
        wrong.append(f"LOG_LEVEL is {level!r}: taken as INFO (DEBUG, INFO, WARNING, ERROR or CRITICAL)")
    if form.lower() not in FORMATS:
        wrong.append(f"LOG_FORMAT is {form!r}: taken as text (text or json)")
    return wrong


class _Intercept(logging.Handler):
    """Hands a stdlib record to loguru, which has the level and the format."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.threadName != MAIN_THREAD and record.name.startswith("pika"):
            return  # the link says it once and in words; pika would say it with a traceback at each attempt
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        depth = _depth()
        logger.opt(depth=depth, exception=record.exc_info).log(level, "{}", record.getMessage())


def _depth() -> int:
    frame: FrameType | None = sys._getframe(2)
    depth = 1
    while frame and frame.f_code.co_filename == logging.__file__:
        frame, depth = frame.f_back, depth + 1
    return depth


def write_all(descriptor: int, data: bytes) -> None:
    """Write as one piece where the system lets us. A full disk costs the line, never the worker."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass


class _Forgiving(io.FileIO):
    """A raw file whose writes never fail, and do not tear a line: its file may be another one in between.

    The text layer above writes what it has at 8 KiB, in the middle of a line. That waits here for its end.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._waiting: deque[bytes] = deque()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        piece = bytes(data)
        if piece.endswith(b"\n") and not self._waiting:
            write_all(self.fileno(), piece)
            return len(piece)
        self._waiting.append(piece)
        if piece.endswith(b"\n"):
            self._write_out()
        return len(piece)

    def flush(self) -> None:
        if self._waiting:
            self._write_out()

    def _write_out(self) -> None:
        pieces = []
        try:
            while True:  # each piece is popped once, whatever other threads do
                pieces.append(self._waiting.popleft())
        except IndexError:
            pass
        write_all(self.fileno(), b"".join(pieces))


def _forgiving(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(_Forgiving(descriptor), "utf-8", "backslashreplace", line_buffering=True)
