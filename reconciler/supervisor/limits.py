"""A worker's limits: what the kernel is told when its process starts, and why it is replaced later on.

`overdue` and what it needs are pure; `Checkup` looks at the clock and asks it.
"""

from __future__ import annotations

import os
import resource
import zlib
from collections.abc import Callable, Iterator

from state.processes import Limits, ObservedWorker, WorkerState

JITTER = 0.1  # of max_messages and max_age, downwards: workers that start together are not all replaced together


def is_watched(limits: Limits) -> bool:
    """Whether there is anything that one has to look at while it runs."""
    watched = limits.watchdog, limits.message_timeout, limits.max_memory, limits.max_messages, limits.max_age
    return any(limit is not None for limit in watched)


def overdue(worker: ObservedWorker, limits: Limits, now: float, private_bytes: int | None) -> str | None:
    """Why it is to be drained and replaced, in words; None if it may go on.

    `now`: seconds since the epoch; `private_bytes`: its private memory, None if that is not known.
    """
    if worker.pid is None or worker.state not in (WorkerState.READY, WorkerState.STARTING):
        return None
    return hung(worker, limits, now) or next(_spent(worker, limits, now, private_bytes), None)


def hung(worker: ObservedWorker, limits: Limits, now: float) -> str | None:
    """The breach that a process does not hear of: it said nothing for longer than its watchdog allows."""
    # Before a worker has told its consumer, it may be importing, or be a program that tells nothing until it is ready.
    if limits.watchdog is None or not (worker.state == WorkerState.READY or worker.consumer_tag):
        return None
    silent = now - max(worker.started_at, worker.heartbeat_at or 0.0)
    return f"no heartbeat for {silent:.0f} s (watchdog {limits.watchdog:g} s)" if silent > limits.watchdog else None


def _spent(worker: ObservedWorker, limits: Limits, now: float, private_bytes: int | None) -> Iterator[str]:
    held = 0.0 if worker.in_flight_since is None else now - max(worker.started_at, worker.in_flight_since)
    if limits.message_timeout is not None and held > limits.message_timeout:
        yield f"one message in hand for {held:.0f} s (message_timeout {limits.message_timeout:g} s)"
    if limits.max_memory is not None and private_bytes is not None and private_bytes > limits.max_memory:
        yield f"{_mebibytes(private_bytes)} of private memory (max_memory {_mebibytes(limits.max_memory)})"
    handled = worker.processed + worker.failed
    if limits.max_messages is not None and handled >= max(1.0, limits.max_messages * share(worker)):
        yield f"{handled} messages (max_messages {limits.max_messages})"
    age = now - worker.started_at
    if limits.max_age is not None and age >= limits.max_age * share(worker):
        yield f"{age:.0f} s old (max_age {limits.max_age:g} s)"


def share(worker: ObservedWorker) -> float:
    """How much of a limit this process may use up, from 1 - JITTER to 1: always the same for the same process."""
    name = f"{worker.pool}[{worker.slot}] {worker.started_at}"
    return 1.0 - JITTER * zlib.crc32(name.encode(errors="backslashreplace")) / 2**32


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:.4g} MiB"


def constrain(pid: int, limits: Limits) -> None:
    """Put a process that has just started, with one thread as yet, under its nice, cores and rlimits.

    Raises OSError if the system refuses, ValueError if there is no such core or rlimit; both say what and why.
    """
    for name, value in limits.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            raise ValueError(f"there is no rlimit {name}")
        _try(f"rlimit {name} {value}", resource.prlimit, pid, number, (value, value))
    if limits.nice is not None:
        _try(f"nice {limits.nice}", os.setpriority, os.PRIO_PROCESS, pid, limits.nice)
    if limits.cpu_affinity:
        _try(f"cpu_affinity {list(limits.cpu_affinity)}", os.sched_setaffinity, pid, limits.cpu_affinity)


def _try(what: str, change: Callable[..., object], *arguments: object) -> None:
    try:
        change(*arguments)
    except ProcessLookupError:  # how it ended is told by its end
        pass
    except PermissionError as error:
        raise OSError(f"{what} is not permitted (only root may: run the daemon as root, or leave it out)") from error
    except OSError as error:
        raise OSError(f"{what} is refused: {error.strerror}") from error
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{what} is refused: {error}") from error
