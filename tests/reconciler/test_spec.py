"""From the file's words about a worker to how its process is run."""

from __future__ import annotations

from typing import Any

import pytest

from state.processes import WorkerSpec
from tests.reconciler.support import POOL, RUNTIME, desired, specs

PLAIN = {"count": 1}


def spec_of(worker: Any) -> WorkerSpec:
    return specs(desired(q={"workers": {"w": worker}}))[POOL]


def test_a_python_worker_is_run_by_our_own_runtime_with_what_it_has_to_know() -> None:
    spec = spec_of({"prefetch": 7, "env": {"A": "b"}})
    assert spec.command == (RUNTIME.python, "-P", RUNTIME.entry, "run", "w")
    assert spec.env == {
        "AMQP_URL": "amqp://here/",
        "QUEUE_NAME": "q",
        "WORKER_NAME": "w",
        "PREFETCH": "7",
        "WORKERS_FOLDER": "/site/workers",
        "A": "b",
    }
    assert (spec.cwd, spec.grace) == ("/site", 30)


def test_any_other_program_is_run_as_it_is_given() -> None:
    assert spec_of({"command": ["node", "x.js"]}).command == ("node", "x.js")


def test_the_workers_own_environment_has_the_last_word() -> None:
    assert spec_of({"env": {"PREFETCH": 99}}).env["PREFETCH"] == "99"


@pytest.mark.parametrize(
    "other", [{"prefetch": 11}, {"grace": 31}, {"env": {"A": "1"}}, {"command": ["x"]}, {"env": {"A": ""}}]
)
def test_other_settings_are_another_spec(other: Any) -> None:
    assert spec_of(other).digest != spec_of(PLAIN).digest


@pytest.mark.parametrize("same", [3, {"count": 0}, {"prefetch": 10}, {"env": {}}])
def test_another_number_of_processes_or_what_is_default_anyway_is_not(same: Any) -> None:
    assert spec_of(same).digest == spec_of(PLAIN).digest
