"""What the file asks of this machine: users and processors."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from reconciler.machine import faults_here
from tests.reconciler.support import desired


def faults(**worker: Any) -> dict[str, str]:
    found = faults_here(desired(q={"workers": {"w": worker, "plain": 1}}))
    assert all(path[:4] == ("queues", "q", "workers", "w") for path in found)
    return {path[4]: message for path, message in found.items()}


def test_what_is_here_is_no_fault() -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert not faults(user=me, cpu_affinity=[min(os.sched_getaffinity(0))])
    assert not faults(user=os.geteuid())


def test_a_user_that_is_not_here_is_named() -> None:
    assert faults(user="nobody-at-all") == {
        "user": "there is no user nobody-at-all on this machine (make it, or give a number)"
    }
    assert "is no user id" in faults(user=2**32)["user"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may be anybody")
def test_only_root_may_be_somebody_else() -> None:
    assert "only root may run workers as root" in faults(user="root")["user"]


def test_a_processor_that_is_not_here_is_named() -> None:
    assert "no processor 8191 for us (there are 0" in faults(cpu_affinity=[0, 8191])["cpu_affinity"]
