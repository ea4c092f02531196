"""The class that a worker module subclasses. The runtime makes one object of it per process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Logger
    from pika.spec import Basic, BasicProperties

    from workers.runtime.channel import Channel


class BaseWorker:
    """One kind of work on one queue: subclass it and write `process_message`.

    `channel`: acks, rejects and publishes, see `workers.runtime.channel.Channel`.
    `queue_name`: the queue it consumes from.
    `logger`: loguru's logger, bound with `queue` and `worker`.
    """

    channel: Channel
    queue_name: str
    logger: Logger

    def __new__(cls, channel: Channel, queue_name: str, *_: Any, **__: Any) -> BaseWorker:
        # Here and not in __init__, so that a subclass that does not call super().__init__ works too.
        worker = super().__new__(cls)
        worker.channel = channel
        worker.queue_name = queue_name
        worker.logger = logger.bind(queue=queue_name, worker=os.environ.get("WORKER_NAME", cls.__name__))
        return worker

    def __init__(self, channel: Channel, queue_name: str) -> None:
        """Override it to open what the handler needs; it runs once, before the first message."""

    def process_message(
        self, ch: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> bool | None:
        """Handle one message.

        What `ch.basic_ack`, `ch.basic_nack` or `ch.basic_reject` has not settled is acked on return, and rejected
        when this returns False or raises.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no process_message(self, ch, method, properties, body): write it"
        )
