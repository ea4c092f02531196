"""What a worker process is told in its environment."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pika import URLParameters

from .failure import Ways

HEARTBEAT = 20  # seconds, unless AMQP_URL says ?heartbeat=…: a dead broker is noticed within 25
CONNECT_TIMEOUT = 3.0  # seconds for TCP: consuming again must not wait for an address that does not answer
HANDSHAKE_TIMEOUT = 10.0  # seconds for all of it: two hundred workers that start together are slow, not stuck
RETRY_EXAMPLE = '{"attempts": 5, "queues": ["orders.retry.1s", "orders.retry.1m"]}'


@dataclass
class Settings:
    """One worker process, or all of its pool before it is known which. `url` holds the password: never log it."""

    url: str
    queue: str
    worker: str
    slot: str
    prefetch: int
    notify_socket: str | None
    watchdog: float | None = None  # seconds within which the supervisor wants a heartbeat
    log_file: str | None = None
    ways: Ways | None = None  # where failed messages go; None if the broker decides

    @property
    def consumer_tag(self) -> str:
        return f"{self.worker}-{self.slot}-{os.getpid()}"

    def take_own(self, env: Mapping[str, str]) -> None:
        """What differs from process to process, in one that was forked after the rest was read."""
        self.slot, self.log_file = env.get("SLOT") or "0", env.get("LOG_FILE") or None

    def parameters(self, role: str = "worker") -> URLParameters:
        """How to connect; `role` is what the connection is called in the broker's own pages."""
        parameters = copy.copy(parsed(self.url))
        name = f"reconciler {role} {self.queue}/{self.worker}[{self.slot}]"
        parameters.client_properties = {"connection_name": name, "pid": os.getpid()}
        return parameters


@cache
def parsed(url: str) -> URLParameters:
    """Not to be changed: a worker that was forked from a process that had parsed the URL need not do it again."""
    parameters = URLParameters(url)
    if parameters.heartbeat is None:
        parameters.heartbeat = HEARTBEAT
    if "socket_timeout=" not in url:
        parameters.socket_timeout = CONNECT_TIMEOUT
    if "stack_timeout=" not in url:
        parameters.stack_timeout = HANDSHAKE_TIMEOUT
    parameters.connection_attempts = 1
    return parameters


def read_settings(worker: str, env: Mapping[str, str]) -> Settings:
    """The settings in `env`. Raises ValueError with one line that names the variable."""
    settings = Settings(
        url=_needed(env, "AMQP_URL"),
        queue=_needed(env, "QUEUE_NAME"),
        worker=env.get("WORKER_NAME") or worker,
        slot=env.get("SLOT") or "0",
        prefetch=_prefetch(env.get("PREFETCH") or "10"),
        notify_socket=env.get("NOTIFY_SOCKET") or None,
        watchdog=_watchdog(env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")),
        log_file=env.get("LOG_FILE") or None,
        ways=_ways(env),
    )
    try:
        parsed(settings.url)
    except Exception:  # what pika says of it may hold the password
        raise ValueError("AMQP_URL cannot be read (amqp://user:password@host:port/vhost)") from None
    return settings


def _needed(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise ValueError(f"{name} is not set (the supervisor sets it; by hand, put it before the command)")
    return env[name]


def _prefetch(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError(f"PREFETCH is {text!r} (a number from 0, unlimited, to 65535)")
    return int(text)


def _ways(env: Mapping[str, str]) -> Ways | None:
    dead_letter, retry = env.get("QUEUE_DEAD_LETTER") or None, env.get("QUEUE_RETRY")
    if not dead_letter and not retry:
        return None
    try:
        given = json.loads(retry or "{}")
        delays = tuple(map(str, given.get("queues", ())))
        return Ways(_needed(env, "QUEUE_NAME"), int(given.get("attempts", 1)), delays, dead_letter)
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"QUEUE_RETRY is {retry!r} (such as {RETRY_EXAMPLE})") from None


def _watchdog(usec: str, pid: str) -> float | None:
    """As sd_watchdog_enabled(3): a variable that was meant for another process, or nonsense, asks for nothing."""
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 1e6 if usec.isascii() and usec.isdigit() and int(usec) > 0 else None
