"""Where a failed message goes instead of back to the broker: a copy of it, with what is known of the failure.

The copy is published, mandatory and confirmed, before the message itself is acked: so it may be there twice, and is
never gone. While the copy cannot be placed, the message stays in hand and it is tried again, slower and slower.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger
from pika.adapters.select_connection import IOLoop
from pika.exceptions import AMQPConnectionError, NackError, UnroutableError
from pika.spec import Basic, BasicProperties

from .failure import Cause, TooLarge, Ways, failed_copy, failures_of, told
from .link import Backoff
from .publisher import Publication, Publisher

Delivery = tuple[Basic.Deliver, BasicProperties, bytes]

FIRST, CAP = 1.0, 30.0  # seconds between tries to place one copy


@dataclass(frozen=True)
class Copy:
    """What takes a failed message's place, and in which queue."""

    queue: str
    properties: BasicProperties
    body: bytes


@dataclass(frozen=True)
class Ends:
    """What becomes of the message itself: `moved`, its copy is safe; `refused`, the broker is to decide by its own
    rules; `back`, it goes back to its queue."""

    moved: Callable[[], None]
    refused: Callable[[], None]
    back: Callable[[], None]


class Detour:
    """Of one worker process. `copy` is for any thread; the rest runs on the I/O thread."""

    def __init__(self, loop: IOLoop, publisher: Publisher, ways: Ways, worker: str) -> None:
        self._loop = loop
        self._publisher = publisher
        self._ways = ways
        self._worker = worker
        self._host = socket.gethostname()

    def as_it_came(self, delivery: Delivery) -> Delivery:
        """The message with properties of its own: a handler may change those that it gets, to publish with them."""
        method, properties, body = delivery
        own = BasicProperties.__new__(BasicProperties)  # `copy.copy` takes five times as long, and this is each message
        own.__dict__.update(properties.__dict__)
        if properties.headers:
            own.headers = dict(properties.headers)
        return method, own, body

    def copy(self, delivery: Delivery, error: BaseException | None = None) -> Copy | None:
        """None where nobody has said where failed messages go: then the broker knows what to do."""
        method, properties, body = delivery
        queue = self._ways.after(failures_of(properties.headers) + 1)
        if queue is None:
            return None
        error = sys.exception() if error is None else error  # a handler that rejects in its `except`
        said = {} if error is None else told(error)
        cause = Cause(time.time(), worker=self._worker, pid=os.getpid(), host=self._host, **said)
        try:
            came = method.exchange, method.routing_key
            return Copy(queue, failed_copy(properties, came, self._ways.queue, cause), body)
        except TooLarge as why:
            logger.warning("message {} is rejected without a word on why it failed: {}", method.delivery_tag, why)
            return None
        except Exception as why:  # pika has read something that it cannot write
            logger.warning("message {} is rejected, for no copy of it can be made: {}", method.delivery_tag, why)
            return None

    def passage(self, copy: Copy, ends: Ends) -> Passage:
        """The way of that copy, which begins with its `go`."""
        return Passage(self._loop, self._publisher, copy, ends)


class Passage:
    """One copy on its way."""

    def __init__(self, loop: IOLoop, publisher: Publisher, copy: Copy, ends: Ends) -> None:
        self._loop = loop
        self._publisher = publisher
        self._copy = copy
        self._ends = ends
        self._backoff = Backoff(FIRST, CAP)
        self._timer: object = None
        self._given_up = False

    def go(self) -> None:
        """Places the copy, however long that takes."""
        self._timer = None
        copy = self._copy
        self._publisher.send(
            Publication("", copy.queue, copy.body, copy.properties, True, self._ended, lambda: not self._given_up)
        )

    def give_up(self) -> None:
        """The message is settled otherwise; if the copy has left already, it is there twice."""
        self._given_up = True
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)

    def _ended(self, error: BaseException | None) -> None:
        if self._given_up:
            return
        match error:
            case None:
                self._ends.moved()
            case AMQPConnectionError():
                self._ends.back()
            case UnroutableError():
                self._again("does not exist (the reconciler makes it, if it is in queues.yaml)")
            case NackError():
                self._again("takes nothing now (it is full, or a node is down)")
            case _:
                logger.warning("the broker decides on a failed message, for its copy is refused: {}", error)
                self._ends.refused()

    def _again(self, why: str) -> None:
        wait = self._backoff.next()
        logger.warning(
            "a failed message stays in hand: queue {} {}; tried again in {:.0f} s", self._copy.queue, why, wait
        )
        self._timer = self._loop.call_later(wait, self.go)
