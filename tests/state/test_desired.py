"""What the words of queues.yaml mean once they are read."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from state.desired import MAX_COUNT, NOTHING, Desired, Pause, Queue, Worker
from state.faults import details
from state.processes import Pool
from state.retries import Implied


def desired(queues: dict[str, Any], **more: Any) -> Desired:
    return Desired.model_validate({"version": 1, "queues": queues, **more})


def faults(queues: dict[str, Any], **more: Any) -> dict[str, str]:
    """What is said against them, by path."""
    with pytest.raises(ValidationError) as error:
        desired(queues, **more)
    return {".".join(path): message for path, message in details(error.value)}


def fault_of(**queue: Any) -> str:
    (message,) = faults({"q": queue}).values()
    return message


class TestAQueue:
    def test_that_says_nothing_is_a_durable_classic_queue_without_workers(self) -> None:
        assert desired({"q": {}}).queues["q"] == Queue(type="classic", durable=True, arguments={}, workers={})

    def test_is_removed_only_when_empty_unless_the_file_says_otherwise(self) -> None:
        assert desired({"q": {}}).queues["q"].on_remove == "delete-if-empty"

    def test_dead_letters_through_the_default_exchange(self) -> None:
        queue = Queue(dead_letter="lost", arguments={"x-max-length": 5})
        assert queue.broker_arguments() == {
            "x-max-length": 5,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "lost",
        }

    @pytest.mark.parametrize("value", [True, 5, ["lost"], {}])
    def test_a_dead_letter_queue_is_a_name(self, value: Any) -> None:
        assert "the name of the queue that rejected messages go to, such as" in fault_of(dead_letter=value)

    def test_brings_its_dead_letter_queue_with_it(self) -> None:
        assert desired({"q": {"dead_letter": "lost"}}).all_queues()["lost"] == Implied(of="q")

    def test_that_is_listed_is_not_replaced_by_the_implied_one(self) -> None:
        queues = {"q": {"dead_letter": "lost"}, "lost": {"type": "quorum"}}
        assert desired(queues).all_queues()["lost"].type == "quorum"

    def test_cannot_be_its_own_dead_letter_queue(self) -> None:
        assert "come back" in faults({"q": {"dead_letter": "q"}})["queues.q.dead_letter"]

    @pytest.mark.parametrize("kind", ["quorum", "stream"])
    def test_that_is_replicated_is_durable_and_has_no_priorities(self, kind: str) -> None:
        assert "always durable" in fault_of(type=kind, durable=False)
        assert "x-max-priority" in fault_of(type=kind, arguments={"x-max-priority": 3})

    def test_that_is_a_stream_cannot_dead_letter(self) -> None:
        assert "cannot dead-letter" in fault_of(type="stream", dead_letter="lost")

    def test_says_once_where_its_dead_letters_go(self) -> None:
        assert "exclude each other" in fault_of(dead_letter="lost", arguments={"x-dead-letter-exchange": "e"})

    def test_with_nothing_behind_its_key_is_what_a_file_cut_short_looks_like(self) -> None:
        assert "nothing stands behind" in faults({"q": None})["queues.q"]


class TestAName:
    @pytest.mark.parametrize("name", ["a/b", "a b", "ü.😀", "%2F?#", "x" * 255, "é" * 127])
    def test_may_be_whatever_the_broker_takes(self, name: str) -> None:
        assert list(desired({name: {}}).queues) == [name]

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("", "empty"),
            ("x" * 256, "256 bytes"),
            ("é" * 128, "256 bytes"),
            ("amq.gen-1", "belong to RabbitMQ"),
            ("a\nb", "control character"),
            ("\ud800", "surrogate"),
        ],
    )
    def test_that_the_broker_refuses_is_refused_here(self, name: str, why: str) -> None:
        assert why in next(iter(faults({name: {}}).values()))
        assert why in next(iter(faults({"q": {"dead_letter": name}}).values()))

    @pytest.mark.parametrize("name", ["../evil", "a b", "", "a/b", "a.b", "x" * 101])
    def test_of_a_worker_is_the_name_of_a_module(self, name: str) -> None:
        assert "workers/NAME.py" in next(iter(faults({"q": {"workers": {name: 1}}}).values()))


class TestAnArgument:
    @pytest.mark.parametrize("value", [1, -(2**63), 2**63 - 1, "text", True, ["a", 1]])
    def test_is_passed_on_as_it_is(self, value: Any) -> None:
        assert desired({"q": {"arguments": {"x-any": value}}}).queues["q"].broker_arguments() == {"x-any": value}

    @pytest.mark.parametrize("value", [2**63, 1.5, float("nan"), float("inf"), None, {"a": 1}, [None], [2**70]])
    def test_that_amqp_cannot_carry_is_a_fault_of_that_argument(self, value: Any) -> None:
        assert list(faults({"q": {"arguments": {"good": 1, "x-any": value}}})) == ["queues.q.arguments.x-any"]

    def test_may_not_set_the_type_behind_the_files_back(self) -> None:
        assert "type: quorum" in fault_of(arguments={"x-queue-type": "quorum"})

    def test_has_a_name_that_amqp_carries(self) -> None:
        assert "128 bytes" in fault_of(arguments={"x" * 129: 1})
        assert "128 bytes" in fault_of(arguments={"": 1})

    def test_is_not_nested_without_end(self) -> None:
        value: Any = 1
        for _ in range(20):
            value = [value]
        assert desired({"q": {"arguments": {"x-any": value}}})
        assert "too deeply" in fault_of(arguments={"x-any": [value]})

    def test_is_not_so_large_that_the_broker_closes_the_connection_over_it(self) -> None:
        assert desired({"q": {"arguments": {"x-any": "x" * 99_000}}})
        assert "bytes together" in faults({"q": {"arguments": {"x-any": "x" * 100_000}}})["queues.q.arguments"]


class TestAWorker:
    def test_in_short_is_a_number_of_processes(self) -> None:
        assert desired({"q": {"workers": {"send": 5}}}).queues["q"].workers["send"] == Worker(count=5)

    @pytest.mark.parametrize("count", [-1, MAX_COUNT + 1, 1.0, True, "5", None, 10**30])
    def test_runs_a_whole_number_of_processes_within_reason(self, count: Any) -> None:
        assert faults({"q": {"workers": {"send": count}}})
        assert faults({"q": {"workers": {"send": {"count": count}}}})

    def test_takes_numbers_in_its_environment_as_text(self) -> None:
        env = {"PORT": 5672, "RATE": 1.5, "NAME": "x"}
        assert Worker(env=env).env == {"PORT": "5672", "RATE": "1.5", "NAME": "x"}  # type: ignore[arg-type]

    @pytest.mark.parametrize(("name", "value"), [("A=B", "x"), ("", "x"), ("A\0", "x"), ("A", "x\0y"), ("A", True)])
    def test_has_an_environment_that_can_be_set(self, name: str, value: Any) -> None:
        found = faults({"q": {"workers": {"send": {"env": {"GOOD": "1", name: value}}}}})
        assert all(path.startswith(f"queues.q.workers.send.env.{name}") for path in found)

    def test_has_a_command_that_names_a_program(self) -> None:
        for command in ([], [""], ["a\0b"], "node"):
            assert faults({"q": {"workers": {"send": {"command": command}}}})

    def test_of_each_queue_is_a_pool_of_its_own(self) -> None:
        pools = dict(desired({"a": {"workers": {"w": 1}}, "b": {"workers": {"w": 2}}}).pools())
        assert {pool: worker.count for pool, worker in pools.items()} == {Pool("a", "w"): 1, Pool("b", "w"): 2}


def one(**worker: Any) -> Worker:
    return desired({"q": {"workers": {"w": worker}}}).queues["q"].workers["w"]


def fault_of_worker(**worker: Any) -> dict[str, str]:
    found = faults({"q": {"workers": {"w": worker}}})
    return {path.removeprefix("queues.q.workers.w."): message for path, message in found.items()}


class TestHowAWorkerIsRun:
    def test_with_units_or_with_plain_numbers(self) -> None:
        said = one(
            grace="1m", watchdog="2m", message_timeout=1.5, max_memory="512MiB", max_age="1d", log_max="1MB",
            log_age="7d", limits={"nofile": 4096, "core": 0, "as": "2GiB"},
        )  # fmt: skip
        assert (said.grace, said.watchdog, said.message_timeout, said.max_memory) == (60, 120, 1.5, 512 * 2**20)
        assert (said.max_age, said.log_max, said.log_age) == (86400, 1_000_000, 7 * 86400)
        assert said.limits == {"nofile": 4096, "core": 0, "as": 2 * 2**30}

    def test_that_says_nothing_is_limited_only_in_its_logs(self) -> None:
        plain = one()
        assert (plain.spawn, plain.max_unavailable, plain.max_restarts) == ("zygote", "25%", None)
        assert (plain.log_max, plain.log_keep, plain.log_age, plain.log_format) == (50_000_000, 5, 30 * 86400, None)
        never = (plain.watchdog, plain.message_timeout, plain.max_memory, plain.max_messages, plain.max_age)
        kernel = (plain.nice, plain.cpu_affinity, plain.user)
        assert {*never, *kernel} == {None}
        assert plain.limits == {}

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("watchdog", "10", "text such as 30s"),
            ("watchdog", 0, "too small"),
            ("grace", "2d", "172800 is too large (at most 86400)"),
            ("max_memory", "512M", "text such as 512MiB"),
            ("max_memory", "1kB", "too small (at least 1048576)"),
            ("max_messages", 0, "too small"),
            ("max_restarts", -1, "too small"),
            ("max_restarts", 1.5, "not a whole number"),
            ("max_unavailable", "0%", 'a share such as "25%"'),
            ("max_unavailable", 0, 'a share such as "25%"'),
            ("spawn", "fork", "none of 'zygote' or 'exec'"),
            ("nice", 20, "at most 19"),
            ("user", "", "a name or a number"),
            ("user", "a b", "a name or a number"),
            ("log_keep", -1, "too small"),
            ("log_format", "xml", "none of 'text' or 'json'"),
        ],
    )
    def test_a_value_that_does_not_fit_says_what_would(self, key: str, value: Any, said: str) -> None:
        assert said in fault_of_worker(**{key: value})[key]

    def test_processors_are_numbered_from_zero(self) -> None:
        assert one(cpu_affinity=[0, 1]).cpu_affinity == [0, 1]
        assert "too small" in fault_of_worker(cpu_affinity=[-1])["cpu_affinity.0"]
        assert "empty" in fault_of_worker(cpu_affinity=[])["cpu_affinity"]

    @pytest.mark.parametrize(
        ("name", "near"), [("nofiles", "nofile"), ("RLIMIT_AS", "as"), ("memlok", "memlock"), ("xyz", "known: as")]
    )
    def test_a_limit_that_the_kernel_does_not_know_is_refused_with_the_nearest(self, name: str, near: str) -> None:
        assert near in fault_of_worker(limits={name: 1})[f"limits.{name}.[key]"]

    def test_a_limit_has_a_fault_of_its_own(self) -> None:
        assert "a size is" in fault_of_worker(limits={"as": "2G"})["limits.as"]

    def test_a_user_may_be_a_number(self) -> None:
        assert one(user=1000).user == "1000"

    def test_a_command_is_always_executed(self) -> None:
        assert not one(command=["node"]).forked
        assert one().forked
        assert not one(spawn="exec").forked
        assert "spawn: exec" in fault_of_worker(command=["node"], spawn="zygote")["spawn"]
        assert one(command=["node"], spawn="exec")

    def test_a_default_for_python_workers_is_no_fault_of_a_command(self) -> None:
        defaults = {"worker": {"spawn": "zygote", "max_memory": "1GiB"}}
        queues = {"q": {"workers": {"w": {"command": ["node"]}, "v": 1}}}
        workers = desired(queues, defaults=defaults).queues["q"].workers
        assert (workers["w"].forked, workers["v"].forked) == (False, True)
        assert workers["w"].max_memory == workers["v"].max_memory == 2**30

    def test_null_takes_a_default_away(self) -> None:
        defaults = {"worker": {"watchdog": 10}}
        assert (
            desired({"q": {"workers": {"w": {"watchdog": None}}}}, defaults=defaults).queues["q"].workers["w"].watchdog
            is None
        )


NINE = 1_796_115_600.0  # 2026-12-01T09:00Z


class TestAPause:
    def test_is_true_or_says_why_and_until_when(self) -> None:
        assert desired({"q": {"paused": True}}).queues["q"].paused == Pause()
        pause = desired({"q": {"paused": {"reason": "move", "until": "2026-12-01T09:00Z"}}}).queues["q"].paused
        assert pause
        assert (pause.reason, pause.until and pause.until.timestamp()) == ("move", NINE)

    @pytest.mark.parametrize("paused", [False, {"until": "2026-12-01T09:00Z"}])
    def test_that_is_false_or_over_is_none(self, paused: Any) -> None:
        assert desired({"q": {"paused": paused}}).queues["q"].pause_at(NINE) is None

    def test_holds_until_its_end_and_no_longer(self) -> None:
        queues = desired(
            {"q": {"paused": {"until": "2026-12-01T09:00Z"}, "workers": {"w": 3}}, "p": {"workers": {"w": 1}}}
        )
        w, other = Pool("q", "w"), Pool("p", "w")
        assert queues.counts(NINE - 0.001) == {w: 0, other: 1}
        assert queues.next_resume(NINE - 60) == NINE
        assert queues.counts(NINE) == {w: 3, other: 1}
        assert queues.next_resume(NINE) == math.inf

    def test_without_an_end_waits_for_a_person(self) -> None:
        queues = desired({"q": {"paused": {}, "workers": {"w": 3}}})
        assert queues.counts(NINE * 2) == {Pool("q", "w"): 0}
        assert queues.next_resume(NINE) == math.inf

    @pytest.mark.parametrize(
        ("paused", "path", "said"),
        [
            (None, "paused", "nothing stands behind"),
            (1, "paused", "write true, or a mapping"),
            ("yes please", "paused", "write true, or a mapping"),
            ({"until": "soon"}, "paused.until", "2026-12-01T09:00Z"),
            ({"reason": 7}, "paused.reason", "not text"),
            ({"untill": 1}, "paused.untill.[key]", "did you mean until?"),
        ],
    )
    def test_has_faults_of_its_own(self, paused: Any, path: str, said: str) -> None:
        assert said in faults({"q": {"paused": paused}})[f"queues.q.{path}"]

    def test_can_be_a_default_that_a_queue_does_not_share(self) -> None:
        queues = desired({"q": {}, "p": {"paused": False}}, defaults={"queue": {"paused": True}})
        assert set(queues.paused(NINE)) == {"q"}


class TestDefaults:
    DEFAULTS = {"queue": {"type": "quorum"}, "worker": {"prefetch": 3, "count": 2}}  # noqa: RUF012

    def test_hold_for_every_queue_and_worker(self) -> None:
        queue = desired({"q": {"workers": {"w": {}}}}, defaults=self.DEFAULTS).queues["q"]
        assert (queue.type, queue.workers["w"]) == ("quorum", Worker(count=2, prefetch=3))

    def test_give_way_to_what_a_queue_or_worker_says_itself(self) -> None:
        queues = {"q": {"type": "classic", "workers": {"w": 7, "v": {"prefetch": 9}}}}
        queue = desired(queues, defaults=self.DEFAULTS).queues["q"]
        assert queue.type == "classic"
        assert queue.workers == {"w": Worker(count=7, prefetch=3), "v": Worker(count=2, prefetch=9)}

    def test_do_not_give_every_queue_workers(self) -> None:
        assert "list them at each queue" in faults({}, defaults={"queue": {"workers": {"w": 1}}})["defaults.queue"]

    def test_have_faults_of_their_own(self) -> None:
        found = faults({}, defaults={"queue": {"typ": "quorum"}, "worker": {"prefetsh": 1}})
        assert "did you mean type?" in found["defaults.queue.typ.[key]"]
        assert "did you mean prefetch?" in found["defaults.worker.prefetsh.[key]"]


def test_nothing_lists_nothing() -> None:
    assert not NOTHING.all_queues()
    assert not list(NOTHING.pools())


def test_what_was_read_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        desired({"q": {}}).queues["q"].type = "stream"  # type: ignore[misc]
