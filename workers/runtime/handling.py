"""The main thread: takes message after message, runs the handler, and settles by what came of it."""

from __future__ import annotations

from loguru import logger
from pika.exceptions import AMQPConnectionError
from pika.spec import Basic, BasicProperties

from workers.base import BaseWorker

from .wire import Wire


def handle_all(worker: BaseWorker, wire: Wire) -> None:
    """Handle messages until it is time to stop. What lies in the inbox then goes back to the queue."""
    while True:
        delivery = wire.inbox.get()
        if delivery is None or wire.stopping:
            return
        method, properties, body = delivery
        if wire.settler.take(method):
            handle(worker, wire, method, properties, body)


def handle(worker: BaseWorker, wire: Wire, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
    """Run the handler on one message. SystemExit and KeyboardInterrupt pass, and leave it unsettled."""
    tag = method.delivery_tag
    settle = wire.settler.settle
    try:
        result = worker.process_message(wire.channel, method, properties, body)
    except (SystemExit, KeyboardInterrupt):
        raise
    except AMQPConnectionError as error:
        # The broker being away says nothing about the message: it must not end as rejected.
        logger.opt(exception=error).warning("message {} goes back to the queue: {}", tag, error)
        settle(tag, "nack", requeue=True, hold=True)
    except BaseException as error:  # asyncio.CancelledError is no Exception
        logger.opt(exception=error).error("message {} failed: {}: {}", tag, type(error).__name__, error)
        settle(tag, "reject")
    else:
        settle(tag, "reject" if result is False else "ack")
