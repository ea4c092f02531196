"""Drift as the loop meets it: told apart from change, told of once, and remembered."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from loguru import logger as log

from reconciler.actions import Result
from reconciler.diff import BindingMissing, Change, Wanted, foreign_bindings
from reconciler.drift import Drift
from reconciler.events import Events
from reconciler.reached import Drifted, Reached
from reconciler.witness import Witness
from state.desired import Desired
from state.ledger import Ledger
from state.observed import ObservedBinding, ObservedBroker


class Drifting:
    """Knows what was once as the file says, at each broker."""

    def __init__(self, ledger: Ledger, events: Events, witness: Witness) -> None:
        self._ledger = ledger
        self._events = events
        self._witness = witness
        self._reached: dict[str, Reached] = {}
        self._told: set[tuple[object, str]] = set()
        self.standing: Sequence[Drifted] = ()  # what others changed, as of the last look
        self.foreign: frozenset[ObservedBinding] = frozenset()  # the bindings that are neither in the file nor ours
        self._looked = False

    def among(self, changes: Iterable[Change], desired: Desired, observed: ObservedBroker | None) -> list[Drifted]:
        """The changes of which the file is not the reason."""
        return self._of(observed).drifted(changes, desired) if observed is not None else []

    def _of(self, observed: ObservedBroker) -> Reached:
        known = observed.identity
        if known not in self._reached:
            self._reached[known] = Reached(self._ledger.reached.get(known))
        return self._reached[known]

    def forget(self, observed: ObservedBroker) -> None:
        """It is another broker than before, of the same name."""
        self._reached.pop(observed.identity, None)

    def look(
        self,
        changes: Sequence[Change],
        drifts: Sequence[Drifted],
        desired: Desired,
        wanted: Wanted,
        observed: ObservedBroker,
        moving: Collection[str] = (),
    ) -> bool:
        """Takes in what a turn saw; was there a drift that was not seen before? `moving`: queues under migration."""
        ours = self._ledger.holdings(observed.identity)
        reached = self._of(observed)
        reached.look(changes, drifts, desired, wanted)
        try:
            self._ledger.remember_reached(observed.identity, reached.kept)
        except OSError as error:
            log.warning("the ledger cannot be written, so a restart may mend what is only to be reported: {}", error)
        self.standing = tuple(drifts)
        # A migration binds and unbinds the queue itself: until it is done, what was known stands.
        foreign = {b for b in foreign_bindings(wanted.bindings, observed, ours) if b.destination not in moving}
        self._tell_foreign(frozenset(foreign | {b for b in self.foreign if b.destination in moving}), desired)
        return self._tell(drifts)

    def did(self, results: Iterable[Result], observed: ObservedBroker) -> None:
        """Takes in what the turn has done."""
        for result in results:
            if result.error is None:
                self._of(observed).made(result.action)

    def _tell(self, drifts: Sequence[Drifted]) -> bool:
        new = [d for d in drifts if (d.subject, d.what) not in self._told and not goes_with_another(d, drifts)]
        self._told = {(drift.subject, drift.what) for drift in drifts}
        for drift in new:
            text = in_words(drift) + ("" if drift.corrected else " (only reported)")
            log.warning("drift: {}", text)
            self._events.tell("drift", text, **({"queue": drift.queue} if drift.queue is not None else {}))
        now = time.time()
        self._witness.saw([Drift(now, drift.about, drift.what, drift.corrected) for drift in new])
        return bool(new)

    def _tell_foreign(self, foreign: frozenset[ObservedBinding], desired: Desired) -> None:
        """A binding that somebody else makes is left alone, and told of: it may bring messages nobody expects."""
        new, self.foreign = foreign - self.foreign if self._looked else frozenset(), foreign
        self._looked = True
        for binding in sorted(new, key=str):
            listed = desired.queues if binding.destination_type == "queue" else desired.exchanges
            if binding.destination in listed:
                log.warning("drift: somebody else bound {} (it is left: only what is ours is removed)", binding)
                self._events.tell("drift", f"somebody else bound {binding} (it is left)", queue=binding.destination)


def in_words(drift: Drifted) -> str:
    if drift.queue is not None:
        return f"queue {drift.queue}: {drift.what}"
    return f"exchange {drift.about}: {drift.what}" if drift.subject[0] == "exchange" else drift.what


def goes_with_another(drift: Drifted, drifts: Sequence[Drifted]) -> bool:
    """Bindings are gone with the queue or the exchange that they were of: then that one is told of."""
    if not isinstance(drift.change, BindingMissing):
        return False
    binding = drift.change.binding
    ends = (binding.destination_type, binding.destination), ("exchange", binding.source)
    return any(other.subject in ends for other in drifts)
