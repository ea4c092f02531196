"""The verdicts on worker modules: what is wrong outside the folder may be well again by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from reconciler import modules as module
from reconciler.modules import MAX_RETRY_SECONDS, Module, Modules, Verdict
from reconciler.settings import Runtime
from tests.reconciler.support import desired
from tests.waiting import async_eventually

FILE = desired(q={"workers": {"w": 1}})
SOURCE = """\
from .base import BaseWorker


class W(BaseWorker):
    def process_message(self, ch, method, properties, body):
        return True
"""


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    """A folder with one module that has stood for a while."""
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "w.py").write_text(SOURCE)
    saved = time.time() - 3600
    os.utime(folder / "w.py", (saved, saved))
    return folder


async def test_a_check_that_could_not_run_is_made_again_and_the_fault_holds_until_then(
    workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any, **__: Any) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    modules = Modules(Runtime(workers, "amqp://here/"), lambda: None)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", busy)
        (fault,) = (await modules.settled(FILE)).values()
        assert "could not be checked" in fault
    monkeypatch.setattr(Verdict, "is_old", property(lambda verdict: verdict.fault is not None))
    assert list((modules.faults(FILE) or {}).values()) == [fault], "it is asked again, and holds meanwhile"
    await async_eventually(lambda: modules.faults(FILE) == {})
    await modules.close()


async def test_what_is_well_or_has_just_failed_is_not_asked_again(
    workers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(modules: list[Module], *_: Any) -> dict[Module, Verdict]:
        asked.append(modules)
        return dict.fromkeys(modules, Verdict("no"))

    monkeypatch.setattr(module, "ask", ask)
    modules = Modules(Runtime(workers, "amqp://here/"), lambda: None)
    await modules.settled(FILE)
    for _ in range(3):
        assert modules.faults(FILE)
        await asyncio.sleep(0)
    assert len(asked) == 1


def test_a_fault_that_stays_is_asked_about_more_and_more_seldom() -> None:
    verdict, waits = Verdict("no module named boto9"), []
    for _ in range(7):
        waits.append(verdict.again)
        verdict = Verdict("no module named boto9").after(verdict)
    assert waits == [10, 20, 40, 80, 160, 300, MAX_RETRY_SECONDS]
    assert Verdict("another").after(verdict).again == 10
    assert replace(verdict, at=time.monotonic() - 299).is_old is False
    assert replace(verdict, at=time.monotonic() - 301).is_old is True
    assert Verdict(None, at=0).is_old is False
