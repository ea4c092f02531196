"""What the status says: synced, healthy, and in a sentence what is missing."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from reconciler.plan import Declare, Held, Plan
from reconciler.status import Seen, assess, with_workers
from state.desired import Queue
from state.observed import ObservedBroker, ObservedQueue
from tests.reconciler.support import desired, specs, there, worker

FILE = desired(q={"workers": {"w": 2}})
NO_PLAN = Plan()
BOTH = (worker(0), worker(1))


def status(
    *queues: ObservedQueue, workers: Any = BOTH, plan: Plan = NO_PLAN, file: Any = FILE, **more: Any
) -> dict[str, Any]:
    broker = ObservedBroker("here /", "4.0.5", True, {queue.name: queue for queue in queues})
    seen = {"faults": (), "broker": broker, "broker_error": None, "management_error": None, **more}
    return assess(Seen(file, "f00d", workers=workers, **seen), plan, {"trigger": "file"}, None)


def test_all_is_well_when_the_queue_is_there_and_its_workers_are_ready() -> None:
    found = status(there(ready=3, unacknowledged=1))
    assert (found["synced"], found["healthy"]) == (True, True)
    assert found["queues"]["q"] == {
        "synced": True,
        "healthy": True,
        "messages": 4,
        "reason": None,
        "paused": None,
        "workers": {"w": {"desired": 2, "ready": 2, "restarts": 0}},
    }
    assert (found["revision"], found["file_error"], found["pending"], found["held"]) == ("f00d", None, [], None)
    assert found["broker"] == {"connected": True, "version": "4.0.5", "management": True, "error": None}


def test_a_missing_queue_is_neither() -> None:
    found = status(plan=Plan((Declare("q", Queue(), True),)))
    assert (found["synced"], found["healthy"]) == (False, False)
    assert found["queues"]["q"]["reason"] == "the queue is not at the broker yet"
    assert found["pending"] == ["create classic queue q"]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (worker(1, "starting"), "w: 1 of 2 ready; one is in starting"),
        (worker(1, "backoff", reason="exit code 1"), "w: 1 of 2 ready; one is in backoff: exit code 1"),
        (worker(1, "fatal", reason="no module"), "w: 1 of 2 ready; one is in fatal: no module"),
    ],
)
def test_a_worker_that_does_not_work_is_synced_but_not_healthy(last: Any, said: str) -> None:
    found = status(there(), workers=(worker(0), last))
    assert (found["synced"], found["healthy"]) == (True, False)
    assert found["queues"]["q"]["reason"] == said


def test_of_several_that_do_not_work_the_worst_is_told_of() -> None:
    workers = (worker(0, "starting"), worker(1, "fatal", reason="no module"))
    assert status(there(), workers=workers)["queues"]["q"]["reason"].endswith("one is in fatal: no module")


def test_workers_that_could_not_be_forked_say_why() -> None:
    forked, executed = worker(0), dataclasses.replace(worker(1), exec_reason="importing its module starts 1 thread")
    shown = status(there(), workers=(forked, executed))["queues"]["q"]["workers"]["w"]
    assert (shown["spawn"], shown["spawn_reason"]) == ("exec", "importing its module starts 1 thread")


def test_too_few_workers_are_not_synced() -> None:
    assert not status(there(), workers=(worker(0),))["queues"]["q"]["synced"]


def test_a_worker_on_its_way_out_is_not_synced_yet() -> None:
    assert not status(there(), workers=(*BOTH, worker(2, "stopping")))["queues"]["q"]["synced"]


def test_restarts_are_counted_together() -> None:
    found = status(there(), workers=(worker(0, restarts=2), worker(1, restarts=3)))
    assert found["queues"]["q"]["workers"]["w"]["restarts"] == 5


def test_a_faulty_file_is_named_and_not_synced_though_all_works() -> None:
    found = status(there(), faults=("queues.yaml:1:1: bad", "queues.yaml:2:1: worse"))
    assert found["file_error"] == "queues.yaml:1:1: bad\nqueues.yaml:2:1: worse"
    assert (found["synced"], found["healthy"]) == (False, True)


def test_a_file_still_being_read_is_not_synced() -> None:
    found = status(there(), waiting=("the file was saved this very moment",))
    assert not found["synced"]
    assert found["pending"] == ["the file was saved this very moment"]


def test_without_a_broker_nothing_is_synced_and_each_queue_says_why() -> None:
    found = status(broker=None, broker_error="connection refused")
    assert (found["synced"], found["healthy"]) == (False, False)
    assert found["broker"]["error"] == "connection refused"
    assert not found["broker"]["connected"]
    assert found["queues"]["q"]["reason"] == "the broker cannot be seen: connection refused"
    assert found["queues"]["q"]["messages"] is None


def test_without_management_it_says_what_it_cannot_see() -> None:
    found = status(broker=ObservedBroker("here /", "4", False, {"q": there()}), management_error="refused")
    assert "unmanaged queues" in found["broker"]["cannot_see"]
    assert found["broker"]["management_error"] == "refused"


@pytest.mark.parametrize("state", ["crashed", "down", "minority", "stopped"])
def test_a_queue_that_is_down_is_not_healthy(state: str) -> None:
    found = status(there(state=state))
    assert (found["synced"], found["healthy"]) == (True, False)
    assert state in found["queues"]["q"]["reason"]


@pytest.mark.parametrize("state", ["running", "idle", "flow"])
def test_a_queue_that_works_is_healthy_however_the_broker_calls_it(state: str) -> None:
    assert status(there(state=state))["healthy"]


def test_what_is_held_is_shown_with_its_messages_and_what_lifts_it() -> None:
    plan = Plan(held=(Held("old", "5 messages are in it", 5), Held("q", "wait", 0, needs_confirmation=True)))
    found = status(there(), plan=plan)
    assert found["held"] == {
        "revision": "f00d",
        "needs_confirmation": True,
        "reason": "5 messages are in it",
        "actions": [
            {"queue": "old", "reason": "5 messages are in it", "messages": 5, "needs_confirmation": False},
            {"queue": "q", "reason": "wait", "messages": 0, "needs_confirmation": True},
        ],
    }
    assert not found["synced"]
    assert found["queues"]["q"]["reason"] == "wait"


def test_as_long_as_something_is_held_not_all_is_synced_though_every_listed_queue_is() -> None:
    found = status(there(), plan=Plan(held=(Held("old", "5 messages are in it", 5),)))
    assert (found["synced"], found["queues"]["q"]["synced"], found["healthy"]) == (False, True, True)


SINCE = 1_796_115_600.0  # 2026-12-01T09:00Z


def paused(words: Any, *workers: Any) -> dict[str, Any]:
    file = desired(q={"paused": words, "workers": {"w": 2}})
    return status(there(), workers=workers, file=file, paused={"q": SINCE})


def test_a_paused_queue_without_workers_is_well_and_says_why_and_since_when() -> None:
    found = paused({"reason": "the mail server moves", "until": "2026-12-02T09:00Z"})
    assert (found["synced"], found["healthy"]) == (True, True)
    queue = found["queues"]["q"]
    assert queue["paused"] == {
        "reason": "the mail server moves",
        "since": "2026-12-01T09:00:00Z",
        "until": "2026-12-02T09:00:00Z",
    }
    assert queue["reason"] == ("paused: the mail server moves (since 2026-12-01T09:00:00Z, until 2026-12-02T09:00:00Z)")
    assert queue["workers"] == {"w": {"desired": 2, "ready": 0, "restarts": 0}}, "what it comes back with"
    assert paused(True)["queues"]["q"]["reason"] == "paused (since 2026-12-01T09:00:00Z)"


def test_a_queue_about_to_pause_is_not_synced_until_its_workers_are_gone() -> None:
    found = paused(True, worker(0, "stopping"), worker(1))["queues"]["q"]
    assert (found["synced"], found["healthy"]) == (False, True)


def test_a_pause_does_not_hide_that_a_queue_is_missing() -> None:
    file = desired(q={"paused": True})
    found = status(file=file, workers=(), paused={"q": SINCE})["queues"]["q"]
    assert (found["synced"], found["reason"]) == (False, "the queue is not at the broker yet")


def test_a_pause_that_is_over_is_none() -> None:
    file = desired(q={"paused": True, "workers": {"w": 2}})
    found = status(there(), file=file)["queues"]["q"]
    assert (found["paused"], found["reason"], found["synced"]) == (None, None, True)


def test_a_worker_that_comes_back_after_its_stop_is_wanted_and_missed() -> None:
    found = status(there(), workers=(worker(0), worker(1, "stopping", returns=True)))["queues"]["q"]
    assert (found["synced"], found["healthy"], found["reason"]) == (True, False, "w: 1 of 2 ready")


def test_all_that_is_held_of_one_queue_is_told() -> None:
    plan = Plan(held=(Held("q", "w: roll halted", worker="w"), Held("q", "v: roll halted", worker="v")))
    assert status(there(), plan=plan)["queues"]["q"]["reason"] == "w: roll halted; v: roll halted"


def test_a_dead_letter_queue_that_is_only_implied_has_a_status_too() -> None:
    assert set(status(file=desired(q={"dead_letter": "lost"}), workers=())["queues"]) == {"q", "lost"}


def test_as_long_as_a_roll_is_on_its_way_the_queue_is_not_synced() -> None:
    wanted = specs(FILE)
    new = next(iter(wanted.values())).digest
    one_of_two = worker(0, digest=new), worker(1, digest="of before")
    found = status(there(), workers=one_of_two, specs=wanted)
    assert (found["synced"], found["healthy"]) == (False, True), "even between two batches, when nothing is to be done"
    assert found["queues"]["q"]["reason"] == "w: 1 of 2 still run with the code or the settings of before"
    found = status(there(), workers=(worker(0, digest=new), worker(1, digest=new)), specs=wanted)
    assert (found["synced"], found["queues"]["q"]["reason"]) == (True, None)


@pytest.mark.parametrize(
    "workers",
    [
        BOTH,
        (),
        (worker(0),),
        (worker(0), worker(1, state="backoff", reason="no ledger")),
        (worker(0), worker(1, processed=9)),
    ],
)
@pytest.mark.parametrize("plan", [NO_PLAN, Plan((Declare("q", Queue(), True),))])
@pytest.mark.parametrize("broker", [None, ObservedBroker("here /", "4", True, {n: there(n) for n in ("q", "other")})])
def test_the_workers_as_they_are_now_make_the_same_status_as_a_turn_that_sees_them(
    workers: Any, plan: Plan, broker: ObservedBroker | None
) -> None:
    file = desired(q={"workers": {"w": 2}}, other={"workers": {}})
    seen = Seen(file, "f00d", (), broker, None, None, BOTH)
    before = assess(seen, plan, {}, None)
    kept = copy.deepcopy(before)
    after = with_workers(before, seen, plan, workers)
    assert after == assess(dataclasses.replace(seen, workers=workers), plan, {}, None)
    assert before == kept, "the turn's own status stays as it was"
    assert after["queues"]["other"] is before["queues"]["other"]
