"""The `ch` that handlers get: settles the message in hand, publishes with confirms, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from loguru import logger

from .settle import How, Settler

if TYPE_CHECKING:
    from pika.spec import BasicProperties

    from .publisher import Publisher

_DECLARES = "workers do not declare: list it in queues.yaml, and the reconciler makes it"
_CONSUMES = "the runtime consumes: list the worker under its queue in queues.yaml"
_WHY_NOT = {
    "queue_declare": _DECLARES,
    "queue_bind": _DECLARES,
    "exchange_declare": _DECLARES,
    "exchange_bind": _DECLARES,
    "queue_delete": "workers do not delete: take the queue out of queues.yaml",
    "exchange_delete": "workers do not delete: take the exchange out of queues.yaml",
    "queue_purge": "workers do not purge: run `reconciler clear QUEUE`",
    "basic_qos": "set `prefetch` of the worker in queues.yaml",
    "basic_consume": _CONSUMES,
    "basic_get": _CONSUMES,
    "start_consuming": _CONSUMES,
    "stop_consuming": "the runtime stops on SIGTERM: scale the worker in queues.yaml",
    "confirm_delivery": "basic_publish always waits for the broker's confirm",
    "connection": "the runtime owns the connection; open one of your own for other work",
    "close": "the runtime owns the channel, and closes it when the worker stops",
}


class Channel:
    """What a handler may do with the broker. Every method may be called on any thread."""

    def __init__(self, settler: Settler, publisher: Publisher) -> None:
        self._settler = settler
        self._publisher = publisher

    @property
    def is_open(self) -> bool:
        """Whether the worker is consuming now."""
        return self._settler.is_open

    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None:
        """Done: the broker forgets the message. Tag 0, or `multiple`, means the message in hand as well."""
        self._settle(delivery_tag, "ack")

    def basic_nack(self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True) -> None:
        """Not done: back to the queue, after a second if it has been back before. Without `requeue` it has failed:
        to the queue's `retry` or `dead_letter`, else the broker drops it."""
        self._settle(delivery_tag, "nack", requeue)

    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None:
        """As `basic_nack`; the difference is only in what counts toward a quorum queue's delivery limit."""
        self._settle(delivery_tag, "reject", requeue)

    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes | str,
        properties: BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None:
        """Publish, and return once the broker has confirmed it.

        Waits as long as the broker is away or in an alarm, then publishes (again, if the confirm was lost: at least
        once). Raises pika's UnroutableError (only with `mandatory`), NackError, ChannelClosedByBroker (no such
        exchange, no permission), and AMQPConnectionError if the worker is told to stop while it waits like that.
        """
        self._publisher.publish(exchange, routing_key, body, properties, mandatory)

    def _settle(self, tag: int, how: How, requeue: bool = False) -> None:
        # One message is in hand at a time, so `multiple` never means more than that one.
        tag = tag or self._settler.latest
        if not self._settler.settle(tag, how, requeue=requeue):
            logger.warning("basic_{} of message {} is ignored: {}", how, tag, self._why_ignored(tag))

    def _why_ignored(self, tag: int) -> str:
        if tag > self._settler.latest:
            return "it was never handed to this worker"
        return "it is settled already"

    def __getattr__(self, name: str) -> NoReturn:
        why = _WHY_NOT.get(name, "it has basic_ack, basic_nack, basic_reject, basic_publish and is_open")
        raise AttributeError(f"a worker's channel has no {name}: {why}", name=name, obj=self)
