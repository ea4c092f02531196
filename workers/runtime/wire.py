"""The I/O thread: everything between the broker and the inbox, from the first connection to the last close."""

from __future__ import annotations

import threading

from loguru import logger

from .channel import Channel
from .consumer import Consumer, Inbox
from .detour import Detour
from .hand import Hand
from .logfile import LogFile
from .loop import Loop
from .notify import Notifier, Reporter
from .publisher import Publisher
from .settings import Settings
from .settle import Settler
from .signals import REOPEN, STOP, Signals

CLOSING = 5.0  # seconds for the broker to answer to a polite close
ARRIVING = 3.0  # of them, for the copies of failed messages to be confirmed


class Wire:
    """One worker's connections. `inbox` gets the messages, then None when it is time to stop.

    It may be made before a fork, for all that follow; then each calls `renew` first.
    """

    def __init__(self, settings: Settings, hand: Hand) -> None:
        self._settings = settings
        self._loop = Loop()
        self.inbox: Inbox = Inbox()
        self.hand = hand
        self.settler = Settler(self._loop)
        self.stopping = False
        self.crashed = False
        notifier = Notifier(settings.notify_socket)
        self._reporter = Reporter(notifier, self._loop, settings, self.settler, hand)
        self.settler.changed = self._reporter.changed
        self._publisher = Publisher(self._loop, settings)
        if settings.ways is not None:
            self.settler.detour = Detour(self._loop, self._publisher, settings.ways, settings.worker)
        self._consumer = Consumer(self._loop, settings, self.settler, self.inbox, self._reporter)
        self.channel = Channel(self.settler, self._publisher)
        self._thread = threading.Thread(target=self._run, name="amqp", daemon=True)
        self._consumer.start()

    @property
    def can_be_renewed(self) -> bool:
        """Whether it may be used in forks."""
        return self._loop.can_be_renewed

    def renew(self) -> None:
        """In a fork: it is this process's own from now on."""
        self._loop.renew()

    def discard(self) -> None:
        """Instead of a start: nobody will use it."""
        self._loop.close()

    def start(self, signals: Signals) -> None:
        """Connect and consume, until one of `signals` says stop."""
        self._log = LogFile(self._settings.log_file)
        self._consumer.introduce()
        self._signals = signals
        self._loop.add_handler(signals.fileno(), self._signalled, Loop.READ)
        self._thread.start()

    def finish(self) -> None:
        """Settle what is settled, give the rest back to the broker, and close; waits up to `CLOSING` seconds."""
        self._loop.add_callback_threadsafe(self._finish)
        self._thread.join(CLOSING)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self) -> None:
        try:
            self._log.catch_up()
            self._reporter.keep_alive(self._settings.watchdog)
            self._loop.start()
        except BaseException:
            logger.exception("the I/O thread ended: the worker stops, and the broker delivers again")
            self.crashed = self.stopping = True
            self.inbox.put(None)

    def _signalled(self, *_: object) -> None:
        came = self._signals.take()
        if REOPEN in came:
            self._log.reopen()
            self._reporter.again()
        if came & STOP and not self.stopping:
            logger.info("told to stop: finishing the message in hand")
            self._stop()

    def _stop(self) -> None:
        if self.stopping:
            return
        self.stopping = True
        self._reporter.stopping()
        self._consumer.cancel()
        self._publisher.last_call()
        self.inbox.put(None)

    def _finish(self) -> None:
        self._stop()
        self.settler.flush()
        self.settler.release(self._close, ARRIVING)

    def _close(self) -> None:
        self._reporter.last_words()
        self._consumer.close(lambda: self._publisher.close(self._loop.stop))
