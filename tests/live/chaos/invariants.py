"""What is promised, whatever happens: one function for each promise, in the order in which they are to be asked.

Each takes the outcome of a run, and raises AssertionError in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tests.live.chaos.chaos import Outcome, missing
from tests.live.chaos.watch import footprint
from tests.live.chaos.workers import Born
from tests.live.sites import is_alive, processes_of, zombies_under
from tests.waiting import eventually

DESCRIPTORS = 8  # more than before, that a daemon may hold for requests under way
LOGS = 40  # of each pool: the daemon keeps 50 by the time of their end, and one that was born first may end last
MEMORY = 24 * 1024 * 1024  # bytes more than before, for what it remembers of ended workers and events, which is bounded


def every_confirmed_message_was_processed(outcome: Outcome) -> None:
    """What the broker has confirmed to a publisher was handled by a worker, at least once."""
    lost = missing(outcome.world)
    total = len(outcome.world.publisher.confirmed)
    assert total > 100, f"only {total} messages were confirmed: that shows nothing"
    assert not lost, f"{len(lost)} of {total} confirmed messages were never processed: {sorted(lost)[:5]}"


def no_process_too_many(outcome: Outcome) -> None:
    """Never more workers of a pool than were wanted, beside those that are stopping; exactly the wanted at the end."""
    assert outcome.watch.looks > 10, f"only {outcome.watch.looks} looks: that shows nothing"
    assert not outcome.watch.breaches, outcome.watch.breaches

    def exactly() -> bool:
        wanted, alive = outcome.world.wanted(), Counter(one.pool for one in outcome.world.alive())
        assert alive == Counter(wanted), f"{dict(alive)} are alive, {wanted} are wanted"
        return True

    eventually(exactly)


def status_is_synced(outcome: Outcome) -> None:
    """The daemon says, and rightly, that the file as it stands is in force, and that all of it works."""
    assert outcome.not_calm is None, outcome.not_calm
    outcome.world.site.settled()


def every_worker_runs_the_newest_code(outcome: Outcome) -> None:
    """No worker of an earlier edit is left."""
    newest = outcome.world.version

    def all_new() -> bool:
        old = [f"{one.pid} ({one.version})" for one in outcome.world.alive() if one.worker == "record"]
        old = [text for text in old if not text.endswith(f"({newest})")]
        assert not old, f"these run another version than {newest}: {old}"
        return True

    eventually(all_new)


def no_zombie(outcome: Outcome) -> None:
    """Whoever has children of this site has waited for all that ended."""

    def none() -> bool:
        zombies = {pid: dead for pid in processes_of(outcome.world.site) if (dead := zombies_under(pid))}
        assert not zombies, f"zombies by parent: {zombies}"
        return True

    eventually(none)


def no_descriptor_growth(outcome: Outcome) -> None:
    """The daemon holds no more descriptors than in the calm before, with as many workers."""

    def as_before() -> bool:
        pid = outcome.world.daemon()
        assert pid is not None, "the daemon does not run"
        after = footprint(pid).descriptors
        assert after <= outcome.before.descriptors + DESCRIPTORS, f"{outcome.before.descriptors} before, {after} after"
        return True

    eventually(as_before)


def no_memory_growth(outcome: Outcome) -> None:
    """The daemon is no larger than in the calm before, but for what it remembers on purpose."""

    def as_before() -> bool:
        pid = outcome.world.daemon()
        assert pid is not None, "the daemon does not run"
        after = footprint(pid).rss  # with what it holds for an answer that is under way
        assert after <= outcome.before.rss + MEMORY, f"{outcome.before.rss >> 20} MiB before, {after >> 20} MiB after"
        return True

    eventually(as_before)


def log_of_every_worker_is_readable(outcome: Outcome) -> None:
    """Also of those that have ended, the newest of each pool, and of those that a daemon started which was killed."""
    world = outcome.world
    unreadable, mute = [], []
    for one in remembered(world.born()):
        answer = world.site.get(f"/logs/workers/logs/{one.pid}")
        if answer.status_code != 200:
            unreadable.append(f"{one.pool} {one.pid}: {answer.status_code} {answer.text[:200]}")
        elif not answer.json()["lines"] and world.had_room(one.at):
            mute.append(f"{one.pool} {one.pid}")
    assert not unreadable, unreadable
    assert not mute, f"not one line of {mute}"


def remembered(born: list[Born]) -> list[Born]:
    """Those that live, and the newest `LOGS` of each pool that have ended."""
    ended: dict[str, list[Born]] = {}
    for one in born:
        if not one.alive:
            ended.setdefault(one.pool, []).append(one)
    return [one for one in born if one.alive or one in ended[one.pool][-LOGS:]]


def nothing_left_running(outcome: Outcome) -> None:
    """After a clean stop there is no process of this site, no worker, no child of one, no zygote."""
    world = outcome.world
    assert world.site.stop(timeout=60) == 0

    def nobody() -> bool:
        left = processes_of(world.site) | {one.pid for one in world.born() if one.alive}
        left |= {pid for pid in world.zygotes() if is_alive(pid)}
        assert not left, f"still there: {left}"
        return True

    eventually(nobody)


INVARIANTS: tuple[Callable[[Outcome], None], ...] = (
    every_confirmed_message_was_processed,
    no_process_too_many,
    status_is_synced,
    every_worker_runs_the_newest_code,
    no_zombie,
    no_descriptor_growth,
    no_memory_growth,
    log_of_every_worker_is_readable,
    nothing_left_running,
)
