"""What a zygote is the zygote of: from a spec to the process that its workers may be forked from. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from state.processes import WorkerSpec

# Set for each worker by itself; a module that reads one of them when it is imported is found out by its zygote.
PER_WORKER = ("QUEUE_NAME", "PREFETCH", "WATCHDOG_USEC", "QUEUE_RETRY", "QUEUE_DEAD_LETTER")
# The kernel shows what the command line was at the start; the title of a worker is written into this room.
ROOM = " " * 300


@dataclass(frozen=True)
class Image:
    """An interpreter, a module and the environment at its import. Two images are the same exactly if their keys are."""

    key: str
    module: str
    command: tuple[str, ...]
    env: Mapping[str, str]  # on top of the daemon's own
    cwd: str


def image_of(spec: WorkerSpec) -> Image:
    """The image of a Python worker; its command ends with `run NAME`."""
    module = spec.module or ""
    command = (*spec.command[:-2], "zygote", module, ROOM)
    env = {key: value for key, value in spec.env.items() if key not in PER_WORKER}
    text = json.dumps([command, sorted(env.items()), spec.cwd, spec.code])
    key = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return Image(key, module, command, env, spec.cwd)
