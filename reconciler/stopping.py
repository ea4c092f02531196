"""What asks the daemon to stop, or to be executed anew: signals, and what a second one means."""

from __future__ import annotations

import asyncio
import signal
import sys

from loguru import logger as log

from reconciler import renewal

DRAINING = "the workers finish their messages (once more to stop at once)"


class Stop:
    """SIGINT or SIGTERM asks to stop; a second one not to wait any longer. SIGHUP asks to be executed anew.

    `leave`: workers and embedded broker are not to be stopped. `takes_over`: the program before this one has left them
    to us, so that even if asked to stop at once, it is for us to take them down.
    """

    def __init__(self, leave: bool, renewed: bool = False) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()
        self.leave = leave
        self.renew = False
        self.after_all: int | None = None  # the signal to stop that came when it had begun to renew
        self.takes_over = renewed
        self.left = renewal.children() if renewed else set()
        self._renewing: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        # The end of a terminal is no wish to go on without one.
        on_terminal = sys.stderr.isatty()
        if on_terminal:
            loop.add_signal_handler(signal.SIGHUP, self._on_signal, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        renewal.release_signals()

    def _on_hangup(self) -> None:
        if not self.asked.is_set() and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        log.info("told to start anew: looking whether the program can")
        if why := await asyncio.to_thread(renewal.why_not):
            log.error("it goes on as it is, because the program on disk does not start: {}", why)
            return
        if self.asked.is_set():
            return
        renewal.hold_signals()
        self._outlive_the_loop()
        log.info("starting anew: the workers go on")
        self.renew = self.leave = True
        self.asked.set()

    def _outlive_the_loop(self) -> None:
        """Signals are held back in this thread alone: in another one they must not meet the default after the loop."""

        def keep(came: int, _: object) -> None:
            self.after_all = self.after_all if came == signal.SIGHUP else came

        loop = asyncio.get_running_loop()
        for number in renewal.SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, keep)

    def _on_signal(self, number: int) -> None:
        if self.renew:
            self.after_all = number
        elif self.asked.is_set():
            log.warning("stopping at once")
            self.hurry.set()
        else:
            log.info("stopping: {}", "the workers go on" if self.leave else DRAINING)
            self.asked.set()
