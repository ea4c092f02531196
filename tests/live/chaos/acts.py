"""What may happen to a site. Each act is one function: it does it, and says what it did, or why it could not."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import httpx

from tests.live.chaos.workers import record
from tests.live.chaos.world import MOST, World

Act = Callable[[World], str]


class Skipped(Exception):
    """This cannot be done here and now; says why."""


def kill(pid: int) -> None:
    """It may end by itself in the moment between the look and this."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        raise Skipped(f"process {pid} has just ended") from None


def kills_a_worker(world: World) -> str:
    alive = world.alive()
    if not alive:
        raise Skipped("no worker is alive")
    one = world.rng.choice(alive)
    kill(one.pid)
    return f"kill -9 of worker {one.pool}[{one.slot}], pid {one.pid}"


def kills_the_zygote(world: World) -> str:
    zygotes = world.zygotes()
    if not zygotes:
        raise Skipped("there is no zygote")
    pid = world.rng.choice(zygotes)
    kill(pid)
    return f"kill -9 of the zygote, pid {pid}"


def kills_the_daemon(world: World) -> str:
    """The service manager starts it again after a moment."""
    pid = world.daemon()
    if pid is None or "daemon" in world.away:
        raise Skipped("the daemon does not run")
    world.away.add("daemon")
    world.site.kill()
    world.later(world.rng.uniform(0, 2), "the daemon is there again", world.start_daemon)
    return f"kill -9 of the daemon, pid {pid}"


def kills_the_broker(world: World) -> str:
    """It comes back with all that it had confirmed."""
    if "broker" in world.away:
        raise Skipped("the broker is away")
    world.away.add("broker")
    world.node.kill()

    def back() -> None:
        world.node.start()
        world.away.discard("broker")

    world.later(world.rng.uniform(0, 3), "the broker is there again", back)
    return "kill -9 of the broker"


def scales_by_file(world: World) -> str:
    pool, count = world.rng.choice(sorted(world.counts())), world.rng.randint(1, MOST)
    world.edit({pool: count})
    return f"the file says {pool}: {count}"


def scales_by_rest(world: World) -> str:
    """No answer, and one that says why not, are fine: what counts is the file afterwards."""
    queue, worker = world.rng.choice(sorted(world.counts())).split("/")
    body = {"worker_name": worker, "count": world.rng.randint(1, MOST)}
    try:
        answer = world.site.post(f"/worker/scale/{queue}", body, wait=0)
    except (httpx.HTTPError, OSError) as error:
        return f"scaling {queue}/{worker} to {body['count']} by REST: {type(error).__name__}"
    assert answer.status_code < 500 or answer.status_code in (503, 507), answer.text
    return f"scaling {queue}/{worker} to {body['count']} by REST: {answer.status_code}"


def edits_the_code(world: World) -> str:
    world.version += 1
    world.site.worker("record", record(world.version))
    return f"workers/record.py is version {world.version}"


def pauses(world: World) -> str:
    queue = world.rng.choice(("work", "ledger", "side"))
    world.edit(pause=queue)
    world.later(world.rng.uniform(1, 5), f"{queue} goes on", lambda: world.edit(resume=queue))
    return f"{queue} is paused"


def fills_the_disk(world: World) -> str:
    if not world.disk.there:
        raise Skipped(f"no small disk can be mounted here: {world.disk.why_not}")
    if "disk" in world.away:
        raise Skipped("the disk is full")
    world.away.add("disk")
    began = time.time()
    world.disk.fill()

    def empty() -> None:
        world.disk.empty()
        world.full.append((began, time.time()))
        world.away.discard("disk")

    world.later(world.rng.uniform(1, 4), "the disk has room again", empty)
    return "the disk with the state folder is full"


# How often each happens, beside the once that each is sure to.
WEIGHTS: dict[Act, int] = {
    kills_a_worker: 8,
    kills_the_zygote: 2,
    kills_the_daemon: 2,
    kills_the_broker: 1,
    scales_by_file: 4,
    scales_by_rest: 4,
    edits_the_code: 2,
    pauses: 2,
    fills_the_disk: 1,
}


def schedule(seed: int, seconds: float, every: float) -> list[tuple[float, Act]]:
    """What happens when, in seconds from the start. Each act at least once; the daemon is killed in the first half
    only, so that the one that is measured at the end has lived through the second.
    """
    rng = random.Random(seed)
    number = max(int(seconds / every), 2 * len(WEIGHTS))
    acts = [*WEIGHTS, *rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=number - len(WEIGHTS))]
    rng.shuffle(acts)
    early = [act for act in acts if act is kills_the_daemon]
    late = [act for act in acts if act is not kills_the_daemon]
    for act in early:
        late.insert(rng.randrange(max(1, number // 2 - len(early))), act)
    gap = seconds / number
    return [(gap * (place + rng.random()), act) for place, act in enumerate(late)]
