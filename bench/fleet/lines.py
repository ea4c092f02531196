"""A worker that writes lines when it gets SIGUSR1: $BENCH_LINES of them, then the file $BENCH_DONE."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

AT_ONCE = 500
STOP = [signal.SIGTERM, signal.SIGINT]
TEXT = "2026-01-01T00:00:00.000 INFO fleet/lines a line of an ordinary length, as a worker writes it %09d\n"


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [*STOP, signal.SIGUSR1])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        address = os.environ["NOTIFY_SOCKET"]
        out.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
    while signal.sigwait([*STOP, signal.SIGUSR1]) == signal.SIGUSR1:
        write(int(os.environ["BENCH_LINES"]))
        Path(os.environ["BENCH_DONE"]).touch()


def write(count: int) -> None:
    for first in range(0, count, AT_ONCE):
        data = "".join(TEXT % number for number in range(first, min(count, first + AT_ONCE))).encode()
        while data:
            data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
