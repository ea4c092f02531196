"""A sample: logs each message and acks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import BaseWorker

if TYPE_CHECKING:
    from pika.spec import Basic, BasicProperties

    from workers.runtime.channel import Channel


class Echo(BaseWorker):
    """Logs each message as it is."""

    def process_message(self, ch: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> bool:
        self.logger.info("{}", body.decode("utf-8", "backslashreplace"))
        ch.basic_ack(delivery_tag=method.delivery_tag)
        return True
