"""The worker's log: one line a record on stderr, which the supervisor has made the worker's own file."""

from __future__ import annotations

import io
import logging
import os
import sys
from types import FrameType
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message

FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {level: <7} {message}"
MAIN_THREAD = "MainThread"


def set_up(level: str) -> None:
    """Send loguru, stdlib logging and print() to stdout and stderr, a line at a time."""
    sys.stdout, sys.stderr = _forgiving(1), _forgiving(2)
    logger.remove()
    number = _number(level)
    logger.add(_write, level=number, format=FORMAT, colorize=False, backtrace=False, diagnose=False)
    if level.upper() != logger.level("INFO").name and number == logger.level("INFO").no:
        logger.warning("LOG_LEVEL is {!r}: taken as INFO (DEBUG, INFO, WARNING, ERROR or CRITICAL)", level)
    logging.basicConfig(handlers=[_Intercept()], level=number, force=True)
    logging.getLogger("pika").setLevel(logging.WARNING)  # its debug lines cost 60 % of the throughput


def _number(level: str) -> int:
    try:
        return logger.level(level.upper()).no
    except ValueError:
        return logger.level("INFO").no


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


def _write(message: Message) -> None:
    write_all(2, str(message).encode("utf-8", "backslashreplace"))


def write_all(descriptor: int, data: bytes) -> None:
    """Write as one piece where the system lets us. A full disk costs the line, never the worker."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass


class _Forgiving(io.FileIO):
    """A raw file whose writes never fail."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        write_all(self.fileno(), bytes(data))
        return len(data)


def _forgiving(descriptor: int) -> io.TextIOWrapper:
    raw = _Forgiving(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)
