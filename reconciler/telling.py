"""What the loop says in the log and to `/events`: each thing once, however often it is looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from loguru import logger as log

from reconciler.actions import Result
from reconciler.attempts import about
from reconciler.events import Events
from reconciler.intake import InForce, Reading
from reconciler.plan import Plan


class Teller:
    """Remembers what it said last of everything that is held up."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._told: set[tuple[str, str]] = set()  # names, and why each is held

    def result(self, result: Result) -> None:
        if result.error is None:
            log.info("{}", result.action)
            self._events.tell("action", str(result.action), cost=result.action.cost)
        else:
            held = about(result.action, f"{result.action}: {result.error}")
            self._held(held.name, held.reason)

    def plan(self, plan: Plan, reading: Reading) -> None:
        """Says what is held, once the file has settled; forgets what is not held any more."""
        held = {(held.name, held.reason) for held in plan.held}
        tried = {about(action, "").name for action in plan.actions}
        self._told = {known for known in self._told if known in held or known[0] in tried}
        for one in plan.held if not reading.settles_in else ():
            self._held(one.name, one.reason)

    def _held(self, name: str, reason: str) -> None:
        if (name, reason) not in self._told:
            self._told.add((name, reason))
            log.warning("held: {}: {}", name, reason)
            self._events.tell("held", f"{name}: {reason}")

    def news(self, before: Reading | None, now: Reading) -> None:
        """Says what is wrong with the file, and which revision came into force."""
        if now.faults and (before is None or before.faults != now.faults):
            for fault in now.faults:
                log.error("{}", fault)
                self._events.tell("file", str(fault))
        known = before.in_force if before else InForce()
        if known.revision != now.in_force.revision:
            log.info("revision {} is in force", now.in_force.revision[:12])
            self._events.tell("plan", f"revision {now.in_force.revision[:12]} is in force")

    def warnings(self, before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> None:
        """Says what the broker will not do as the file says."""
        known = list(before)
        for warning in now:
            if warning not in known:
                log.warning("{severity}: {path}: {message}", **warning)
                self._events.tell("file", f"{warning['path']}: {warning['message']}")

    def broker(self, text: str, *, well: bool = False) -> None:
        (log.info if well else log.warning)("{}", text)
        self._events.tell("broker", text)
