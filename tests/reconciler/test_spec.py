"""From the file's words about a worker to how its process is run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.spec import specs_of
from state.processes import Limits, LogRules, Pool, WorkerSpec
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


def test_a_worker_knows_where_failed_messages_go() -> None:
    retry = {"attempts": 5, "delays": ["1s", "1m"]}
    file = desired(q={"workers": {"w": 1}, "retry": retry}, plain={"workers": {"w": 1}, "dead_letter": "lost"})
    env = specs(file)[POOL].env
    assert env["QUEUE_DEAD_LETTER"] == "q.dead"
    assert json.loads(env["QUEUE_RETRY"]) == {"attempts": 5, "queues": ["q.retry.1s", "q.retry.1m"]}
    plain = specs(file)[Pool("plain", "w")].env
    assert plain["QUEUE_DEAD_LETTER"] == "lost"
    assert "QUEUE_RETRY" not in plain


def test_any_other_program_is_run_as_it_is_given() -> None:
    assert spec_of({"command": ["node", "x.js"]}).command == ("node", "x.js")


def test_the_workers_own_environment_has_the_last_word() -> None:
    assert spec_of({"env": {"PREFETCH": 99}}).env["PREFETCH"] == "99"


def test_the_environment_says_how_to_log_and_how_often_to_be_heard() -> None:
    env = spec_of({"log_format": "json", "watchdog": "1.5s"}).env
    assert (env["LOG_FORMAT"], env["WATCHDOG_USEC"]) == ("json", "1500000")
    assert not {"LOG_FORMAT", "WATCHDOG_USEC"} & spec_of(PLAIN).env.keys()
    assert spec_of({"log_format": "json", "env": {"LOG_FORMAT": "text"}}).env["LOG_FORMAT"] == "text"


def test_what_a_worker_may_take_and_how_its_log_is_kept() -> None:
    found = spec_of(
        {
            "max_restarts": 3, "watchdog": 10, "message_timeout": "1m", "max_memory": "64MiB", "max_messages": 100,
            "max_age": "1h", "nice": 5, "cpu_affinity": [1, 0, 1], "user": "nobody", "limits": {"nofile": 64},
            "log_max": "1MB", "log_keep": 2, "log_age": "1d",
        }
    )  # fmt: skip
    assert found.max_restarts == 3
    assert found.limits == Limits(10, 60, 64 * 2**20, 100, 3600, 5, (0, 1), "nobody", {"nofile": 64})
    assert found.log == LogRules(1_000_000, 2, 86400)
    assert (spec_of(PLAIN).limits, spec_of(PLAIN).max_restarts) == (Limits(), None)


def test_a_python_worker_comes_from_a_zygote_unless_it_says_otherwise_and_a_command_never() -> None:
    plain, fresh, command = spec_of(PLAIN), spec_of({"spawn": "exec"}), spec_of({"command": ["x"]})
    assert [(s.module, s.zygote) for s in (plain, fresh, command)] == [("w", True), ("w", False), (None, False)]


def test_other_code_is_another_spec_of_a_module_and_none_of_a_command() -> None:
    python, command = desired(q={"workers": {"w": 1}}), desired(q={"workers": {"w": {"command": ["x"]}}})
    one, other = (specs_of(python, RUNTIME, {"w": code})[POOL] for code in ("1", "2"))
    assert (one.code, other.code) == ("1", "2")
    assert one.digest != other.digest
    assert specs_of(command, RUNTIME, {"w": "1"})[POOL] == specs_of(command, RUNTIME, {"w": "2"})[POOL]


NEEDS_A_NEW_PROCESS: list[Any] = [
    {"prefetch": 11}, {"grace": 31}, {"env": {"A": "1"}}, {"command": ["x"]}, {"env": {"A": ""}}, {"watchdog": 5},
    {"nice": 1}, {"cpu_affinity": [0]}, {"user": "nobody"}, {"limits": {"core": 0}}, {"spawn": "exec"},
    {"log_format": "text"},
]  # fmt: skip
SUPERVISORS_OWN: list[Any] = [
    {"max_restarts": 0}, {"message_timeout": 5}, {"max_memory": "1GiB"}, {"max_messages": 5}, {"max_age": 5},
    {"log_max": "1MB"}, {"log_keep": 0}, {"log_age": 5},
]  # fmt: skip


@pytest.mark.parametrize("other", NEEDS_A_NEW_PROCESS)
def test_what_a_process_is_born_with_is_another_spec(other: Any) -> None:
    assert spec_of(other).digest != spec_of(PLAIN).digest


@pytest.mark.parametrize("other", SUPERVISORS_OWN)
def test_what_the_supervisor_applies_costs_no_process_but_is_another_term(other: Any) -> None:
    assert spec_of(other).digest == spec_of(PLAIN).digest
    assert spec_of(other).terms != spec_of(PLAIN).terms


@pytest.mark.parametrize(
    "same",
    [
        3, {"count": 0}, {"prefetch": 10}, {"env": {}}, {"grace": 30}, {"grace": "30s"}, {"spawn": "zygote"},
        {"max_unavailable": 3}, {"log_age": "30d"}, {"log_max": "50MB"}, {"watchdog": None}, {"limits": {}},
    ],
)  # fmt: skip
def test_another_number_of_processes_or_what_is_default_anyway_is_neither(same: Any) -> None:
    assert (spec_of(same).digest, spec_of(same).terms) == (spec_of(PLAIN).digest, spec_of(PLAIN).terms)
