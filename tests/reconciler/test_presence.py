"""What tells the command line that a daemon is here."""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path

import pytest

from reconciler import presence
from reconciler.presence import announce, withdraw
from reconciler.settings import Settings
from state.file import write_atomically
from tests.waiting import async_eventually


async def test_a_full_disk_delays_the_announcement_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, tries = Settings(state=tmp_path), []

    def full_at_first(path: Path, data: bytes) -> None:
        tries.append(path)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr(presence, "write_atomically", full_at_first)
    monkeypatch.setattr(presence, "AGAIN_SECONDS", 0.01)
    task = asyncio.create_task(announce(settings, "http://here", "amqp://there", None))
    await async_eventually(task.done)
    assert json.loads((tmp_path / "daemon.json").read_text())["url"] == "http://here"
    assert len(tries) == 3


def test_a_disk_that_refuses_its_removal_is_no_reason_to_stay(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").mkdir()  # which `unlink` refuses, as a read-only disk would
    withdraw(Settings(state=tmp_path))
