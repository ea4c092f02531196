"""From a spec to a running process: forked from its zygote, or exec'd.

Whatever goes wrong on the way is one `SpawnFailed` with words for a person. No process begins to work before
`Process.release`, so that it is on file first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import workers
from reconciler.errors import Temporary
from reconciler.supervisor import proc
from reconciler.supervisor.cgroup import Cgroups, Group
from reconciler.supervisor.image import Image, image_of
from reconciler.supervisor.limits import constrain
from reconciler.supervisor.logfiles import last_lines, log_path, open_log
from reconciler.supervisor.marker import MARKER, Mark
from reconciler.supervisor.notify import NotifySocket
from reconciler.supervisor.parents import Daemon, ForkedBy, Parent
from reconciler.supervisor.process import Process
from reconciler.supervisor.reason import explain
from reconciler.supervisor.records import Record
from reconciler.supervisor.zygote import Unfit
from reconciler.supervisor.zygotes import Zygotes
from state.processes import Limits, Pool, WorkerSpec

# What the daemon's own service manager told the daemon, and no worker; and what is of one process alone.
TOLD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
PRIVATE = (*TOLD, "LOG_FILE", "START_GATE", "RECONCILER_LISTENER", MARKER)
MOST_IMAGES = 10_000
# A foreign program waits at the gate, too: its standard input at first.
SHELL = "/bin/sh"
DEMOTED = str(Path(workers.__path__[0]) / "runtime" / "demoted.py")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
GATE = 'read -r go || exit 0; exec "$0" "$@" </dev/null'


class SpawnFailed(Temporary):
    """The process could not be started."""


class Launcher:
    """Starts processes whose logs are under `logs`, and who talk to the socket `notify`."""

    def __init__(self, owner: str, logs: Path, notify: NotifySocket, zygotes: Zygotes, cgroups: Cgroups) -> None:
        self._owner = owner
        self._logs = logs
        self._notify = notify
        self._zygotes = zygotes
        self._cgroups = cgroups
        # Read once: decoding it for each of a thousand workers takes longer than all else here.
        self._inherited = {key: value for key, value in os.environ.items() if key not in PRIVATE}
        self._images: dict[tuple[Pool, str], Image] = {}

    def image_of(self, spec: WorkerSpec) -> Image:
        """As `image.image_of`, remembered: it is asked for each time somebody looks."""
        key = spec.pool, spec.digest
        if key not in self._images:
            self._images = {} if len(self._images) >= MOST_IMAGES else self._images
            self._images[key] = image_of(spec)
        return self._images[key]

    def why_exec(self, spec: WorkerSpec) -> str | None:
        """Why a worker that asks for a zygote is exec'd all the same, as far as it is known."""
        return self._zygotes.why_unfit(self.image_of(spec)) if spec.zygote else None

    def is_forked(self, spec: WorkerSpec) -> bool:
        """Whether it costs a fork, not the start of an interpreter."""
        return spec.zygote and self.why_exec(spec) is None

    async def launch(self, spec: WorkerSpec, slot: int) -> Process:
        """Raises SpawnFailed, or Unfit if it has to be exec'd; then nothing is left of the attempt."""
        now = time.time()
        path = log_path(self._logs, spec.pool, slot, now)
        try:
            log = open_log(path)
        except OSError as error:
            raise SpawnFailed(f"cannot write its log {path}: {error.strerror}") from error
        try:
            pid, gate, parent = await self._start(spec, slot, log, path)
            return await self._process(spec, slot, path, now, pid, gate, parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(log)

    def environment(self, spec: WorkerSpec, slot: int, log: Path) -> dict[str, str]:
        """The daemon's own, the spec's on top, and what ties the process to us.

        One that is another user's reaches nothing in the state folder: it has no LOG_FILE that it could open anew.
        """
        tied = {"SLOT": str(slot), MARKER: str(Mark(self._owner, spec.pool, slot))}
        if spec.limits.user is None:
            tied |= {"NOTIFY_SOCKET": self._notify.address, "LOG_FILE": str(log)}
        else:
            tied |= {"NOTIFY_SOCKET": self._notify.open_address}
        return {"PYTHONUNBUFFERED": "1", **self._inherited, **spec.env, **tied}

    async def _start(self, spec: WorkerSpec, slot: int, log: int, path: Path) -> tuple[int, int, Parent]:
        environment = self.environment(spec, slot, path)
        if self.is_forked(spec):
            return await self._fork(spec, slot, log, environment)
        return _exec(spec, log, environment)

    async def _fork(
        self, spec: WorkerSpec, slot: int, log: int, environment: dict[str, str]
    ) -> tuple[int, int, Parent]:
        request = {
            "title": f"reconciler: {spec.pool}[{slot}]",
            "cwd": spec.cwd,
            "limits": _for_demote(spec.limits),
        }
        try:
            forked, zygote = await self._zygotes.fork(self.image_of(spec), environment, request, log)
        except OSError as error:
            raise SpawnFailed(str(error)) from error
        return forked.pid, forked.gate, ForkedBy(zygote, self._zygotes, environment[MARKER])

    async def _process(
        self, spec: WorkerSpec, slot: int, path: Path, now: float, pid: int, gate: int, parent: Parent
    ) -> Process:
        stat = proc.read_stat(pid)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.close(gate)  # it waits there, and ends
            code = await parent.bury(pid, -1)
            raise SpawnFailed(_at_once(error, code, path)) from error
        start_time = stat.start_time if stat else 0
        group = await self._enter(pid, start_time, pidfd, gate, parent)
        record = Record(
            pid=pid,
            start_time=start_time,
            boot_id=proc.boot_id(),
            spec=spec,
            slot=slot,
            log_path=str(path),
            started_at=now,
            cgroup=str(group.path) if group else None,
        )
        return Process(record, pidfd, parent, gate, group)

    async def _enter(self, pid: int, start_time: int, pidfd: int, gate: int, parent: Parent) -> Group | None:
        try:
            return await self._cgroups.enter(pid, start_time)
        except BaseException:  # nobody wants it any more
            os.close(pidfd)
            os.close(gate)
            await parent.bury(pid, -1)
            raise


def _at_once(error: OSError, code: int | None, log: Path) -> str:
    """Why there is nothing to watch over."""
    if isinstance(error, ProcessLookupError):
        return f"it ended at once: {explain(code, last_lines(log))}"
    return f"cannot watch over it: {error.strerror}"


def _exec(spec: WorkerSpec, log: int, environment: Mapping[str, str]) -> tuple[int, int, Parent]:
    foreign = _refuse(spec, environment) and not spec.module and _shell_passes_on(environment)
    theirs, ours = os.pipe2(os.O_CLOEXEC)
    gate = {"START_GATE": str(theirs)} if spec.module else {}
    try:
        child = subprocess.Popen(
            [*_demoted(spec.limits), *((SHELL, "-c", GATE) if foreign else ()), *spec.command],
            cwd=spec.cwd,
            env={**environment, **gate},
            stdin=theirs if foreign else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            pass_fds=(theirs,) if spec.module else (),
            start_new_session=True,
        )
    except (OSError, ValueError, IndexError) as error:
        os.close(ours)
        raise SpawnFailed(_in_words(error, spec)) from error
    finally:
        os.close(theirs)
    try:
        if spec.limits.user is None:
            constrain(child.pid, spec.limits)
    except (OSError, ValueError) as error:
        os.close(ours)
        child.kill()
        child.wait()
        raise SpawnFailed(str(error)) from error
    child.returncode = 0  # `Daemon` reaps it, not Popen
    return child.pid, ours, Daemon()


def _refuse(spec: WorkerSpec, environment: Mapping[str, str]) -> bool:
    """Raises SpawnFailed for a program that is not there: a shell would say it less clearly, and later.

    Whether a shell runs it as the kernel does: of what is no binary and names no interpreter, it makes a guess.
    """
    program = spec.command[0] if spec.command else ""
    if not os.path.isdir(spec.cwd):
        raise SpawnFailed(f"working directory {spec.cwd} does not exist")
    if any("\0" in word for word in spec.command):
        raise SpawnFailed("cannot be started: a word of its command holds a null byte")
    by_path = os.path.join(spec.cwd, program) if "/" in program else None
    found = by_path or shutil.which(program, path=environment.get("PATH"))
    if found is None or not os.path.isfile(found):
        raise SpawnFailed(f"command not found: {program}")
    if not os.access(found, os.X_OK):
        raise SpawnFailed(f"command not executable: {program} (chmod +x it, or name its interpreter)")
    head = _head(found)
    interpreter = head[2:].decode(errors="replace").strip() if head.startswith(b"#!") else ""
    if interpreter and not os.path.exists(interpreter.split()[0]):
        raise SpawnFailed(f"command not found: {program} (it is there; its interpreter {interpreter} is not)")
    return bool(interpreter) or head.startswith(b"\x7fELF")


def _shell_passes_on(environment: Mapping[str, str]) -> bool:
    """Whether it is there, and hands all of it on: dash drops what could not be the name of a variable of its own."""
    return os.access(SHELL, os.X_OK) and all(NAME.fullmatch(name) for name in environment)


def _head(program: str) -> bytes:
    with suppress(OSError), open(program, "rb") as file:
        return file.readline(200)
    return b""


def _demoted(limits: Limits) -> tuple[str, ...]:
    """What goes before the command of one that is another user's: it limits itself, and becomes that user."""
    if limits.user is None:
        return ()
    return (sys.executable, "-I", "-S", DEMOTED, json.dumps(_for_demote(limits)))


def _for_demote(limits: Limits) -> dict[str, Any]:
    """The arguments of workers/runtime/demote.py; none that asks for nothing."""
    asked = {"nice": limits.nice, "cpu_affinity": limits.cpu_affinity, "user": limits.user, "rlimits": limits.rlimits}
    return {name: value for name, value in asked.items() if value not in (None, (), {})}


def _in_words(error: Exception, spec: WorkerSpec) -> str:
    if isinstance(error, OSError):
        return f"cannot start {spec.command[0]}: {error.strerror}"
    return f"cannot be started: {error}"


__all__ = ["Launcher", "SpawnFailed", "Unfit"]
