"""Signals as something the I/O loop can wait for: SIGTERM and SIGINT to stop, SIGHUP to reopen the log."""

from __future__ import annotations

import os
import signal
import socket
from _signal import SIG_IGN
from _signal import signal as catch  # signal's own makes an enum of what was there before, for 0.1 ms and 100 kB each
from types import FrameType

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
REOPEN = signal.SIGHUP
CAUGHT = STOP | {REOPEN}


def before_the_loop() -> None:
    """Until there is a connection there is nothing to finish, however slow the user's module is to import.

    A log that is to be reopened meanwhile is looked at when the loop starts. SIGHUP is not SIG_IGN, which programs
    that the module runs would inherit.
    """
    for number in STOP:
        catch(number, lambda *_: os._exit(0))
    catch(REOPEN, lambda *_: None)


def at_the_end() -> None:
    """From now on a rename of the log concerns nobody: Python's last instructions would let SIGHUP end the process."""
    catch(REOPEN, SIG_IGN)


class Signals:
    """Catches them from now on, on whatever the main thread is doing; `fileno` gets readable."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        # Python's own handler runs only between bytecodes of the main thread; the wake-up descriptor is written at
        # once. Both, because a handler's asyncio loop may take the descriptor for itself.
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in CAUGHT:
            catch(number, self._caught)
        signal.siginterrupt(REOPEN, False)  # a rotation is nothing that the handler's C code should trip over
        self._mask: set[int] = set()
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._forget)

    def fileno(self) -> int:
        return self._read.fileno()

    def take(self) -> set[int]:
        """The numbers of those that came since the last call."""
        try:
            return set(self._read.recv(4096)) & CAUGHT
        except BlockingIOError:
            return set()

    def _caught(self, number: int, _: FrameType | None) -> None:
        try:
            self._write.send(bytes([number]))
        except OSError:
            pass

    # A handler may fork (multiprocessing), and end its child: that SIGTERM must end the child, not drain this worker.
    # The child has our handlers and the descriptor until `_forget`, so none of the signals may reach it before.

    def _hold(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _forget(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._release()
