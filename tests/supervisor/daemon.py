"""A daemon to be killed: keeps workers running in the state folder argv[1], and prints `up` once all are ready.

argv[2:] are `SLOT=SCRIPT`. Not a test; test_adopt.py runs it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from reconciler.supervisor import Supervisor
from state.processes import WorkerState
from tests.supervisor.support import spec


async def main(folder: Path, scripts: dict[int, str]) -> None:
    changed = asyncio.Event()
    supervisor = Supervisor(folder, lambda _: changed.set())
    await supervisor.start()
    for slot, script in scripts.items():
        supervisor.start_worker(spec(script, grace=0.5), slot)
    while any(worker.state is not WorkerState.READY for worker in supervisor.observe()):
        changed.clear()
        await changed.wait()
    print("up", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    arguments = (argument.partition("=") for argument in sys.argv[2:])
    asyncio.run(main(Path(sys.argv[1]), {int(slot): script for slot, _, script in arguments}))
