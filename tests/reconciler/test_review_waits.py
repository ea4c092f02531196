"""A plan that is asked for waits for the file to be judged, but not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler import loop as module
from reconciler.events import Events
from reconciler.intake import InForce, Reading
from reconciler.loop import Loop, NotJudged
from state.ledger import Ledger
from tests.broker.fake import FakeBroker
from tests.reconciler.support import RUNTIME
from tests.supervisor.fake import FakeSupervisor


class Undecided:
    """An intake that comes to no verdict: nothing was fetched yet."""

    async def read(self) -> Reading:
        return Reading(InForce(), waiting=("nothing was fetched from there yet",))


async def test_a_review_of_a_file_that_cannot_be_judged_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    broker, ledger = FakeBroker(), Ledger.load(tmp_path / "ledger.json")
    broker.foreign_connections = None  # type: ignore[attr-defined] # nobody is asked whose they are
    loop = Loop(Undecided(), broker, FakeSupervisor(), ledger, RUNTIME, Events(), 30)  # type: ignore[arg-type]
    with pytest.raises(NotJudged, match="cannot be judged yet: nothing was fetched from there yet"):
        await loop.review()
