"""What the supervisor hears from a worker, in systemd's sd_notify protocol over NOTIFY_SOCKET.

Each datagram tells the whole state, so one that is lost, or a supervisor that starts later, costs a delay and no more.
All of it runs on the I/O thread; an idle worker sends nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol

EVERY = 1.0  # seconds between two datagrams that only carry counters
STEADY = 5.0  # seconds between two where only the time spent on the message in hand has changed
SOON = 0.02  # seconds until what could not be sent is tried again: the queue is short, and many may start at once
AGAIN = 5.0  # seconds between such tries at most, when nobody listens


class Clock(Protocol):
    """The part of pika's I/O loop that is used here."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object: ...


class Counters(Protocol):
    """Where the numbers come from."""

    processed: int
    failed: int
    outstanding: int


class Named(Protocol):
    """Who speaks."""

    @property
    def consumer_tag(self) -> str: ...


class InHand(Protocol):
    """What is known of the message in hand, and of those before it."""

    redelivered: int
    last: float | None

    @property
    def since(self) -> float | None: ...

    @property
    def busy_seconds(self) -> float: ...


class Notifier:
    """Sends datagrams, and never blocks, waits or fails."""

    def __init__(self, address: str | None) -> None:
        """`address`: a path, `@name` for an abstract socket, or None to send nothing."""
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def send(self, text: str) -> bool:
        """Whether it went out, or nobody wants it."""
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(text.encode("utf-8", "backslashreplace"), self._address)
        except OSError:
            return False
        return True


class Reporter:
    """Tells states at once, and counters at most once a second.

    While there is something to do it looks every second: a handler that takes an hour changes no counter.
    """

    def __init__(self, notifier: Notifier, clock: Clock, who: Named, counters: Counters, hand: InHand) -> None:
        self._notifier = notifier
        self._clock = clock
        self._who = who
        self._counters = counters
        self._hand = hand
        self._state = ""
        self._status = "starting"
        self._was_ready = False
        self._last = float("-inf")
        self._sent = ""
        self._patience = SOON
        self._timer: object = None

    def ready(self, status: str) -> None:
        """The consumer is registered at the broker."""
        self._was_ready = True
        self._tell("READY=1", status)

    def lost(self, why: str) -> None:
        """There is no consumer now. Before the first one, that is not news: the status alone says why."""
        self._tell("RELOADING=1" if self._was_ready else "", why)

    def stopping(self) -> None:
        """SIGTERM has come."""
        self._tell("STOPPING=1", "finishing the message in hand")

    def keep_alive(self, watchdog: float | None) -> None:
        """From now on tell a heartbeat twice in each `watchdog` seconds, whatever else there is to tell."""
        if watchdog is not None:
            self._send()
            self._clock.call_later(watchdog / 2, lambda: self.keep_alive(watchdog))

    def changed(self) -> None:
        """A counter has changed: told at once after a quiet second, else at the end of that second."""
        if self._timer is None:
            wait = self._last + EVERY - time.monotonic()
            if wait <= 0:
                self._send()
            else:
                self._arm(wait)

    def again(self) -> None:
        """Another supervisor may be there, which knows nothing of what was told."""
        self._send()

    def last_words(self) -> None:
        """The worker ends: what has changed in its last second is told now or never."""
        if self._text() != self._sent:
            self._send()

    def _tell(self, state: str, status: str) -> None:
        if self._state != "STOPPING=1" or state == "STOPPING=1":
            self._state, self._status = state, status
        self._send()

    def _later(self) -> None:
        self._timer = None
        if self._text() != self._sent or (self._is_busy and time.monotonic() - self._last >= STEADY):
            self._send()
        elif self._is_busy:
            self._arm(EVERY)

    def _send(self) -> None:
        text = self._text()
        self._last = time.monotonic()
        if not self._notifier.send(f"{text}\nX_BUSY_SECONDS={self._hand.busy_seconds:.3f}"):
            self._arm(self._patience)
            self._patience = min(AGAIN, 2 * self._patience)
            return
        self._patience = SOON
        self._sent = text
        if self._is_busy:
            self._arm(EVERY)

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(delay, self._later)

    @property
    def _is_busy(self) -> bool:
        return self._counters.outstanding > 0 or self._hand.since is not None

    def _text(self) -> str:
        """All but the time spent, which goes on changing."""
        counters, hand = self._counters, self._hand
        lines = [
            self._state,
            f"STATUS={' '.join(self._status.split())}",
            f"X_CONSUMER_TAG={self._who.consumer_tag}",
            f"X_PROCESSED={counters.processed}",
            f"X_FAILED={counters.failed}",
            f"X_REDELIVERED={hand.redelivered}",
            f"X_BUSY={int(self._is_busy)}",
            f"X_IN_FLIGHT_SINCE={_seconds(hand.since)}",
            f"X_LAST_MESSAGE={_seconds(hand.last)}",
            "WATCHDOG=1",
        ]
        return "\n".join(filter(None, lines))


def _seconds(epoch: float | None) -> str:
    return "" if epoch is None else f"{epoch:.3f}"
