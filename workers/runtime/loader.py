"""Finds the one worker class of a module in the user's folder, or says in one line what is wrong with it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from workers.base import BaseWorker

RESERVED = frozenset({"base", "runtime", "__init__", "__main__"})


class Fault(Exception):
    """A worker module that cannot run: one line, what is wrong (what would be right)."""


def load(name: str) -> type[BaseWorker]:
    """The worker class of `workers/NAME.py`. Raises Fault, from what the module raised, if that is why."""
    _refuse_name(name)
    if (parent := str(folder().parent)) not in sys.path[:1]:
        sys.path.insert(0, parent)  # what lies beside the folder can be imported
    _refuse_missing(name)
    return _only_worker(_import(name), name)


def folder() -> Path:
    """The user's folder."""
    return Path(sys.modules["workers"].__path__[0])


def stamp_of(path: str) -> tuple[int, int] | None:
    """When it was changed, in ns, and its size; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _refuse_name(name: str) -> None:
    if name in RESERVED:
        raise Fault(f"{name} is the runtime's own module (give the worker another name)")
    if not name or any(character in "./\\\0" for character in name):
        raise Fault(f"{name!r} is no module name (the file's name, without folder and .py)")


def _refuse_missing(name: str) -> None:
    spec = importlib.util.find_spec(f"workers.{name}")
    if spec is not None and spec.origin is not None:
        return
    if _is_denied(folder()):
        right = "make it, and the folders above it, readable for that user"
        raise Fault(f"{folder()} cannot be read by user {os.geteuid()} ({right})")
    known = sorted({path.stem for path in folder().glob("*.py")} - RESERVED)
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "make it, with one subclass of BaseWorker"
    raise Fault(f"{folder().name}/{name}.py does not exist ({hint})")


def _is_denied(folder: Path) -> bool:
    try:
        os.listdir(folder)
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(folder, os.X_OK)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"workers.{name}")
    except SyntaxError as error:
        place = f"{_short(error.filename or name)}:{error.lineno}"
        raise Fault(f"{place}: {type(error).__name__}: {_line(error.msg)} (correct that line)") from error
    except SystemExit as error:
        raise Fault(f"{_place(error, name)}: it ends the process at import (no exit at module level)") from error
    except ModuleNotFoundError as error:
        right = f"install it where the daemon runs, or put it into {folder().parent}"
        raise Fault(f"{_place(error, name)}: {_line(error)} ({right})") from error
    except BaseException as error:
        right = "a worker module must import without errors"
        raise Fault(f"{_place(error, name)}: {type(error).__name__}: {_line(error)} ({right})") from error


def _only_worker(module: ModuleType, name: str) -> type[BaseWorker]:
    """The one subclass of BaseWorker defined in `module` that no other one there builds upon."""
    classes = [thing for thing in dict.fromkeys(_classes(module)) if issubclass(thing, BaseWorker)]
    leaves = [one for one in classes if not any(one in other.__mro__[1:] for other in classes)]
    if not leaves:
        right = f"class {_camel(name)}(BaseWorker): …; imported ones do not count"
        raise Fault(f"{_short(module.__file__ or name)}: no subclass of BaseWorker is defined here ({right})")
    if len(leaves) > 1:
        names = ", ".join(sorted(leaf.__name__ for leaf in leaves))
        raise Fault(f"{_short(module.__file__ or name)}: {len(leaves)} workers, {names} (one in each module)")
    _refuse_class(leaves[0])
    return leaves[0]


def _classes(module: ModuleType) -> list[type]:
    own = (module.__name__, module.__name__ + ".")
    return [
        thing
        for thing in vars(module).values()
        if isinstance(thing, type) and (thing.__module__ == own[0] or thing.__module__.startswith(own[1]))
    ]


def _refuse_class(worker: type[BaseWorker]) -> None:
    handler = worker.process_message
    if handler is BaseWorker.process_message:
        right = "write process_message(self, ch, method, properties, body)"
        raise Fault(f"{worker.__name__} has no process_message ({right})")
    if inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler):
        raise Fault(f"{worker.__name__}.process_message is async or yields (a plain def; asyncio.run() inside it)")
    if not isinstance(inspect.getattr_static(worker, "process_message"), staticmethod) and not _takes(handler, 5):
        raise Fault(f"{worker.__name__}.process_message has other parameters (self, ch, method, properties, body)")
    if not _takes(worker.__init__, 3):
        raise Fault(f"{worker.__name__}.__init__ has other parameters (self, channel, queue_name)")


def _takes(function: Callable[..., object], count: int) -> bool:
    """Whether it can be called with `count` positional arguments, as far as one can see."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _place(error: BaseException, name: str) -> str:
    """The last line of the user's own code that `error` came through."""
    parent = str(folder().parent) + os.sep
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(parent)]
    frames = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else f"{folder().name}/{name}.py"


def _short(path: str) -> str:
    try:
        return str(Path(path).relative_to(folder().parent))
    except ValueError:
        return path


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_")) or "Work"
