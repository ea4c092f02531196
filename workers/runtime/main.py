"""The life of one worker process: read the settings, load the user's class, handle messages, end."""

from __future__ import annotations

import faulthandler
import os
import platform
import signal

from loguru import logger

from workers.base import BaseWorker

from . import log
from .gate import await_gate, take_gate
from .hand import Hand
from .handling import handle_all
from .loader import Fault, load
from .notify import Notifier
from .settings import Settings, parsed, read_settings
from .signals import Signals, at_the_end, before_the_loop
from .wire import Wire

PYTHON = platform.python_version()


def run(name: str, loaded: type[BaseWorker] | None = None) -> int:
    """Run the worker `name` until SIGTERM; `loaded` is its class, if its module was imported before a fork.

    The exit status: 0, or 1 if it could not start or go on, or what the handler gave to `sys.exit`. Called once in a
    process, on its main thread; a fork may call it in which the module is imported already.
    """
    if loaded is None:  # else the zygote has, and we have inherited it
        before_the_loop()
    try:
        return _run(name, loaded)
    finally:
        at_the_end()


def _run(name: str, loaded: type[BaseWorker] | None) -> int:
    hand = Hand()
    log.set_up(os.environ, name, hand)
    faulthandler.enable(2)
    try:
        gate = take_gate(os.environ)
        settings = read_settings(name, os.environ)
    except ValueError as error:
        logger.error("{}", error)
        return 1
    if not await_gate(gate):
        return 0
    _banner(settings)
    try:
        worker_class = loaded or load(name)
    except Fault as fault:
        Notifier(settings.notify_socket).send(f"STATUS={fault}")
        logger.opt(exception=fault.__cause__).error("{}", fault)
        return 1
    return _work(worker_class, settings, hand)


def _work(worker_class: type[BaseWorker], settings: Settings, hand: Hand) -> int:
    wire = Wire(settings, hand)
    try:
        worker = worker_class(wire.channel, settings.queue)
    except BaseException as error:
        return _ended_by(error, f"{worker_class.__name__}.__init__")
    wire.start(Signals())
    try:
        handle_all(worker, wire)
    except (SystemExit, KeyboardInterrupt) as end:
        return _ended_by(end, "the handler", ": its message goes back to the queue")
    finally:
        wire.finish()
        settler = wire.settler
        logger.info("worker {} stops: {} processed, {} failed", settings.worker, settler.processed, settler.failed)
    return int(wire.crashed)


def _ended_by(end: BaseException, whose: str, so: str = "") -> int:
    """The exit status that Python would have given it."""
    match end:
        case SystemExit():
            logger.warning("{} ends the process ({!r}){}", whose, end, so)
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        case KeyboardInterrupt():
            logger.warning("{} ends the process ({!r}){}", whose, end, so)
            return 128 + signal.SIGINT
    logger.opt(exception=end).error("{} failed: {}: {}", whose, type(end).__name__, end)
    return 1


def _banner(settings: Settings) -> None:
    at = parsed(settings.url)
    log.say(
        f"worker {settings.worker}[{settings.slot}] of queue {settings.queue} starts: pid {os.getpid()}, "
        f"broker {at.host}:{at.port}, prefetch {settings.prefetch}, heartbeat {at.heartbeat} s, Python {PYTHON}"
    )
