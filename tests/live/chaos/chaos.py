"""One run: calm, chaos by a seed, calm again; what there is to judge then is an `Outcome`.

The same seed gives the same acts at the same times. Which pid they meet is up to the machine.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.live.chaos.acts import Skipped, schedule
from tests.live.chaos.watch import Footprint, Watch, footprint
from tests.live.chaos.workers import record
from tests.live.chaos.world import COUNTS, World
from tests.live.sites import site_on
from tests.nodes import TestNode
from tests.waiting import eventually

EVERY = 1.5  # seconds from act to act in the mean
CALM = 120.0  # seconds in which all must be well again


@dataclass
class Outcome:
    """What a run has left, for the invariants to judge. The daemon, the broker and all workers run."""

    world: World
    watch: Watch
    seed: int
    before: Footprint  # of the daemon, in calm
    not_calm: str | None  # why it has not become calm, in words

    def story(self) -> str:
        """The schedule as it was carried out, and how to run it again."""
        again = f"again: python -m bench.chaos --seed {self.seed}"
        return "\n".join([f"seed {self.seed}; what was done:", *self.world.diary, again])


@contextlib.contextmanager
def chaos(folder: Path, seed: int, seconds: float, say: Callable[[str], None] = lambda _: None) -> Iterator[Outcome]:
    """Runs it, and yields what came of it. Afterwards nothing is left, whatever happened."""
    node = TestNode(folder / "broker")
    node.start()
    try:
        with site_on(node, folder) as site:
            world = World(site, node, seed, say)
            try:
                yield run(world, seed, seconds)
            finally:
                close(world)
    finally:
        node.stop()


def close(world: World) -> None:
    try:
        world.close()
        world.node.start()  # the site's end drops its virtual host
    finally:
        world.disk.close()


def run(world: World, seed: int, seconds: float) -> Outcome:
    world.site.start()
    world.site.settled(within=CALM)
    pid = world.daemon()
    assert pid is not None
    before, watch = footprint(pid), Watch(world)
    world.note("calm")
    watch.start()
    world.publisher.start()
    try:
        storm(world, seed, seconds)
        return Outcome(world, watch, seed, before, calm(world))
    finally:
        world.publisher.stop()
        watch.stop()


def storm(world: World, seed: int, seconds: float) -> None:
    """Does what the schedule says. What takes longer than it should puts off the rest."""
    began = time.monotonic()
    for at, act in schedule(seed, seconds, EVERY):
        time.sleep(max(0.0, began + at - time.monotonic()))
        try:
            world.note(act(world))
        except Skipped as skipped:
            world.note(f"not done: {act.__name__}: {skipped}")


def calm(world: World) -> str | None:
    """Brings back what is away, says once more what is wanted, and waits; why it did not become calm, if so."""
    world.undo()
    world.version += 1
    world.site.worker("record", record(world.version))
    world.write(COUNTS, frozenset())
    world.publisher.stop()
    world.note("calm is asked for")
    try:
        world.site.settled(within=CALM)
        eventually(lambda: not missing(world), within=CALM, every=0.2)
    except AssertionError as error:
        return str(error)
    world.note("calm")
    return None


def missing(world: World) -> set[str]:
    """Messages that were confirmed and that no worker has recorded."""
    return set(world.publisher.confirmed) - set(world.site.recorded())
