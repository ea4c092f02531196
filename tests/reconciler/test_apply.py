"""Doing what was planned: in order, each by itself, and never a queue that nobody knows to be ours."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from reconciler.actions import Bind, DeclareExchange, DeleteExchange, DeletePolicy, SetPolicy, Unbind
from reconciler.apply import Result, World, apply
from reconciler.diff import RestartWish
from reconciler.errors import BrokerUnreachable, NoSuchExchange, Refused, StillInUse, Temporary
from reconciler.plan import Action, Adjust, Claim, Declare, Delete, Plan, Release, Restart, Start, Stop
from state.desired import Exchange, PolicyRule, Queue
from state.ledger import Ledger, Owned
from state.observed import ObservedBinding
from tests.broker.fake import FakeBroker
from tests.reconciler.support import POOL, spec, terms, worker
from tests.supervisor.fake import FakeSupervisor

HERE = "here /"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(FakeBroker(), FakeSupervisor(), Ledger.load(tmp_path / "ledger.json"), HERE)


async def done(world: World, *actions: Action) -> list[Result]:
    told: list[Result] = []
    results = await apply(Plan(actions), world, told.append)
    assert sorted(map(id, told)) == sorted(map(id, results)), "each is told of as it ends"
    return results


def broker(world: World) -> Any:
    return world.broker


async def test_a_queue_that_is_made_is_ours_from_before_it_is_there(world: World) -> None:
    at_declare = {}
    declare = broker(world).declare

    async def watched(name: str, queue: Queue) -> None:
        at_declare.update(Ledger.peek(world.ledger.path).owned(HERE))
        await declare(name, queue)

    broker(world).declare = watched
    await done(world, Declare("q", Queue(on_remove="keep"), claim=True))
    assert at_declare == {"q": Owned.as_wanted(Queue(on_remove="keep"))}
    assert broker(world).names == {"q"}


async def test_one_that_is_only_verified_is_not_ours(world: World) -> None:
    broker(world).make("q", Queue())
    await done(world, Declare("q", Queue(), claim=False))
    assert world.ledger.owned(HERE) == {}


async def test_one_that_somebody_else_made_in_between_is_not_ours_either(world: World) -> None:
    broker(world).make("q", Queue(type="quorum"))
    (result,) = await done(world, Declare("q", Queue(), claim=True))
    assert isinstance(result.error, Refused)
    assert Ledger.peek(world.ledger.path).owned(HERE) == {}


async def test_one_that_may_have_been_made_when_the_broker_vanished_stays_ours(world: World) -> None:
    broker(world).reachable = False
    (result,) = await done(world, Declare("q", Queue(), claim=True))
    assert isinstance(result.error, BrokerUnreachable)
    assert Ledger.peek(world.ledger.path).owned(HERE) == {"q": Owned.as_wanted(Queue())}


async def test_without_a_ledger_on_disk_no_queue_is_made_and_all_else_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    broker(world).make("known", Queue())
    monkeypatch.setattr("state.ledger.write_atomically", full)
    results = await done(
        world, Declare("q", Queue(), claim=True), Declare("known", Queue(), claim=False), Start(spec(), 0)
    )
    assert [type(result.error) for result in results] == [Temporary, type(None), type(None)]
    assert "No space left on device" in str(results[0].error)
    assert broker(world).names == {"known"}


async def test_an_action_that_fails_holds_up_no_other(world: World) -> None:
    broker(world).make("full", Queue())
    broker(world).make("empty", Queue())
    broker(world).put("full", b"1")
    world.ledger.claim(HERE, {"full": Owned(), "empty": Owned()})
    full, empty = await done(world, Delete("full", "classic", False, 0), Delete("empty", "classic", False, 0))
    assert isinstance(full.error, StillInUse)
    assert empty.error is None
    assert world.ledger.owned(HERE).keys() == {"full"}, "what is deleted is not ours any more, what stays is"


async def test_force_deletes_what_is_in_it(world: World) -> None:
    broker(world).make("q", Queue())
    broker(world).put("q", b"1")
    await done(world, Delete("q", "classic", True, 1))
    assert broker(world).names == set()


async def test_to_release_a_queue_leaves_it_where_it_is(world: World) -> None:
    broker(world).make("q", Queue())
    world.ledger.claim(HERE, {"q": Owned("keep")})
    await done(world, Release("q"))
    assert broker(world).names == {"q"}
    assert Ledger.peek(world.ledger.path).owned(HERE) == {}


async def test_what_the_file_says_on_removal_is_written_down(world: World) -> None:
    await done(world, Claim("q", Owned("delete")))
    assert Ledger.peek(world.ledger.path).owned(HERE) == {"q": Owned("delete")}


async def test_workers_are_started_and_stopped(world: World) -> None:
    await done(world, Start(spec(), 0), Start(spec(), 1))
    await done(world, Stop(worker(1), "1 is wanted"))
    (left,) = world.supervisor.observe()  # type: ignore[attr-defined]
    assert (left.pool, left.slot) == (POOL, 0)


async def test_a_worker_is_restarted_in_its_slot(world: World) -> None:
    await done(world, Start(spec(), 3))
    (before,) = world.supervisor.observe()  # type: ignore[attr-defined]
    await done(world, Restart(RestartWish(POOL, 3, before.pid), "asked for"))
    for _ in range(3):
        await asyncio.sleep(0)
    (after,) = world.supervisor.observe()  # type: ignore[attr-defined]
    assert (after.slot, after.digest) == (3, before.digest)
    assert after.pid != before.pid


async def test_other_limits_reach_a_worker_without_another_process(world: World) -> None:
    await done(world, Start(spec(), 0))
    (before,) = world.supervisor.observe()  # type: ignore[attr-defined]
    await done(world, Adjust(terms("other"), 0))
    (after,) = world.supervisor.observe()  # type: ignore[attr-defined]
    assert (after.pid, after.state, after.terms) == (before.pid, before.state, "other")


class TestBindings:
    OLD, NEW = ObservedBinding("e", "q", routing_key="old"), ObservedBinding("e", "q", routing_key="new")

    async def test_an_old_one_goes_once_the_new_one_is_there_and_is_ours_no_more(self, world: World) -> None:
        broker(world).make("q", Queue())
        await done(world, DeclareExchange("e", Exchange(), claim=True), Bind(self.OLD, claim=True))
        assert world.ledger.holdings(HERE).bindings == {self.OLD.key}
        await done(world, Bind(self.NEW, claim=True), Unbind(self.OLD))
        assert broker(world).bindings == {self.NEW}
        assert Ledger.peek(world.ledger.path).holdings(HERE).bindings == {self.NEW.key}

    async def test_an_old_one_stays_while_the_new_one_cannot_be_made(self, world: World) -> None:
        broker(world).make("q", Queue())
        broker(world).bindings.add(self.OLD)
        bound, unbound = await done(world, Bind(self.NEW, claim=True), Unbind(self.OLD))
        assert isinstance(bound.error, NoSuchExchange)
        assert isinstance(unbound.error, Temporary)
        assert broker(world).bindings == {self.OLD}


async def test_an_exchange_and_a_policy_are_ours_from_before_they_are_there(world: World) -> None:
    broker(world).reachable = False
    rule = PolicyRule(pattern="^q", definition={"max-length": 1})
    await done(world, SetPolicy("p", rule, claim=True), DeclareExchange("e", Exchange(on_remove="keep"), claim=True))
    held = Ledger.peek(world.ledger.path).holdings(HERE)
    assert (held.policies, held.exchanges) == ({"p"}, {"e": Owned("keep")})
    broker(world).reachable = True
    await done(world, DeleteExchange("e"), DeletePolicy("p"))
    assert not Ledger.peek(world.ledger.path).holdings(HERE)


async def test_an_exchange_that_somebody_else_made_in_between_is_not_ours(world: World) -> None:
    await broker(world).declare_exchange("e", Exchange(type="topic"))
    (result,) = await done(world, DeclareExchange("e", Exchange(), claim=True))
    assert isinstance(result.error, Refused)
    assert not world.ledger.holdings(HERE).exchanges
