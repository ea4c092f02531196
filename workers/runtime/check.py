"""Tries whether worker modules import, each in a forked child of its own: `__main__.py check`, for the daemon.

In: a JSON array, or one object a line, of {"module": NAME, "env": {…}, "timeout": seconds, 20 if absent}.
Out, in the same order, one object a line: {"module", "ok", "error", "traceback_tail", "files"}. `files` are the others
of the workers' folder that the import has read, also one that failed: [path, time in ns, size] of each. A fork of a
process that has imported what every worker imports takes some 20 ms; a fresh interpreter ten times as long.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import pika  # noqa: F401  (the children find it imported)

from .loader import Fault, folder, load, stamp_of

TIMEOUT = 20.0  # seconds
AT_ONCE = max(2, os.cpu_count() or 1)
TAIL = 15  # lines of a traceback

_SET_PARENT_DEATH_SIGNAL = 1
_libc = ctypes.CDLL(None)

Result = dict[str, Any]


def check() -> int:
    """Check what stdin lists; 0, or 2 if stdin cannot be read. Faults are in the output, not in the status."""
    try:
        items = [_valid(item) for item in _read(sys.stdin.read())]
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        print(f"stdin is no list of modules: {error} (a JSON array, or one object a line)", file=sys.stderr)
        return 2
    results: dict[int, Result] = {}
    shown = 0
    for number, result in _check_all(items):
        results[number] = result
        while shown in results:
            print(json.dumps(results[shown]), flush=True)
            shown += 1
    return 0


def _read(text: str) -> list[Any]:
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _valid(item: Any) -> dict[str, Any]:
    env = item.get("env") or {}
    return {
        "module": str(item["module"]),
        "env": {str(key): str(value) for key, value in env.items()},
        "timeout": float(item.get("timeout") or TIMEOUT),
    }


@dataclass(frozen=True)
class Child:
    """A forked child that tries one module."""

    number: int
    item: dict[str, Any]
    pid: int
    pipe: int
    output: IO[bytes]
    deadline: float


def _check_all(items: list[dict[str, Any]]) -> Iterator[tuple[int, Result]]:
    """The results, as they come, of at most `AT_ONCE` children at a time."""
    waiting = list(enumerate(items))[::-1]
    running: dict[int, Child] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            child = _fork(*waiting.pop())
            running[child.pipe] = child
        wait = max(0.0, min(child.deadline for child in running.values()) - time.monotonic())
        ready = select.select(list(running), [], [], wait)[0]
        now = time.monotonic()
        for pipe, child in list(running.items()):
            if pipe in ready or child.deadline <= now:
                del running[pipe]
                yield child.number, _end(child, timed_out=pipe not in ready)


def _fork(number: int, item: dict[str, Any]) -> Child:
    read, write = os.pipe()
    output = tempfile.TemporaryFile()  # noqa: SIM115  (_end closes it)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _in_child(item, write, output.fileno())
    os.close(write)
    return Child(number, item, pid, read, output, time.monotonic() + item["timeout"])


def _in_child(item: dict[str, Any], pipe: int, output: int) -> None:
    """Import the module and write the result as one piece; whatever it prints goes to `output`. Does not return."""
    try:
        os.setsid()
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        signal.alarm(int(item["timeout"]) + 5)  # should the check itself be ended before it can end this child
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2)):
            os.dup2(descriptor, target)
        os.environ.update({"WORKER_NAME": item["module"]} | item["env"])
        read = _note_files(item["module"])
        result = _try(item["module"]) | {"files": [[path, *stamp] for path, stamp in read.items() if stamp]}
        os.write(pipe, json.dumps(result).encode() + b"\n")
    finally:
        os._exit(0)


def _note_files(module: str) -> dict[str, tuple[int, int] | None]:
    """From now on the sources under the workers' folder that are read, but for the module's own; with their stamps."""
    inside, own = str(folder()) + os.sep, str(folder() / f"{module}.py")
    ours = os.path.dirname(__file__) + os.sep
    found: dict[str, tuple[int, int] | None] = {}

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(path := arguments[0], str) or not path.startswith(inside):
            return
        if not set("wax+").isdisjoint(str(arguments[1])):
            return
        if path.endswith(".pyc"):
            with suppress(ValueError):
                path = importlib.util.source_from_cache(path)
        if path.endswith(".py") and path != own and path not in found and not path.startswith(ours):
            found[path] = stamp_of(path)

    sys.addaudithook(note)
    return found


def _try(module: str) -> Result:
    try:
        load(module)
    except Fault as fault:
        return _result(module, str(fault), _tail(fault.__cause__))
    except BaseException as error:  # whatever a metaclass or a property of the module may do
        return _result(module, f"{module}: {type(error).__name__}: {error}", _tail(error))
    return _result(module)


def _result(module: str, error: str | None = None, tail: str = "") -> Result:
    return {"module": module, "ok": error is None, "error": error, "traceback_tail": tail}


def _tail(error: BaseException | None) -> str:
    """The end of the traceback, without the frames of the import machinery and of ours."""
    if error is None:
        return ""
    trace = traceback.TracebackException.from_exception(error)
    hidden = ("<frozen ", os.path.dirname(__file__), os.path.dirname(importlib.__file__))
    trace.stack = traceback.StackSummary.from_list(
        [frame for frame in trace.stack if not frame.filename.startswith(hidden)]
    )
    return "\n".join("".join(trace.format(chain=False)).splitlines()[-TAIL:])


def _end(child: Child, *, timed_out: bool) -> Result:
    """Read the result, then end the child with everything that it started."""
    try:
        line = b"" if timed_out else _read_line(child)
        os.killpg(child.pid, signal.SIGKILL)  # one that ends by itself keeps its own status
        status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    finally:
        os.close(child.pipe)
    if line.endswith(b"\n"):
        child.output.close()
        return dict(json.loads(line))
    return _result(child.item["module"], _why_silent(child, status, timed_out), _printed(child))


def _read_line(child: Child) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        left = max(0.0, child.deadline - time.monotonic())
        if not select.select([child.pipe], [], [], left)[0]:
            break
        if not (data := os.read(child.pipe, 65536)):
            break
        line += data
    return line


def _why_silent(child: Child, status: int, timed_out: bool) -> str:
    name = child.item["module"]
    if timed_out:
        return f"{name}: importing it took longer than {child.item['timeout']:g} s (no slow work at module level)"
    if status < 0:
        return f"{name}: importing it ends the process with {signal.Signals(-status).name} (see the traceback)"
    return f"{name}: importing it ends the process (no exit at module level)"


def _printed(child: Child) -> str:
    with child.output as output:
        output.seek(0, os.SEEK_END)
        output.seek(max(0, output.tell() - 4096))
        return "\n".join(output.read().decode("utf-8", "replace").splitlines()[-TAIL:])
