"""The worker process: `python -P …/workers/__main__.py run NAME`.

`zygote NAME` imports the module once and forks such processes; `check` tries imports for the daemon.

It is run by its path, and makes the package `workers` itself, of this folder and the user's (WORKERS_FOLDER). So
`from .base import BaseWorker` and `from workers.base import BaseWorker` mean the same in a folder of any name, and
no other `workers` on PYTHONPATH or in the current folder can stand in for it.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

USAGE = "usage: __main__.py run WORKER_NAME | zygote WORKER_NAME | check"
HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Run one worker until it is told to stop, or check modules; the exit status."""
    match arguments:
        case ["run", name]:
            _end_at_once_when_told()
            make_package()
            from workers.runtime.main import run

            return run(name)
        case ["zygote", name, *_]:
            make_package(zygote=True)
            from workers.runtime.main import run
            from workers.runtime.newborn import become, leave
            from workers.runtime.zygote import serve

            request, worker, prepared = serve(name)
            become(request)
            leave(run(name, worker, prepared, request.gate))
        case ["check"]:
            make_package()
            from workers.runtime.check import check

            return check()
    print(USAGE, file=sys.stderr)
    return 2


def make_package(*, zygote: bool = False) -> None:
    """Put the package `workers` in place. `base` and `runtime` are ours; any other name is the user's first."""
    spec = importlib.util.spec_from_file_location(
        "workers", HERE / "__init__.py", submodule_search_locations=[str(HERE)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["workers"] = package
    spec.loader.exec_module(package)
    importlib.import_module("workers.runtime")
    if zygote:  # before anything imports threading
        importlib.import_module("workers.runtime.hooks").withhold()
    importlib.import_module("workers.base")
    user = Path(os.environ.get("WORKERS_FOLDER") or HERE).resolve()
    package.__path__ = list(dict.fromkeys([str(user), str(HERE)]))
    _hold(user.parent / ".reconciler-in-use")


def _hold(mark: Path) -> None:
    """Keeps the checkout of a followed branch, if it is one, while this process and its forks live: never closed."""
    with suppress(OSError):
        fcntl.flock(os.open(mark, os.O_RDONLY | os.O_NONBLOCK), fcntl.LOCK_SH)


def _end_at_once_when_told() -> None:
    """Until there is a connection there is nothing to finish, however slow the user's module is to import."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, lambda *_: None)  # its log is looked at once it runs


if __name__ == "__mp_main__":  # a child of multiprocessing's `spawn` finds the handler's functions in the same package
    make_package()
elif __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
