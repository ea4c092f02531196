"""A worker that costs its imports and nothing else: so that the supervisor's own part is seen."""

from __future__ import annotations

import json  # noqa: F401
import os
import signal
import socket

import pika  # noqa: F401

STOP = [signal.SIGTERM, signal.SIGINT]  # PM2 says SIGINT, the others SIGTERM


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        address = os.environ["NOTIFY_SOCKET"]
        out.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
    signal.sigwait(STOP)


if __name__ == "__main__":
    main()
