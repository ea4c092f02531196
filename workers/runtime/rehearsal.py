"""What each worker does first, done once before any is forked: connect, consume, handle a message, close.

The interpreter adapts code to what it meets, and fills its caches, when it runs it first. Done here, that happens in
pages that all workers share, and none of them spends the time again. The broker is a scripted one, for this process
alone; nothing of it is left when the rehearsal is over.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

from loguru import logger
from pika import frame, spec

from workers.base import BaseWorker

from .hand import Hand
from .handling import handle_all
from .settings import read_settings
from .wire import Wire

PATIENCE = 10.0  # seconds for each step; all of it takes some hundredths of one
QUEUE = "rehearsal"


def rehearse(name: str) -> None:
    """Where it cannot be, nothing but the time is lost."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(PATIENCE)
            broker = threading.Thread(target=_serve, args=(listener,), daemon=True)
            broker.start()
            _perform(name, listener.getsockname()[1])
            broker.join(PATIENCE)
        _until_alone()
    except Exception as error:
        logger.debug("no rehearsal: {}", error)


def _until_alone() -> None:
    """A thread that was joined has yet to leave the kernel's list."""
    deadline = time.monotonic() + 1.0
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)


class _Player(BaseWorker):
    """Handles one message, and then the rehearsal is over."""

    wire: Wire

    def process_message(self, *_: object) -> bool:
        self.wire.inbox.put(None)
        return True


class _NoSignals:
    """Stands for the signals that a worker waits for."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()

    def fileno(self) -> int:
        return self.ends[0].fileno()


def _perform(name: str, port: int) -> None:
    env = {"AMQP_URL": f"amqp://guest:guest@127.0.0.1:{port}/%2F?socket_timeout={PATIENCE:g}", "QUEUE_NAME": QUEUE}
    settings, hand, signals = read_settings(name, env), Hand(), _NoSignals()
    wire = Wire(settings, hand)
    player = _Player(wire.channel, QUEUE)
    player.wire = wire
    late = threading.Timer(PATIENCE, wire.inbox.put, (None,))
    late.start()
    wire.start(signals)  # type: ignore[arg-type]
    try:
        handle_all(player, wire)
    finally:
        late.cancel()
        late.join()
        wire.finish()
        for end in signals.ends:
            end.close()


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        client, _ = listener.accept()
        with client:
            client.settimeout(PATIENCE)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits for the one before
            _answer_all(client)


def _answer_all(client: socket.socket) -> None:
    client.recv(8)  # the protocol's name and version
    client.sendall(_method(0, spec.Connection.Start(server_properties={"capabilities": {}})))
    received = b""
    while data := client.recv(65536):
        received += data
        while True:
            taken, got = frame.decode_frame(received)
            if not taken:
                break
            received = received[taken:]
            client.sendall(_answer(got))


def _answer(got: frame.Frame) -> bytes:
    number, method = got.channel_number, getattr(got, "method", None)
    match method:
        case spec.Connection.StartOk():
            return _method(0, spec.Connection.Tune(2047, 131072, 0))
        case spec.Connection.Open():
            return _method(0, spec.Connection.OpenOk())
        case spec.Channel.Open():
            return _method(number, spec.Channel.OpenOk())
        case spec.Basic.Qos():
            return _method(number, spec.Basic.QosOk())
        case spec.Basic.Consume():
            tag = method.consumer_tag
            return _method(number, spec.Basic.ConsumeOk(tag)) + _message(number, tag)
        case spec.Basic.Cancel():
            return _method(number, spec.Basic.CancelOk(method.consumer_tag))
        case spec.Channel.Close():
            return _method(number, spec.Channel.CloseOk())
        case spec.Connection.Close():
            return _method(0, spec.Connection.CloseOk())
    return b""


def _message(number: int, tag: str) -> bytes:
    body = b"{}"
    properties = spec.BasicProperties(content_type="application/json", delivery_mode=2, message_id="rehearsal")
    deliver = _method(number, spec.Basic.Deliver(tag, 1, False, "", QUEUE))
    return deliver + frame.Header(number, len(body), properties).marshal() + frame.Body(number, body).marshal()


def _method(number: int, method: object) -> bytes:
    return bytes(frame.Method(number, method).marshal())
