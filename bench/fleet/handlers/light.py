"""A worker that costs its imports and nothing else: so that the supervisor's own part is seen.

A program for the peers; for the reconciler also a worker module, which says that it is ready before it would connect.
"""

from __future__ import annotations

import json  # noqa: F401
import os
import signal
import socket
import sys

import pika  # noqa: F401

STOP = [signal.SIGTERM, signal.SIGINT]  # PM2 says SIGINT, the others SIGTERM


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        address = os.environ["NOTIFY_SOCKET"]
        out.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
    signal.sigwait(STOP)
    sys.exit(0)


if __name__ == "__main__":
    main()
else:
    from .base import BaseWorker

    class Light(BaseWorker):
        def __init__(self, channel, queue_name):  # type: ignore[no-untyped-def]
            main()

        def process_message(self, ch, method, properties, body):  # type: ignore[no-untyped-def]
            raise AssertionError("it never consumes")
