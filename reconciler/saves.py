"""How the file came to say what it says: whole at once, or in pieces? Pure; `watch` tells what happens, `intake` asks.

An editor that truncates and writes in pieces passes through shorter files that are valid, and say something else. So a
file is believed at once if it took the place of another by a rename, and once its writer has closed it. Some writers
close it between two pieces: what takes something out then is believed only after it has stood for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from state.desired import Desired


class Save(Enum):
    UNKNOWN = "nobody saw it being saved"
    OPEN = "a writer has not closed it yet"
    CLOSED = "its writer has closed it"
    WHOLE = "it was renamed into its place"


@dataclass(frozen=True)
class Sight:
    """`serial` grows with all that happens to the file: if it did, what was read between may be half of something."""

    save: Save = Save.UNKNOWN
    serial: int = 0

    def modified(self) -> Sight:
        return Sight(Save.OPEN, self.serial + 1)

    def closed(self) -> Sight:
        save = Save.CLOSED if self.save is Save.OPEN else self.save
        return Sight(save, self.serial + 1)

    def renamed(self) -> Sight:
        return Sight(Save.WHOLE, self.serial + 1)

    def lost(self) -> Sight:
        """Something may have happened that was not seen."""
        return Sight(Save.UNKNOWN, self.serial + 1)


def save_between(before: Sight, after: Sight) -> Save:
    """How that was saved which was read between two looks."""
    return after.save if before.serial == after.serial else Save.UNKNOWN


def takes_out(old: Desired, new: Desired) -> bool:
    """Is something that `old` lists not in `new`? Half a file is like that."""
    if old.exchanges.keys() - new.exchanges or old.policies.keys() - new.policies or old.queues.keys() - new.queues:
        return True
    if any(len(exchange.bindings) > len(new.exchanges[name].bindings) for name, exchange in old.exchanges.items()):
        return True
    return any(
        len(queue.bindings) > len(new.queues[name].bindings)
        or queue.workers.keys() - new.queues[name].workers
        or queue.model_fields_set - new.queues[name].model_fields_set
        for name, queue in old.queues.items()
    )
