"""The queues that a retry implies, and how the broker is to hold the queue itself."""

from __future__ import annotations

from typing import Any

import pytest

from state.retries import Implied, dead_letter_of, delay_queues, in_words
from tests.state.test_desired import desired, faults

RETRY = {"attempts": 5, "delays": ["1s", "10s", "1m"]}
BACK = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
SAFE = {"x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once"}


def test_a_queue_with_retry_implies_its_delays_its_rejected_and_its_dead() -> None:
    queues = desired({"q": {"retry": RETRY}}).all_queues()
    assert list(queues) == ["q.dead", "q.rejected", "q.retry.1s", "q.retry.10s", "q.retry.1m", "q"]
    assert queues["q.dead"] == Implied(of="q")
    assert queues["q.rejected"] == Implied(of="q", counts=True)
    delayed = queues["q.retry.10s"]
    assert delayed.type == "quorum"  # an expiring message is not lost in a crash
    assert delayed.broker_arguments() == {"x-message-ttl": 10_000, **BACK, **SAFE}


def test_the_broker_puts_what_others_reject_where_it_is_counted() -> None:
    queues = desired({"q": {"retry": RETRY, "dead_letter": "lost"}}).all_queues()
    assert queues["q"].broker_arguments() == BACK | {"x-dead-letter-routing-key": "q.rejected"}
    assert "lost" in queues
    assert "q.dead" not in queues


@pytest.mark.parametrize(
    ("own", "safe"), [({}, SAFE), ({"overflow": "drop-head"}, {}), ({"dead_letter_strategy": "at-most-once"}, {})]
)
def test_a_quorum_queue_keeps_what_it_rejects_until_it_is_there(own: dict[str, Any], safe: dict[str, Any]) -> None:
    queue = desired({"q": {"type": "quorum", "retry": RETRY, **own}}).all_queues()["q"]
    assert queue.broker_arguments() == BACK | {"x-dead-letter-routing-key": "q.rejected"} | safe


def test_a_queue_that_is_there_already_gets_its_retry_by_policy() -> None:
    queue = desired({"q": {"type": "quorum", "retry": RETRY}}).all_queues()["q"]
    assert queue.broker_arguments({}) == {}
    assert queue.policy_definition({}) == {
        "dead-letter-exchange": "",
        "dead-letter-routing-key": "q.rejected",
        "overflow": "reject-publish",
        "dead-letter-strategy": "at-least-once",
    }
    assert queue.policy_definition(queue.broker_arguments()) == {}


def test_a_queue_that_was_declared_with_its_dead_letters_keeps_them() -> None:
    queue = desired({"q": {"retry": RETRY, "dead_letter": "lost"}}).all_queues()["q"]
    have = BACK | {"x-dead-letter-routing-key": "lost"}
    assert queue.broker_arguments(have) == have
    assert queue.policy_definition(have) == {}
    assert queue.broker_arguments(BACK | {"x-dead-letter-routing-key": "other"}) != BACK


def test_the_file_itself_is_as_it_was_written() -> None:
    file = desired({"q": {"retry": RETRY}})
    assert file.queues["q"].dead_letter is None
    assert dead_letter_of("q", file.queues["q"]) == "q.dead"


def test_a_delay_that_comes_twice_has_one_queue() -> None:
    file = desired({"q": {"retry": {"attempts": 4, "delays": ["1m", "60s", 60, "2m"]}}})
    assert [name for name in file.all_queues() if "retry" in name] == ["q.retry.1m", "q.retry.2m"]
    assert file.queues["q"].retry is not None
    assert delay_queues("q", file.queues["q"].retry) == ["q.retry.1m"] * 3 + ["q.retry.2m"]


@pytest.mark.parametrize(
    ("milliseconds", "words"), [(1, "1ms"), (1500, "1500ms"), (90_000, "90s"), (3_600_000, "1h"), (172_800_000, "2d")]
)
def test_delays_in_words(milliseconds: int, words: str) -> None:
    assert in_words(milliseconds) == words


def test_what_stays_when_the_entry_goes_has_somewhere_to_reject_to() -> None:
    queues = desired({"q": {"retry": RETRY, "on_remove": "keep"}}).all_queues()
    assert {name: queue.on_remove for name, queue in queues.items() if "retry" not in name} == {
        "q": "keep",
        "q.dead": "keep",
        "q.rejected": "keep",
    }


def test_names_that_are_taken_and_names_that_are_too_long() -> None:
    retried = {"retry": RETRY}
    assert "another's" in faults({"q": retried, "q.rejected": {}})["queues.q.retry"]
    assert "another's" in faults({"q": retried, "q.retry.1m": {}})["queues.q.retry"]
    assert "another's" in faults({"q": retried, "p": {"dead_letter": "q.rejected"}})["queues.q.retry"]
    assert "a shorter name" in next(iter(faults({"q" * 250: retried}).values()))
    assert "come back at once" in faults({"q.dead": {**retried, "dead_letter": "q.dead"}})["queues.q.dead.dead_letter"]
    assert set(desired({"q": retried, "q.dead": {"type": "quorum"}}).all_queues()) >= {"q", "q.dead"}


def test_what_cannot_be_retried() -> None:
    assert "a stream cannot retry" in faults({"q": {"type": "stream", "retry": RETRY}})["queues.q.retry"]
    own = {"arguments": {"x-dead-letter-exchange": "e"}}
    assert "exclude each other" in next(iter(faults({"q": {"retry": RETRY, **own}}).values()))
    assert faults({"q": {"retry": {"attempts": 0, "delays": ["1s"]}}}).keys() == {"queues.q.retry.attempts"}
    assert faults({"q": {"retry": {"attempts": 2, "delays": []}}}).keys() == {"queues.q.retry.delays"}
    assert "too large" in next(iter(faults({"q": {"retry": {"attempts": 2, "delays": ["50d"]}}}).values()))
