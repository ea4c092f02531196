"""What is read on a dead letter, whoever wrote it, and which queue is meant by a name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pika import BasicProperties

from reconciler.deadletters.groups import MOST_GROUPS, MOST_IDS, Groups
from reconciler.deadletters.letters import Letter, as_routed, plain, shown
from reconciler.deadletters.places import Place, delivery_limit, place_of, why_not_look
from reconciler.deadletters.router import leftovers, sent_on, ways_of
from state.observed import ObservedBroker, ObservedPolicy
from tests.reconciler.support import desired, there
from workers.runtime.failure import Cause, Ways, failed_copy, reset

AT = datetime(2026, 11, 25, 1, 2, 3, tzinfo=UTC)
DEATH = {"reason": "expired", "queue": "orders", "time": AT, "exchange": "events", "routing-keys": ["order.created"]}
OLDER = {"reason": "rejected", "queue": "before", "time": AT, "exchange": "", "routing-keys": ["before"]}


def dead(**headers: Any) -> BasicProperties:
    return BasicProperties(message_id="m", headers=headers)


def ours(**cause: Any) -> BasicProperties:
    cause = {"exception": "KeyError", "worker": "w", "pid": 7, "traceback": "Traceback …"} | cause
    return failed_copy(dead(tenant=1), ("events", "order.created"), "orders", Cause(AT.timestamp(), **cause))


class TestALetter:
    def test_of_the_runtime_names_the_exception_and_the_worker(self) -> None:
        letter = Letter.read(ours())
        assert (letter.reason, letter.source, letter.exception, letter.worker_name) == (
            "rejected",
            "orders",
            "KeyError",
            "w",
        )
        assert (letter.at, letter.attempt, letter.redriven) == ("2026-11-25T01:02:03.000Z", 1, 0)

    def test_of_the_broker_has_its_last_reason(self) -> None:
        letter = Letter.read(dead(**{"x-death": [DEATH, OLDER]}))
        assert (letter.reason, letter.source, letter.at) == ("expired", "orders", "2026-11-25T01:02:03Z")

    def test_that_the_broker_put_aside_later_does_not_show_an_older_exception(self) -> None:
        properties = ours()
        properties.headers["x-death"] = [DEATH]
        assert Letter.read(properties) == replace(Letter.read(properties), reason="expired", exception=None)

    @pytest.mark.parametrize("headers", [{}, {"x-death": []}, {"x-death": "x"}, {"x-death": [7]}, {"x-death": [{}]}])
    def test_of_somebody_else_is_of_unknown_origin(self, headers: dict[str, Any]) -> None:
        assert Letter.read(dead(**headers)).source is None
        assert Letter.read(BasicProperties()).reason == "unknown"

    def test_with_nonsense_in_our_headers_is_read_all_the_same(self) -> None:
        nonsense: list[Any] = [7, None, True, -1, 2**70, b"\xff", {"a": 1}, [1], "text"]
        for value in nonsense:
            names = ("attempt", "redriven", "queue", "reason", "exception", "worker", "failed-at", "redrive")
            properties = dead(**{f"x-reconciler-{name}": value for name in names})
            shown(Letter.read(properties), properties, b"", 0)

    def test_is_shown_as_json_can_carry_it(self) -> None:
        value = {"at": AT, "price": Decimal("1.5"), "raw": b"\xff", "deep": [[[[[[[["end"]]]]]]]], "nan": float("nan")}
        assert plain(value)["at"] == "2026-11-25T01:02:03Z"
        assert plain(value)["price"] == "1.5"
        assert plain(value)["raw"] == "base64:/w=="
        assert plain(value)["nan"] == "nan"

    def test_shows_the_beginning_of_a_long_body_without_half_a_character(self) -> None:
        assert shown(Letter("m"), dead(), "é".encode()[:1], 2)["body"] == ""
        assert shown(Letter("m"), dead(), b"\xff\xfe", 2)["body"] == "base64://4="


class TestWhatGoesBack:
    def test_is_as_new_but_for_how_often_that_was_done(self) -> None:
        properties = ours()
        properties.headers["x-death"] = [DEATH]
        made = reset(properties, "run-1")
        assert made.message_id == "m"
        assert made.headers == {
            "tenant": 1,
            "x-reconciler-exchange": "events",
            "x-reconciler-routing-key": "order.created",
            "x-reconciler-redriven": 1,
            "x-reconciler-redrive": "run-1",
        }

    def test_remembers_its_routing_if_only_the_broker_knew(self) -> None:
        properties = dead(**{"x-death": [DEATH]})
        as_routed(properties)
        assert reset(properties, "r").headers["x-reconciler-routing-key"] == "order.created"


class TestGroups:
    def test_are_by_reason_exception_and_worker_the_largest_first(self) -> None:
        groups = Groups()
        for properties in (ours(), ours(worker="other"), ours(), dead(**{"x-death": [DEATH]})):
            groups.add(Letter.read(properties), properties, b"body")
        found = [(g["reason"], g["exception"], g["worker_name"], g["count"]) for g in groups.as_json()]
        assert found[0] == ("rejected", "KeyError", "w", 2)
        assert set(found[1:]) == {("rejected", "KeyError", "other", 1), ("expired", None, None, 1)}

    def test_are_bounded(self) -> None:
        groups = Groups()
        for number in range(MOST_GROUPS + 50):
            properties = ours(exception=f"E{number}")
            groups.add(Letter.read(properties), properties, b"")
        for _ in range(MOST_IDS + 50):
            properties = ours()
            groups.add(Letter.read(properties), properties, b"")
        found = groups.as_json()
        assert len(found) == MOST_GROUPS + 1
        assert max(len(group["message_ids"]) for group in found) == MOST_IDS
        assert sum(group["count"] for group in found) == groups.count == MOST_GROUPS + MOST_IDS + 100


class TestAPlace:
    FILE = desired(
        a={"dead_letter": "shared"},
        b={"dead_letter": "shared"},
        r={"retry": {"attempts": 2, "delays": [1]}},
        chained={"dead_letter": "a"},
        plain={},
        raw={"arguments": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "raw.dead"}},
    )

    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("b", Place("shared", "b")),
            ("shared", Place("shared")),
            ("r", Place("r.dead", "r")),
            ("chained", Place("a", "chained")),
            ("a", Place("a")),  # where others' dead letters are, whatever becomes of its own
            ("plain", None),
            ("raw", Place("raw.dead", "raw")),
            ("nobody", None),
            ("theirs", Place("theirs.dead", "theirs")),
            ("theirs.dead", Place("theirs.dead")),
            ("other", Place("other")),
        ],
    )
    def test_of_each_name(self, name: str, place: Place | None) -> None:
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "theirs.dead"}
        observed = {q.name: q for q in (there("theirs", arguments=arguments), there("theirs.dead"), there("other"))}
        assert place_of(name, self.FILE, observed) == place


def broker(
    version: str, arguments: dict[str, Any] | None = None, kind: str = "quorum", **policy: Any
) -> ObservedBroker:
    policies = {"p": ObservedPolicy("p", "^d", definition=policy)} if policy else {}
    return ObservedBroker(
        "x", version, True, {"d": there("d", type=kind, arguments=arguments or {})}, policies=policies
    )


class TestLooking:
    @pytest.mark.parametrize(
        ("seen", "limit"),
        [
            (broker("3.13.7"), None),
            (broker("4.0.5"), 20),
            (broker("4.0.5", {"x-delivery-limit": 5}), 5),
            (broker("4.0.5", **{"delivery-limit": -1}), None),
            (broker("4.0.5", {"x-delivery-limit": 5}, **{"delivery-limit": 3}), 3),
            (broker("4.1.0-rc.1", **{"max-length": 3}), 20),
        ],
    )
    def test_the_limit_of_deliveries(self, seen: ObservedBroker, limit: int | None) -> None:
        assert delivery_limit("d", seen) == limit
        assert (why_not_look("d", seen, None) is None) == (limit is None)

    def test_is_free_where_nothing_counts_it(self) -> None:
        assert why_not_look("d", broker("4.0.5", kind="classic"), None) is None
        assert why_not_look("d", broker("4.3.0"), None) is None
        assert "delivery_limit: -1" in str(why_not_look("d", broker("4.0.5"), None))
        assert "no delivery_limit" in str(why_not_look("d", broker("3.10.8", {"x-delivery-limit": 2}), None))

    def test_is_refused_where_nobody_can_see_what_it_does(self) -> None:
        blind = ObservedBroker("x", "4.0.5", False, {"d": there("d", type=None, arguments=None)})
        assert "MANAGEMENT_URL" in str(why_not_look("d", blind, None))
        assert why_not_look("d", blind, "classic") is None


class TestWhatOthersReject:
    WAYS = Ways("q", 3, ("q.retry.1s", "q.retry.1m"), "lost")

    def rejected(self, failures: int, reason: str = "rejected") -> tuple[str, Any]:
        headers = {"x-reconciler-attempt": failures} if failures else {}
        return sent_on(dead(**headers, **{"x-death": [{**DEATH, "reason": reason, "queue": "q"}]}), self.WAYS, 0.0)

    def test_comes_back_after_the_delays_and_is_dead_after_the_attempts(self) -> None:
        assert [self.rejected(n)[0] for n in range(4)] == ["q.retry.1s", "q.retry.1m", "lost", "lost"]
        copy = self.rejected(1)[1]
        assert copy.headers["x-reconciler-attempt"] == 2
        assert copy.headers["x-reconciler-routing-key"] == "order.created"
        assert "x-death" not in copy.headers

    @pytest.mark.parametrize("reason", ["expired", "maxlen", "delivery_limit"])
    def test_what_did_not_fail_is_not_tried_again(self, reason: str) -> None:
        queue, copy = self.rejected(1, reason)
        assert (queue, copy.headers["x-reconciler-reason"], copy.headers["x-reconciler-attempt"]) == ("lost", reason, 1)

    def test_what_carries_more_than_can_be_sent_on_with_ours_is_dead(self) -> None:
        queue, copy = sent_on(dead(mine="x" * 125_000), self.WAYS, 0.0)
        assert (queue, list(copy.headers)) == ("lost", ["mine"])

    def test_is_followed_as_the_file_says(self) -> None:
        file = desired(q={"retry": {"attempts": 3, "delays": [1, 60]}, "dead_letter": "lost"}, p={"dead_letter": "d"})
        assert ways_of(file) == {"q.rejected": self.WAYS}

    def test_goes_back_where_no_retry_is_any_more(self) -> None:
        file = desired(q={}, p={"dead_letter": "d"})
        found = leftovers({"q.rejected": 3, "p.rejected": 1, "gone.rejected": 2, "empty.rejected": 0, "x": 5}, file)
        assert {name: ways.after(1) for name, ways in found.items()} == {
            "q.rejected": "q",
            "p.rejected": "d",
            "gone.rejected": "gone",
        }
