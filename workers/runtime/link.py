"""One connection to the broker, opened again with backoff until it is closed for good. Runs on the I/O thread."""

from __future__ import annotations

import random
from collections.abc import Callable

from pika import SelectConnection, URLParameters
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.connection_workflow import AMQPConnectionWorkflowFailed
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from .services import Services

FIRST, CAP = 0.1, 1.6  # seconds; with the jitter at most 2, so that all consume again 5 s after the broker is back


class Backoff:
    """Seconds until the next try: doubled with each failure, capped, 25 % of jitter either way."""

    def __init__(self, first: float = FIRST, cap: float = CAP) -> None:
        self._first = first
        self._cap = cap
        self._failures = 0

    def next(self) -> float:
        wait = min(self._cap, self._first * 2.0 ** min(self._failures, 8))
        self._failures += 1
        return wait * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        self._failures = 0


class Link:
    """Calls `up(connection)` with each new connection, and `down(why)` when it is lost or cannot be made."""

    def __init__(
        self,
        loop: IOLoop,
        make_parameters: Callable[[], URLParameters],
        up: Callable[[SelectConnection], None],
        down: Callable[[str], None],
    ) -> None:
        self.backoff = Backoff()  # whoever uses the link resets it, once the connection has proved useful
        self._loop = loop
        self._make_parameters = make_parameters
        self._up = up
        self._down = down
        self._connection: SelectConnection | None = None
        self._retry: object = None
        self._closed: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_open

    @property
    def connection(self) -> SelectConnection:
        assert self._connection is not None
        return self._connection

    def open(self) -> None:
        """Connect, and keep connected. Before the loop runs nothing goes out: it may be called before a fork, too."""
        self._retry = None
        self._parameters = self._make_parameters()
        self._connection = SelectConnection(
            self._parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._ended,
            on_close_callback=self._ended,
            custom_ioloop=Services(self._loop),
        )

    def introduce(self) -> None:
        """Before the loop runs: it may have been opened before a fork, and is to say which process it is."""
        self.connection.params.client_properties = self._make_parameters().client_properties

    def close(self, closed: Callable[[], None]) -> None:
        """Close politely and for good, then call `closed`."""
        if self._retry is not None:
            self._loop.remove_timeout(self._retry)
        connection = self._connection
        if connection is None or not (connection.is_open or connection.is_closing):
            self._closed = _nothing  # nothing is in hand yet, and pika trips over a close amid the handshake
            closed()
            return
        self._closed = closed
        if not connection.is_closing:
            connection.close()

    def _opened(self, connection: SelectConnection) -> None:
        self._up(connection)

    def _ended(self, _: SelectConnection, error: BaseException) -> None:
        self._connection = None
        if self._closed is not None:
            self._closed()
            return
        self._retry = self._loop.call_later(self.backoff.next(), self.open)
        self._down(self._words(error))

    def _words(self, error: BaseException) -> str:
        where = f"{self._parameters.host}:{self._parameters.port}"
        match error:
            case ProbableAuthenticationError():
                return f"the broker at {where} refused the user or the password (correct AMQP_URL)"
            case ProbableAccessDeniedError():
                vhost = self._parameters.virtual_host
                return f"the broker refused the vhost {vhost!r}: it does not exist, or the user may not use it"
            case ConnectionClosedByBroker():
                return f"the broker closed the connection: {error.reply_code} {error.reply_text}"
            case StreamLostError():
                return f"the connection to the broker at {where} was lost"
            case AMQPHeartbeatTimeout():
                return f"the broker at {where} was silent for longer than the heartbeat"
        return f"cannot connect to the broker at {where}: {_cause(error)}"


def _nothing() -> None:
    """Whoever waited was told."""


def channel_words(error: BaseException, queue: str) -> str:
    """Why a channel that consumes from `queue` was closed."""
    match error:
        case ChannelClosedByBroker(reply_code=404):
            return f"queue {queue} does not exist (the reconciler makes it, if it is in queues.yaml)"
        case ChannelClosedByBroker():
            return f"the broker closed the channel: {error.reply_code} {error.reply_text}"
    return f"the channel was closed: {error}"


def _cause(error: BaseException) -> str:
    """The innermost reason of what pika wraps up to four times."""
    inner: object = error
    while True:
        if isinstance(inner, AMQPConnectionWorkflowFailed) and inner.exceptions:
            inner = inner.exceptions[-1]
        elif isinstance(found := getattr(inner, "exception", None), BaseException):
            inner = found
        elif isinstance(inner, BaseException) and inner.args and isinstance(inner.args[0], BaseException):
            inner = inner.args[0]
        else:
            break
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner) or type(inner).__name__
