"""The plan as it is reviewed: priced, bound to the world it was made from, and shown in text and Markdown."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reconciler.actions import DeleteExchange, Migrate, Unbind
from reconciler.basis import Basis, at_stake, basis_of, is_digest, moved
from reconciler.costs import touched
from reconciler.diff import Difference, QueueDiffers, QueueMissing, QueueUnwanted
from reconciler.markdown import plan_markdown
from reconciler.plan import Context, Declare, Delete, Held, Plan, make_plan
from reconciler.review import Confirmation, Review, unmanaged_queues
from reconciler.show import plan_text
from state.desired import Desired, Queue
from state.ledger import Holdings, Owned
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedPolicy, ObservedQueue
from tests.reconciler.support import desired, there, worker

FILE = desired(q={})
OWNED = {"q": Owned(), "old": Owned("delete")}


def seen(*queues: ObservedQueue, management: bool = True) -> ObservedBroker:
    return ObservedBroker("here /", "4.0.5", management, {queue.name: queue for queue in queues})


WORLD = seen(there("q"), there("old", ready=10, unacknowledged=2), there("x"), there("y"))


def review(
    broker: ObservedBroker = WORLD,
    revision: str = "f00d" * 16,
    owned: dict[str, Owned] = OWNED,
    requests: dict[str, bool] | None = None,
    file: Desired = FILE,
    workers: Any = (),
) -> Review:
    changes = [QueueUnwanted(n, o, broker.queues[n]) for n, o in owned.items() if n not in file.queues]
    changes = [c for c in changes if c.seen]
    plan = make_plan(changes, Context(100, requests=requests or {}))
    basis = basis_of(revision, file, plan, broker, Holdings(dict(owned)), requests or {})
    return Review(plan, basis, revision, broker, unmanaged_queues(broker, {**file.queues, **owned}), workers)


def with_(broker: ObservedBroker, *queues: ObservedQueue) -> ObservedBroker:
    return replace(broker, queues={**broker.queues, **{queue.name: queue for queue in queues}})


# -- price ---------------------------------------------------------------------------------------------------------


def test_a_deletion_is_priced_with_ready_and_in_flight_messages_and_workers() -> None:
    pool = replace(worker().pool, queue="old")
    (action,) = review(workers=(worker(0, pool=pool), worker(1, "backoff", pool=pool))).body()["actions"]
    assert action == {
        "action": "delete",
        "subject": "old",
        "text": "delete queue old with its 12 messages",
        "cost": "destructive",
        "messages": 12,
        "messages_ready": 10,
        "messages_unacknowledged": 2,
        "workers": 1,
        "bindings": None,
    }


def test_what_is_held_is_priced_too() -> None:
    plan = make_plan([QueueDiffers("q", Queue(), (Difference("durable", True, False),), there())])
    found = Review(plan, Basis(), "f00d", seen(there("q", ready=7)), None).body()
    (held,) = found["held"]["actions"]
    assert (held["queue"], held["messages_ready"], held["needs_confirmation"]) == ("q", 7, False)
    assert found["summary"]["held"] == 1


def test_the_summary_counts_each_cost_and_what_is_lost() -> None:
    plan = Plan((Declare("a", Queue(), True), Delete("b", "classic", True, 12), Delete("c", "classic", False, 0)))
    found = Review(plan, Basis(), "f00d", WORLD, ["x"]).body()
    assert found["summary"] == {
        "destructive": 2, "recreate": 0, "restart": 0, "in place": 1, "held": 0, "messages_lost": 12,
    }  # fmt: skip


def test_other_queues_are_named_and_counted_and_not_guessed_at_where_they_cannot_be_seen() -> None:
    assert review().body()["unmanaged"] == {"count": 2, "queues": ["x", "y"]}
    assert unmanaged_queues(seen(there("q"), management=False), {}) is None
    assert unmanaged_queues(None, {}) is None


BOUND = frozenset(
    {
        ObservedBinding("events", "old", "queue", "a"),
        ObservedBinding("events", "old", "queue", "b"),
        ObservedBinding("events", "other", "exchange"),
        ObservedBinding("first", "events", "exchange"),
    }
)
GONE = ObservedBinding("events", "old", "queue", "a")
ROUTED = replace(WORLD, bindings=BOUND, exchanges={"events": ObservedExchange("events", "topic")}, policies={})


def test_the_bindings_that_go_with_a_queue_or_an_exchange_are_counted() -> None:
    (action,) = review(ROUTED).body()["actions"]
    assert action["bindings"] == 2
    held = Held("events", "x", kind="exchange")
    plan = Plan((DeleteExchange("events"), Unbind(ObservedBinding("events", "q"))), (held,))
    found = Review(plan, Basis(), "f00d", ROUTED, None).body()
    assert [step["bindings"] for step in found["actions"]] == [4, 1]
    assert found["held"]["actions"][0]["bindings"] == 4
    assert touched(found["actions"][0]) == ["4 bindings"]


def test_a_migration_is_priced_with_all_that_moves() -> None:
    queue = there("old", ready=10, unacknowledged=2)
    plan = Plan((Migrate("old", Queue(type="quorum"), queue),))
    (action,) = Review(plan, Basis(), "f00d", ROUTED, None).body()["actions"]
    assert (action["action"], action["cost"], action["messages"], action["bindings"]) == ("migrate", "recreate", 12, 2)
    assert at_stake(plan) == {"old"}


# -- the digest ----------------------------------------------------------------------------------------------------


def test_the_digest_stays_while_nothing_that_matters_has_moved() -> None:
    same = review().digest
    assert is_digest(same)
    assert review(with_(WORLD, there("q", ready=99))).digest == same, "a message in a queue that stays"
    assert review(with_(WORLD, there("z"))).digest == same, "a queue of somebody else"
    assert review(replace(WORLD, version="4.1.0")).digest == same
    assert review(with_(WORLD, there("old", ready=12))).digest == same, "as many messages, now all ready"
    assert review(workers=(worker(),)).digest == same


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (review(revision="beef" * 16), "the file: revision was f00d"),
        (review(owned={"q": Owned("keep"), "old": Owned("delete")}), "the ledger: queue q was delete-if-empty"),
        (review(owned={**OWNED, "x": Owned()}), "the ledger: queue x was not there and is delete-if-empty"),
        (review(requests={"old": True}), "the ledger: request to delete old was not there and is with force"),
        (review(with_(WORLD, there("old", ready=13))), "queue old was classic, durable, 12 messages and is"),
        (review(with_(WORLD, there("q", durable=False))), "queue q was classic, durable and is classic, transient"),
        (review(with_(WORLD, there("q", arguments={"x-expires": 1}))), 'is classic, durable, {"x-expires": 1}'),
        (review(replace(WORLD, identity="there /")), "broker was here / and is there /"),
    ],
)
def test_the_digest_moves_with_anything_that_matters_and_says_what(now: Review, what: str) -> None:
    before = review()
    assert now.digest != before.digest
    assert what in "\n".join(moved(before.digest, now.basis, before.basis))


@pytest.mark.parametrize(
    ("now", "what"),
    [
        (replace(ROUTED, bindings=BOUND - {GONE}), "binding events → queue old with a was"),
        (replace(ROUTED, bindings=BOUND | {ObservedBinding("x", "q")}), "binding x → queue q was not there"),
        (replace(ROUTED, policies={"ttl": ObservedPolicy("ttl", ".*")}), "policy ttl was not there"),
        (replace(ROUTED, exchanges={"events": ObservedExchange("events", "fanout")}), "exchange events was"),
    ],
)
def test_exchanges_bindings_and_policies_of_the_file_move_it_too(now: ObservedBroker, what: str) -> None:
    rule = {"pattern": ".*", "definition": {"max-length": 1}}
    queues, exchanges = {"q": {}}, {"events": {"type": "topic"}}
    file = Desired.model_validate({"version": 1, "queues": queues, "exchanges": exchanges, "policies": {"ttl": rule}})
    before = review(ROUTED, file=file)
    assert what in "\n".join(moved(before.digest, review(now, file=file).basis, before.basis))
    theirs = replace(ROUTED, policies={"x": ObservedPolicy("x", ".*")}, exchanges={**(ROUTED.exchanges or {})})
    assert review(theirs, file=file).digest == before.digest, "what is somebody else's does not"


def test_from_a_digest_alone_it_is_known_whether_file_ledger_or_broker_moved() -> None:
    before = review().digest
    assert moved(before, review().basis) == []
    (one,) = moved(before, review(revision="beef" * 16).basis)
    assert one.startswith("the file (revision beefbeefbeef now)")
    (one,) = moved(before, review(requests={"old": True}).basis)
    assert one.startswith("what is ours")
    (one,) = moved(before, review(with_(WORLD, there("old"))).basis)
    assert one.startswith("the broker")
    assert len(moved("0" * 64, review().basis)) == 3


def test_much_that_moved_is_told_in_few_words() -> None:
    before, now = Basis(broker={f"q{n}": "x" * 500 for n in range(50)}), Basis()
    found = moved(before.digest, now, before)
    assert len(found) == 6
    assert found[-1] == "and 45 more"
    assert all(len(text) < 200 for text in found)


def test_a_confirmation_allows_what_its_plan_held_back_and_only_if_nothing_moved() -> None:
    held = Plan(held=(Held("a", "many", 0, True), Held("b", "workers", 0)))
    asked = Confirmation(Basis().digest)
    asked.answer(Review(held, Basis(), "f00d", WORLD, None))
    assert asked.allowed == {"a"}
    late = Confirmation(review().digest)
    late.answer(Review(held, Basis(), "f00d", WORLD, None))
    assert late.moved
    assert late.allowed == frozenset()
    late.answer(review())
    assert late.allowed == frozenset(), "refused is refused"


def test_what_was_confirmed_by_name_does_not_wait_again() -> None:
    changes = [QueueUnwanted(f"q{n}", Owned(), there(f"q{n}")) for n in range(5)]
    assert make_plan(changes, Context(5)).actions == ()
    names = frozenset(f"q{n}" for n in range(5))
    assert len(make_plan(changes, Context(5, allowed=names)).actions) == 5
    assert len(make_plan(changes, Context(5, allowed=names - {"q0"})).actions) == 5, "one alone is few"
    assert make_plan(changes, Context(5, allowed=frozenset({"q0"}))).needs_confirmation


# -- how it is shown -----------------------------------------------------------------------------------------------

ODD = "a|b `c` **d** <script>@who #1 [x](http://y) \\ \n ~~e~~ $f$ <!-- g -->"


def body(*queues: str, lost: int = 0, held: int = 0) -> dict[str, Any]:
    actions = [Declare(name, Queue(), True) for name in queues]
    deletes = [Delete("gone", "classic", True, lost)] if lost else []
    waiting = tuple(Held(f"h{n}", "many", 0, True) for n in range(held))
    return Review(Plan((*actions, *deletes), waiting), Basis(), "f00d", WORLD, ["other"]).body()


def test_the_text_is_a_line_an_action_and_then_in_short_what_it_costs() -> None:
    found = plan_text(review().body()).plain.splitlines()
    assert found == [
        "- delete queue old with its 12 messages (destructive; 12 messages: 10 ready, 2 in flight)",
        "",
        "1 destructive, 12 messages are lost",
        "2 other queues on this vhost are not ours.",
        f"do just this with: reconciler apply --plan {review().digest}",
    ]
    assert plan_text(body()).plain.splitlines() == ["nothing to do", "1 other queue on this vhost is not ours."]
    assert "4 removals wait for a person" in plan_text(body(held=4)).plain
    assert "allow these deletions with: reconciler sync --confirm" in plan_text(body(held=4), "sync --confirm").plain


def test_markup_in_a_name_is_no_markup_on_the_terminal() -> None:
    assert "create classic queue [red]a[/] (in place)" in plan_text(body("[red]a[/]")).plain


def rendered(plan: dict[str, Any]) -> str:
    return MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(plan_markdown(plan))


def test_markdown_says_what_is_destructive_first_and_unfolded() -> None:
    found = plan_markdown(body("a", lost=5, held=4)).splitlines()
    assert found[0] == "### Plan: 1 destructive, 1 in place, 4 removals wait for a person, 5 messages are lost"
    folded = found.index("<details><summary>🟢 1 in place</summary>")
    for words in ("delete queue gone", "h3"):
        assert any(words in line for line in found[:folded])
    assert plan_markdown(body()).startswith("### Plan: nothing to do\n")


def test_nothing_in_a_name_is_read_as_markdown_or_html() -> None:
    cells = re.findall(r"<td>(.*?)</td>", rendered(body(ODD)), re.DOTALL)
    (cell,) = [cell for cell in cells if "create" in cell]
    shown = ODD.replace("\n", "�")
    assert (
        cell == f"<code>{html.escape(f'create classic queue {shown}', quote=False).replace(chr(34), '&quot;')}</code>"
    )


@given(st.text(max_size=80))
def test_any_name_is_shown_as_it_is_in_one_cell(name: str) -> None:
    cells = re.findall(r"<td>(.*?)</td>", rendered(body(name)), re.DOTALL)
    assert len(cells) == 3
    shown = "".join(char if char.isprintable() else "�" for char in f"create classic queue {name}")
    assert html.unescape(re.sub(r"</?code>", "", cells[1])) == shown


def test_a_huge_plan_fits_into_a_comment() -> None:
    found = plan_markdown(body(*(f"{n}{'<' * 200}" for n in range(5000)), lost=1, held=5000))
    assert len(found) < 65_536
    assert "more (`reconciler plan --json` has all)" in found


def test_the_missing_queue_of_a_plan_touches_nothing() -> None:
    plan = make_plan([QueueMissing("q", Queue())])
    (action,) = Review(plan, Basis(), "f00d", seen(), []).body()["actions"]
    assert (action["messages"], action["workers"], action["bindings"]) == (0, 0, 0)
