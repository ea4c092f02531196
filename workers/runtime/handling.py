"""The main thread: takes message after message, runs the handler, and settles by what came of it."""

from __future__ import annotations

from typing import NamedTuple

from loguru import logger
from pika.exceptions import AMQPConnectionError
from pika.spec import Basic, BasicProperties

from workers.base import BaseWorker

from .failure import as_sent, words_of
from .settle import How
from .wire import Wire


class Outcome(NamedTuple):
    """How a message is to be settled, unless the handler has done so."""

    how: How
    requeue: bool = False
    hold: bool = False
    error: BaseException | None = None


ACK, REJECT = Outcome("ack"), Outcome("reject")
BACK = Outcome("nack", requeue=True, hold=True)


def handle_all(worker: BaseWorker, wire: Wire) -> None:
    """Handle messages until it is time to stop. What lies in the inbox then goes back to the queue."""
    while True:
        delivery = wire.inbox.get()
        if delivery is None or wire.stopping:
            return
        if wire.settler.take(delivery):
            method, properties, body = delivery
            if properties.headers:
                as_sent(method, properties)
            wire.hand.take(method, properties)
            outcome = handle(worker, wire, method, properties, body)
            wire.hand.put_down()  # first: what is told with the settlement is that the worker is idle
            wire.settler.settle(method.delivery_tag, *outcome)
            del outcome  # an exception holds on to all that the handler had


def handle(worker: BaseWorker, wire: Wire, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> Outcome:
    """Run the handler on one message. SystemExit and KeyboardInterrupt pass, and leave it unsettled."""
    tag = method.delivery_tag
    try:
        result = worker.process_message(wire.channel, method, properties, body)
    except (SystemExit, KeyboardInterrupt):
        raise
    except AMQPConnectionError as error:
        # The broker being away says nothing about the message: it must not end as rejected.
        logger.opt(exception=error).warning("message {} goes back to the queue: {}", tag, error)
        return BACK
    except BaseException as error:  # asyncio.CancelledError is no Exception
        say_failed(tag, error)
        return Outcome("reject", error=error)
    return REJECT if result is False else ACK


def say_failed(tag: int, error: BaseException) -> None:
    """With its traceback, unless the exception is such that none can be made: it has failed all the same."""
    words = tag, type(error).__name__, words_of(error)
    try:
        logger.opt(exception=error).error("message {} failed: {}: {}", *words)
    except Exception:  # its own __getattr__ or __str__ may raise anything, and loguru's report of that trips again
        logger.error("message {} failed: {}: {}", *words)
