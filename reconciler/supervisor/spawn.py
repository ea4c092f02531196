"""From a spec to a running process. Whatever goes wrong on the way is one `SpawnFailed` with words for a person."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from reconciler.errors import Temporary
from reconciler.supervisor import proc
from reconciler.supervisor.logfiles import log_path, open_log
from reconciler.supervisor.marker import MARKER, Mark
from reconciler.supervisor.process import Process
from reconciler.supervisor.records import Record
from state.processes import WorkerSpec

# What the daemon's own service manager told the daemon, and no worker.
PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", MARKER)


class SpawnFailed(Temporary):
    """The process could not be started."""


class Launcher:
    """Starts processes whose logs are under `logs`, and who talk to the socket at `notify_address`."""

    def __init__(self, owner: str, logs: Path, notify_address: str) -> None:
        self._owner = owner
        self._logs = logs
        self._notify_address = notify_address

    def launch(self, spec: WorkerSpec, slot: int) -> Process:
        """Raises SpawnFailed, and then nothing is left of the attempt."""
        now = time.time()
        path = log_path(self._logs, spec.pool, slot, now)
        try:
            log = open_log(path)
        except OSError as error:
            raise SpawnFailed(f"cannot write its log {path}: {error.strerror}") from error
        try:
            return self._launch(spec, slot, log, path, now)
        except SpawnFailed:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(log)

    def _launch(self, spec: WorkerSpec, slot: int, log: int, path: Path, now: float) -> Process:
        child = _popen(spec, self.environment(spec, slot), log)
        stat = proc.read_stat(child.pid)
        try:
            pidfd = os.pidfd_open(child.pid)
        except OSError as error:
            child.kill()
            child.wait()
            raise SpawnFailed(f"cannot watch over it: {error.strerror}") from error
        record = Record(
            pid=child.pid,
            start_time=stat.start_time if stat else 0,
            boot_id=proc.boot_id(),
            spec=spec,
            slot=slot,
            log_path=str(path),
            started_at=now,
        )
        return Process(record, pidfd, child)

    def environment(self, spec: WorkerSpec, slot: int) -> dict[str, str]:
        """The daemon's own, the spec's on top, and what ties the process to us."""
        inherited = {key: value for key, value in os.environ.items() if key not in PRIVATE}
        return {
            "PYTHONUNBUFFERED": "1",
            **inherited,
            **spec.env,
            "NOTIFY_SOCKET": self._notify_address,
            "SLOT": str(slot),
            MARKER: str(Mark(self._owner, spec.pool, slot)),
        }


def _popen(spec: WorkerSpec, environment: dict[str, str], log: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            spec.command,
            cwd=spec.cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            start_new_session=True,
        )
    except OSError as error:
        raise SpawnFailed(_in_words(error, spec)) from error
    except (ValueError, IndexError) as error:
        raise SpawnFailed(f"cannot be started: {error}") from error


def _in_words(error: OSError, spec: WorkerSpec) -> str:
    program = spec.command[0]
    if not os.path.isdir(spec.cwd):
        return f"working directory {spec.cwd} does not exist"
    match error:
        case FileNotFoundError():
            return f"command not found: {program}{_interpreter(spec)}"
        case PermissionError():
            return f"command not executable: {program} (chmod +x it, or name its interpreter)"
        case _:
            return f"cannot start {program}: {error.strerror}"


def _interpreter(spec: WorkerSpec) -> str:
    with suppress(OSError), open(os.path.join(spec.cwd, spec.command[0]), "rb") as script:
        first = script.readline(200)
        if first.startswith(b"#!"):
            return f" (it is there; its interpreter {first[2:].decode(errors='replace').strip()} is not)"
    return ""
