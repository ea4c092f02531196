"""Turn after turn on a world in memory: it comes to rest where the file says, and only what is ours is touched."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.apply import Result, World, apply
from reconciler.diff import RestartWish, Wishes, diff
from reconciler.plan import Context, Delete, Plan, Restart, make_plan
from state.desired import Desired, Queue
from state.ledger import Ledger
from state.observed import ObservedBinding, ObservedExchange, ObservedPolicy
from state.processes import WorkerState
from tests.broker.fake import FakeBroker
from tests.reconciler.support import POOL, desired, specs
from tests.supervisor.fake import FakeSupervisor

NO_WISHES = Wishes()
ENOUGH = 60  # turns; a pool of a few workers has rolled by then

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])
COUNTS = st.dictionaries(st.sampled_from(["w", "v"]), st.integers(0, 5), max_size=2)
WORKERS = st.builds(
    lambda counts, prefetch: {name: {"count": count, "prefetch": prefetch} for name, count in counts.items()},
    COUNTS,
    st.integers(1, 2),
)
QUEUES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["classic", "quorum"]),
        "arguments": st.sampled_from([{}, {"x-max-length": 5}, {"x-message-ttl": 60_000}]),
        "on_remove": st.sampled_from(["keep", "delete-if-empty", "delete"]),
        "dead_letter": st.sampled_from(["lost", "theirs"]),
        "expires": st.sampled_from(["1h", "2h"]),
        "overflow": st.just("reject-publish"),
        "workers": WORKERS,
    },
)
KEYS = st.sampled_from(["", "a.*", "#"])
EXCHANGES = st.dictionaries(
    st.sampled_from(["e", "f"]),
    st.fixed_dictionaries(
        {"type": st.just("topic")}, optional={"on_remove": st.sampled_from(["keep", "delete-if-unused"])}
    ),
)
POLICIES = st.dictionaries(
    st.sampled_from(["p", "r"]),
    st.builds(
        lambda pattern, ttl: {"pattern": pattern, "definition": {"message-ttl": ttl}},
        st.sampled_from(["^a", ".*"]),
        st.integers(1, 3),
    ),
)


@st.composite
def files(draw: st.DrawFn) -> Desired:
    queues, exchanges = draw(st.dictionaries(NAMES, QUEUES, max_size=5)), draw(EXCHANGES)
    sources = st.sampled_from(["amq.topic", *exchanges])
    bound = st.lists(
        st.builds(lambda e, k: {"exchange": e, "routing_key": k}, sources, KEYS), max_size=3, unique_by=str
    )
    queues = {name: {**queue, "bindings": draw(bound)} for name, queue in queues.items()}
    if "e" in exchanges:
        exchanges["e"]["bindings"] = draw(bound)
    file = {"version": 1, "queues": queues, "exchanges": exchanges, "policies": draw(POLICIES)}
    return Desired.model_validate(file)


FILES = files()


@dataclass
class Site:
    """All that a daemon has, without a daemon."""

    folder: Path
    broker: FakeBroker = field(default_factory=lambda: FakeBroker(tick=0))
    supervisor: FakeSupervisor = field(default_factory=lambda: FakeSupervisor(auto_ready=True))
    results: list[Result] = field(default_factory=list)  # of the turn before

    def __post_init__(self) -> None:
        self.ledger = Ledger.load(self.folder / "ledger.json")

    async def plan(self, file: Desired, confirmed: bool = False, wishes: Wishes = NO_WISHES) -> Plan:
        seen = await self.broker.observe({*file.all_queues(), *self.ledger.owned(f"fake {self.broker.vhost}")})
        ours = self.ledger.holdings(seen.identity)
        changes = diff(file, seen, ours, specs(file), self.supervisor.observe(), wishes)
        return make_plan(changes, Context(ours.entries, confirmed, dict(self.ledger.requests), holdings=ours))

    async def turn(self, file: Desired, confirmed: bool = False) -> Plan:
        plan = await self.plan(file, confirmed)
        world = World(self.broker, self.supervisor, self.ledger, f"fake {self.broker.vhost}")
        self.results = await apply(plan, world)
        for _ in range(3):  # what processes do by themselves
            await asyncio.sleep(0)
        return plan

    async def rest(self, file: Desired, confirmed: bool = False) -> Plan:
        """Turns until nothing is left to do that can be done."""
        for _ in range(ENOUGH):
            plan = await self.turn(file, confirmed)
            working = all(worker.state == WorkerState.READY for worker in self.supervisor.observe())
            if working and all(result.error for result in self.results):
                return plan
        raise AssertionError(f"it never comes to rest: {plan}")


def run(story: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(Site(Path(folder))))


@given(FILES)
@settings(max_examples=100, deadline=None)
def test_from_nothing_it_comes_to_what_the_file_says_and_then_plans_nothing(file: Desired) -> None:
    async def story(site: Site) -> None:
        await site.rest(file)
        assert await site.plan(file) == Plan()
        assert site.broker.names == set(file.all_queues())
        assert site.broker.bindings == file.all_bindings()
        assert site.broker.exchanges.keys() == file.exchanges.keys()
        carried = {f"reconciler.{name}" for name, queue in file.all_queues().items() if queue.policy_definition()}
        assert site.broker.policies.keys() == file.policies.keys() | carried
        counts = {pool: worker.count for pool, worker in file.pools() if worker.count}
        found = [worker.pool for worker in site.supervisor.observe()]
        assert {pool: found.count(pool) for pool in set(found)} == counts

    run(story)


@given(st.lists(FILES, min_size=2, max_size=4), st.booleans())
@settings(max_examples=80, deadline=None)
def test_from_file_to_file_only_what_is_ours_is_deleted_and_messages_only_where_the_file_said_so(
    files: list[Desired], confirmed: bool
) -> None:
    async def story(site: Site) -> None:
        site.broker.make("theirs", Queue())
        site.broker.make("a", Queue(arguments={"x-max-length": 5}))
        site.broker.put("theirs", b"1")
        site.broker.exchanges["x"] = ObservedExchange("x", "fanout")
        theirs = {ObservedBinding("x", "theirs"), ObservedBinding("amq.topic", "theirs", routing_key="theirs")}
        site.broker.bindings |= theirs
        site.broker.policies["theirs"] = ObservedPolicy("theirs", ".*", priority=7, definition={"max-length": 9})
        foreign = await site.broker.observe([])
        for file in files:
            for name in site.broker.names - {"theirs", "a"}:
                if not site.broker.bodies(name):
                    site.broker.put(name, b"precious")
            said = dict(site.ledger.owned(foreign.identity))
            before = site.broker.names
            await site.rest(file, confirmed)
            assert (await site.broker.observe([])).queues.items() >= foreign.queues.items()
            assert site.broker.bindings >= theirs
            assert "x" in site.broker.exchanges
            assert site.broker.policies["theirs"] == ObservedPolicy("theirs", ".*", "all", 7, {"max-length": 9})
            for name in before - site.broker.names:
                assert said[name].on_remove == "delete"
            assert not [r for r in site.results if r.error and isinstance(r.action, Delete)]

    run(story)


@given(FILES, FILES)
@settings(max_examples=60, deadline=None)
def test_a_plan_that_is_only_looked_at_changes_nothing(one: Desired, other: Desired) -> None:
    async def story(site: Site) -> None:
        await site.rest(one)
        calls, workers = list(site.broker.calls), site.supervisor.observe()
        ledger = (site.folder / "ledger.json").read_bytes() if one.queues else b""
        await site.plan(other)
        assert site.broker.calls == calls
        assert site.supervisor.observe() == workers
        assert not one.queues or (site.folder / "ledger.json").read_bytes() == ledger

    run(story)


@given(FILES, st.sampled_from(["lost", "broken", "another broker's"]))
@settings(max_examples=40, deadline=None)
def test_without_its_ledger_it_deletes_nothing(file: Desired, fate: str) -> None:
    async def story(site: Site) -> None:
        await site.rest(file)
        path = site.folder / "ledger.json"
        if fate == "another broker's":
            site.broker.vhost = "elsewhere"
        elif path.exists():
            path.unlink() if fate == "lost" else path.write_bytes(path.read_bytes()[:-9])
        site.ledger = Ledger.load(path)
        before = site.broker.names
        await site.rest(desired(), confirmed=True)
        assert site.broker.names == before

    run(story)


@given(FILES, st.lists(NAMES, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_others_delete_is_made_again(file: Desired, names: list[str]) -> None:
    async def story(site: Site) -> None:
        await site.rest(file)
        for name in names:
            site.broker.drop(name)
        for name in list(site.broker.exchanges)[: len(names)]:
            site.broker.drop_exchange(name)
        site.broker.bindings = set(sorted(site.broker.bindings, key=str)[len(names) :])
        site.broker.policies = dict(list(site.broker.policies.items())[len(names) :])
        await site.rest(file)
        assert site.broker.names == set(file.all_queues())
        assert site.broker.bindings == file.all_bindings()
        assert site.broker.policies.keys() >= file.policies.keys()
        assert await site.plan(file) == Plan()

    run(story)


def working(site: Site) -> int:
    return sum(worker.state == WorkerState.READY for worker in site.supervisor.observe())


def test_a_pool_keeps_three_quarters_at_work_all_the_way_to_new_settings() -> None:
    async def story(site: Site) -> None:
        await site.rest(desired(q={"workers": {"w": {"count": 8, "prefetch": 1}}}))
        new, least = desired(q={"workers": {"w": {"count": 8, "prefetch": 2}}}), 8
        while await site.turn(new) != Plan():
            least = min(least, working(site))
        assert least == 6
        assert {worker.digest for worker in site.supervisor.observe()} == {spec.digest for spec in specs(new).values()}

    run(story)


def eight(prefetch: int) -> Desired:
    return desired(q={"workers": {"w": {"count": 8, "prefetch": prefetch}}})


async def until_halted(site: Site, file: Desired) -> Plan:
    """Turns in which no process of `file`'s spec ever gets ready."""
    digest = specs(file)[POOL].digest
    for _ in range(ENOUGH):
        plan = await site.turn(file)
        for worker in site.supervisor.observe():
            if worker.digest == digest and worker.state == WorkerState.STARTING:
                site.supervisor.die(worker.pool, worker.slot, text="no database")
        if plan.held and not plan.actions:
            return plan
    raise AssertionError("the roll is never halted")


async def rolled_to(site: Site, file: Desired) -> None:
    site.supervisor.auto_ready = True
    for _ in range(ENOUGH):
        if await site.turn(file) == Plan() and working(site) == 8:
            break
    assert {worker.digest for worker in site.supervisor.observe()} == {specs(file)[POOL].digest}


def test_a_roll_whose_first_process_dies_is_halted_there_and_goes_on_once_it_lives() -> None:
    async def story(site: Site) -> None:
        await site.rest(eight(1))
        site.supervisor.auto_ready = False
        plan = await until_halted(site, eight(2))
        assert "roll halted after 1 of 8: exit code 1: no database; the other 7" in plan.held[0].reason
        assert working(site) == 7
        for _ in range(5):
            assert (await site.turn(eight(2))).actions == ()
        (failed,) = (worker for worker in site.supervisor.observe() if worker.state == WorkerState.BACKOFF)
        site.supervisor.auto_ready = True
        site.supervisor.retry(failed.pool, failed.slot)
        await rolled_to(site, eight(2))

    run(story)


def test_a_bad_roll_is_followed_by_a_good_one_and_never_are_there_fewer_than_three_quarters() -> None:
    async def story(site: Site) -> None:
        await site.rest(eight(1))
        for bad in (2, 3, 4):
            site.supervisor.auto_ready = False
            await until_halted(site, eight(bad))
            assert working(site) >= 6
        await rolled_to(site, eight(5))

    run(story)


def test_a_daemon_that_starts_anew_amid_a_halted_roll_halts_it_again() -> None:
    async def story(site: Site) -> None:
        await site.rest(eight(1))
        site.supervisor.auto_ready = False
        for _ in range(4):
            await until_halted(site, eight(2))
            for worker in site.supervisor.observe():  # the next daemon knows only of those that live
                if worker.state == WorkerState.BACKOFF:
                    site.supervisor.stop_worker(worker.pool, worker.slot)
            assert working(site) >= 6
        await rolled_to(site, eight(2))

    run(story)


def test_a_restart_of_a_pool_goes_round_once_and_keeps_three_quarters_at_work() -> None:
    async def story(site: Site) -> None:
        await site.rest(eight(1))
        before = {worker.pid for worker in site.supervisor.observe()}
        wishes = {RestartWish(POOL, worker.slot, worker.pid) for worker in site.supervisor.observe()}
        for _ in range(ENOUGH):
            plan = await site.plan(eight(1), wishes=Wishes(restarts=wishes))
            await apply(plan, World(site.broker, site.supervisor, site.ledger, f"fake {site.broker.vhost}"))
            wishes -= {action.wish for action in plan.actions if isinstance(action, Restart)}
            assert all(isinstance(action, Restart) for action in plan.actions)
            assert working(site) >= 6
            for _ in range(3):
                await asyncio.sleep(0)
        assert not wishes
        after = {worker.pid for worker in site.supervisor.observe()}
        assert len(after) == 8
        assert not before & after
        assert await site.plan(eight(1)) == Plan()

    run(story)


def test_other_limits_reach_every_process_and_replace_none() -> None:
    async def story(site: Site) -> None:
        await site.rest(eight(1))
        before = {worker.pid for worker in site.supervisor.observe()}
        other = desired(q={"workers": {"w": {"count": 8, "prefetch": 1, "max_memory": "1GiB"}}})
        await site.rest(other)
        assert {worker.pid for worker in site.supervisor.observe()} == before
        assert {worker.terms for worker in site.supervisor.observe()} == {specs(other)[POOL].terms}
        assert await site.plan(other) == Plan()

    run(story)
