"""The life of one worker process: read the settings, load the user's class, handle messages, end."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

from loguru import logger

from workers.base import BaseWorker

from . import log
from .gate import await_gate, take_gate
from .handling import handle_all
from .loader import Fault, load
from .notify import Notifier
from .settings import Settings, read_settings
from .signals import Signals, at_the_end, before_the_loop
from .wire import Wire


@dataclass(frozen=True)
class Prepared:
    """What all processes of a pool have in common, ready before they are forked."""

    settings: Settings
    wire: Wire

    def renew(self) -> None:
        """In a fork: from now on it is this process's own."""
        self.settings.take_own(os.environ)
        self.wire.renew()


def prepare(name: str, env: Mapping[str, str]) -> Prepared:
    """All that connects to nobody; `log.set_up` was called before. Raises ValueError that names the variable."""
    settings = read_settings(name, env)
    return Prepared(settings, Wire(settings, log.hand()))


def run(
    name: str,
    loaded: type[BaseWorker] | None = None,
    prepared: Prepared | None = None,
    gate: int | None = None,
) -> int:
    """Run the worker `name` until SIGTERM; in a fork, with what its zygote has `loaded` and `prepared`.

    It begins once there is a byte in `gate`. The exit status: 0, or 1 if it could not start or go on, or what the
    handler gave to `sys.exit`. Called once in a process, on its main thread.
    """
    if loaded is None:  # else the zygote has, and we have inherited it
        before_the_loop()
    try:
        return _run(name, loaded, prepared, gate)
    finally:
        at_the_end()


def _run(name: str, loaded: type[BaseWorker] | None, prepared: Prepared | None, gate: int | None) -> int:
    if prepared is None:
        log.set_up(os.environ, name)
    log.complain()
    faulthandler.enable(2)
    try:
        gate = take_gate(os.environ) if gate is None else gate
        if prepared:
            prepared.renew()
        else:
            prepared = prepare(name, os.environ)
    except ValueError as error:
        logger.error("{}", error)
        return 1
    if not await_gate(gate):
        return 0
    settings = prepared.settings
    try:
        worker_class = loaded or load(name)
    except Fault as fault:
        Notifier(settings.notify_socket).send(f"STATUS={fault}")
        logger.opt(exception=fault.__cause__).error("{}", fault)
        return 1
    return _work(worker_class, settings, prepared.wire)


def _work(worker_class: type[BaseWorker], settings: Settings, wire: Wire) -> int:
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
