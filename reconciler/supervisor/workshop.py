"""What all slots share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reconciler.supervisor.event import Event
from reconciler.supervisor.process import Process
from reconciler.supervisor.records import Records
from reconciler.supervisor.spawn import Launcher
from reconciler.supervisor.starts import StartQueue

if TYPE_CHECKING:
    from reconciler.supervisor.slot import Slot


@dataclass
class Workshop:
    """The tools of the supervisor, and whom to tell."""

    loop: asyncio.AbstractEventLoop
    launcher: Launcher
    records: Records
    cold: StartQueue  # for what costs the start of an interpreter
    forks: StartQueue  # for what costs a fork
    emit: Callable[[Event], None]
    catch_up: Callable[[], None]  # takes in what workers have said so far
    ended: Callable[[Process], None]
    gone: Callable[[Slot], None]
    by_pid: dict[int, Slot] = field(default_factory=dict)
