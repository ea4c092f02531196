"""The life of one worker process: read the settings, load the user's class, handle messages, end."""

from __future__ import annotations

import faulthandler
import os
import platform

from loguru import logger

from workers.base import BaseWorker

from . import log
from .handling import handle_all
from .loader import Fault, load
from .notify import Notifier
from .settings import Settings, read_settings
from .signals import StopSignals
from .wire import Wire


def run(name: str) -> int:
    """Run the worker `name` until SIGTERM; the exit status: 0, or 1 if it could not start or go on."""
    log.set_up(os.environ.get("LOG_LEVEL") or "INFO")
    faulthandler.enable(2)
    try:
        settings = read_settings(name, os.environ)
    except ValueError as error:
        logger.error("{}", error)
        return 1
    _banner(settings)
    try:
        worker_class = load(name)
    except Fault as fault:
        Notifier(settings.notify_socket).send(f"STATUS={fault}")
        logger.opt(exception=fault.__cause__).error("{}", fault)
        return 1
    return _work(worker_class, settings)


def _work(worker_class: type[BaseWorker], settings: Settings) -> int:
    wire = Wire(settings)
    worker = worker_class(wire.channel, settings.queue)
    wire.start(StopSignals())
    try:
        handle_all(worker, wire)
    except SystemExit as end:
        logger.warning("the handler ends the process ({!r}): its message goes back to the queue", end)
        raise
    finally:
        wire.finish()
        settler = wire.settler
        logger.info("worker {} stops: {} processed, {} failed", settings.worker, settler.processed, settler.failed)
    return int(wire.crashed)


def _banner(settings: Settings) -> None:
    parameters = settings.parameters()
    logger.info(
        "worker {}[{}] of queue {} starts: pid {}, broker {}:{}, prefetch {}, heartbeat {} s, Python {}",
        settings.worker,
        settings.slot,
        settings.queue,
        os.getpid(),
        parameters.host,
        parameters.port,
        settings.prefetch,
        parameters.heartbeat,
        platform.python_version(),
    )
