"""Why a queue is as it is: each fact a sentence, from what a turn saw and planned."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import pytest

from reconciler.drift import KEPT, SUBJECTS, Drift, DriftHistory, suspects
from reconciler.explain import Known, explain, is_known, near
from reconciler.plan import Declare, Held, Plan
from reconciler.status import Seen, assess
from state.desired import Desired, Queue
from state.ledger import Owned
from state.observed import ObservedBinding, ObservedBroker, ObservedConnection, ObservedPolicy, ObservedQueue
from tests.reconciler.support import desired, there, worker

NOW = 1_000_000.0
FILE = desired(q={"workers": {"w": 5}})
NO_PLAN = Plan()
OPS = ObservedConnection("ops-script", "ops", "10.0.0.7")


def known(
    *queues: ObservedQueue,
    file: Desired = FILE,
    name: str = "q",
    workers: Any = (),
    plan: Plan = NO_PLAN,
    faults: tuple[str, ...] = (),
    paused: Any = (),
    **more: Any,
) -> Known:
    broker = ObservedBroker("here /", "4.0.5", True, {queue.name: queue for queue in queues})
    seen = Seen(file, "f00d" * 16, faults, broker, None, None, tuple(workers), paused=dict(paused))
    status = assess(seen, plan, {}, None)
    return Known(name, file, broker, plan, status, NOW, workers=workers, **more)


def text(*queues: ObservedQueue, **more: Any) -> str:
    return "\n".join(explain(known(*queues, **more)))


def test_each_number_of_workers_is_told_with_what_keeps_it_from_the_wanted_one() -> None:
    reason = "exit code 1: ModuleNotFoundError: boto3"
    workers = [worker(n) for n in range(3)]
    workers += [worker(n, "backoff", reason=reason, retry_at=NOW + 12 + n) for n in (3, 4)]
    assert (
        'w: desired 5, running 3 because two are in backoff (exit code 1: "ModuleNotFoundError: boto3"), '
        "next try in 15 s." in text(there(), workers=workers)
    )


def test_a_crash_loop_is_told_apart_from_the_last_words() -> None:
    reasons = [f"exit code 1: boom (x) (crash loop: {n} deaths in 30 s)" for n in (5, 6)]
    workers = [worker(n, "backoff", reason=reason) for n, reason in enumerate(reasons)]
    assert 'two are in backoff (exit code 1: "boom (x)"), all in a crash loop' in text(there(), workers=workers)


def test_each_state_has_its_words() -> None:
    states = ("fatal", "backoff", "starting", "stopping")
    workers = [worker(n, state) for n, state in enumerate(states)]
    found = text(there(), workers=workers)
    assert "one is given up until its code, its entry or a restart changes that" in found
    assert "one is in backoff" in found
    assert "one is starting" in found
    assert "one finishes its message and goes" in found
    assert "two are not started yet" in found


def test_those_that_the_file_no_longer_wants_are_told_too() -> None:
    found = text(there(), file=desired(q={}), workers=[worker(0), worker(1)])
    assert "w: desired 0, running 2, because it is not in the file any more." in found


def test_a_paused_queue_says_why_since_when_and_what_ends_it() -> None:
    file = desired(q={"paused": {"reason": "the mail server moves"}, "workers": {"w": 5}})
    found = text(there(), file=file, paused={"q": 0.0})
    assert 'paused since 1970-01-01T00:00:00Z, because "the mail server moves"' in found
    assert "until reconciler resume q." in found
    assert "w: desired 0, running 0." in found


def test_what_is_held_says_why_and_with_how_many_messages() -> None:
    plan = Plan(held=(Held("q", "812 messages are in it (800 ready, 12 in flight): drain it", 812),))
    assert "Held, because 812 messages are in it" in text(there(ready=800, unacknowledged=12), plan=plan)


def test_what_is_next_says_what_it_costs() -> None:
    plan = Plan(actions=(Declare("q", Queue(), True),))
    found = text(plan=plan)
    assert "It is not at the broker." in found
    assert "The next step is to create classic queue q (in place)." in found


def test_whose_it_is_and_what_that_means_for_its_removal() -> None:
    assert "never deleted by us (reconciler adopt q makes it ours)" in text(there())
    assert "deleted once it is empty and unused" in text(there(), owned={"q": Owned()})
    assert "it stays, and is given up" in text(there(), owned={"q": Owned("keep")})
    left = text(there(), file=desired(), owned={"q": Owned("keep")})
    assert "Queue q is not in the file." in left
    assert "the file said on_remove: keep" in left


def test_a_queue_that_is_not_ours_is_left_alone() -> None:
    assert "Queue x is not in the file, and not ours either: it is left alone." in text(there("x"), name="x")


def test_a_dead_letter_queue_that_is_not_listed_says_whose_it_is() -> None:
    file = desired(a={"dead_letter": "d"}, b={"dead_letter": "d"})
    assert "it is where a and b dead-letter to" in text(there("d"), file=file, name="d")


def test_the_queues_of_a_retry_say_what_they_are_for() -> None:
    file = desired(a={"retry": {"attempts": 3, "delays": ["1s"]}})
    for name, words in (
        ("a.dead", "it is where a dead-letters to"),
        ("a.rejected", "RabbitMQ puts into it what is rejected in a"),
        ("a.retry.1s", "messages that failed in a wait in it for their next try"),
    ):
        assert words in text(there(name), file=file, name=name)


def test_what_has_failed_is_told() -> None:
    file = desired(a={"retry": {"attempts": 3, "delays": ["1s", "1m"]}})
    queues = [there("a"), there("a.dead", ready=2), there("a.retry.1s", ready=1), there("a.retry.1m")]
    found = text(*queues, file=file, name="a")
    assert "1 message of it waits for the next try." in found
    assert "2 dead letters lie in a.dead (reconciler dead-letters a says why they failed)." in found


def test_what_is_routed_to_it_is_told() -> None:
    bindings = frozenset(ObservedBinding("events", "q", "queue", f"k{n}") for n in range(7))
    broker = replace(known(there()).broker, bindings=bindings)
    found = "\n".join(explain(replace(known(there()), broker=broker)))
    assert "Messages are routed to it by 7 bindings: events → queue q with k0; events" in found
    assert "with k4 and 2 more." in found


def test_the_policy_that_applies_is_told_and_no_other() -> None:
    policies = {
        "low": ObservedPolicy("low", ".*", "all", 1, {"max-length": 1}),
        "ttl": ObservedPolicy("ttl", "^q", "queues", 5, {"message-ttl": 60000, "expires": 1}),
        "other": ObservedPolicy("other", "^x", "queues", 9, {"message-ttl": 1}),
    }
    broker = replace(known(there()).broker, policies=policies)
    found = explain(replace(known(there()), broker=broker))
    assert [s for s in found if s.startswith("Policy")] == ["Policy ttl applies to it: expires: 1, message-ttl: 60000."]


def test_faults_of_the_file_are_told_first_with_what_stays_in_force() -> None:
    first = explain(known(there(), faults=("queues.yaml:1:1: one", "queues.yaml:2:1: two")))[0]
    assert first == (
        "The file has faults, so revision f00df00df00d stays in force: queues.yaml:1:1: one (and 1 more fault)."
    )


def test_without_the_broker_it_says_that_it_cannot_see() -> None:
    seen = Seen(FILE, "f00d", (), None, "the broker at x:1 cannot be reached: refused", None, ())
    blind = Known("q", FILE, None, Plan(), assess(seen, Plan(), {}, None), NOW)
    assert "The broker cannot be seen: the broker at x:1 cannot be reached: refused." in explain(blind)


def test_only_what_nobody_knows_is_unknown_and_near_names_are_offered() -> None:
    assert is_known(known())
    assert is_known(known(there("x"), name="x"))
    assert is_known(known(name="gone", owned={"gone": Owned()}))
    lost = known(there("Emails"), name="emials")
    assert not is_known(lost)
    assert near(lost) == ["Emails"]


# -- drift ---------------------------------------------------------------------------------------------------------


def drifts(*ago: float, by: str | None = None) -> list[Drift]:
    return [Drift(NOW - seconds, "q", "it was gone from the broker", by=by) for seconds in ago]


def test_drift_says_how_often_and_by_whom_as_far_as_rabbitmq_tells() -> None:
    found = text(there(), drifts=drifts(1800, 720, by=suspects([OPS])))
    assert "Drift was corrected twice within an hour (last 12 min ago: it was gone from the broker)" in found
    assert 'as far as RabbitMQ tells by connection "ops-script" (user ops, 10.0.0.7)' in found


def test_nobody_is_blamed_for_what_nobody_was_seen_doing() -> None:
    assert "RabbitMQ does not tell by whom" in text(there(), drifts=drifts(5))
    mixed = text(there(), drifts=[*drifts(50, by="connection x"), *drifts(5)])
    assert "once by connection x; once by nobody knows whom" in mixed


def test_several_suspects_are_all_named() -> None:
    other = ObservedConnection(None, "app", "10.0.0.8")
    assert suspects([]) is None
    assert suspects([OPS, other, OPS]) == (
        "one of the 2 connections that were there then beside ours: "
        'a connection without a name from 10.0.0.8, connection "ops-script"'
    )


def test_what_was_only_seen_is_not_called_corrected() -> None:
    found = text(there(), drifts=[Drift(NOW, "q", "durable is False", corrected=False)])
    assert "Drift was seen once within an hour" in found


def test_the_history_is_bounded_and_forgets_what_is_old() -> None:
    history = DriftHistory()
    for number in range(SUBJECTS + 5):
        history.saw(Drift(NOW, f"q{number}", ""))
    for number in range(KEPT + 5):
        history.saw(Drift(NOW + number, "q9", str(number)))
    assert history.of("q0", NOW) == ()
    assert len(history.of("q9", NOW)) == KEPT
    assert history.of("q9", NOW + 90_000) == ()


def test_who_it_was_may_be_added_later_and_again() -> None:
    history = DriftHistory()
    first, second = drifts(9, 5)
    history.saw(first)
    history.saw(second)
    history.blame(second, "a")
    history.blame(second, "b")
    assert [drift.by for drift in history.of("q", NOW)] == [None, "b"]


@pytest.mark.parametrize("name", ["a b", "it's", "-rf", "$(x)"])
def test_a_command_that_is_suggested_can_be_pasted(name: str) -> None:
    found = text(there(name), file=desired(**{name: {}}), name=name)
    command = found.partition("(reconciler adopt ")[2].partition(" makes it ours")[0]
    assert [part for part in shlex.split(command) if part != "--"] == [name]
    assert command.startswith("-- ") == name.startswith("-")
