"""`/queue/forget/…`: the ownership of a queue is given up, and the queue stays at the broker as it is."""

from __future__ import annotations

from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response

from reconciler.turn import Turn
from reconciler.web.answers import ApiError, answer, invalid, read_json, wait_of
from reconciler.web.context import Context, Write, context_of, writes_file
from reconciler.web.edits import no_such_queue, remove_queue
from reconciler.web.queues import refuse_migrating, refuse_protected
from state.desired import Desired
from state.ledger import Holdings, Owned
from state.observed import binding_of
from state.retries import all_implied
from state.topology import OUR_POLICIES


@writes_file
async def forget(request: Request) -> Response:
    """The ledger forgets it before the file does: in between it is not ours, so that no turn deletes it."""
    context, name, seconds = context_of(request), request.path_params["queue_name"], wait_of(request)
    for key in await read_json(request, optional=True):
        raise invalid(key, "unknown field (this takes none)")
    desired = await context.loop.intake.newest()
    if name not in desired.queues and name not in context.loop.ledger.queue_names():
        raise no_such_queue(name)
    refuse_protected(name, desired, context)
    refuse_implied(name, desired)
    refuse_migrating(name, context)
    write = await given_up(name, desired, request)
    done = await write.converged(lambda turn: is_forgotten(turn, name, context), seconds)
    context.events.tell("action", f"queue {name} is not ours any more", queue=name)
    text = "is not ours any more; it stays at the broker as it is"
    body = {"message": f"Queue {name} {text}", "queue_name": name, "revision": write.revision, "converged": done}
    return answer(body, 200 if done else 202)


async def given_up(name: str, desired: Desired, request: Request) -> Write:
    """What the ledger forgets is remembered again if the file does not take the edit."""
    context = context_of(request)
    ledger, before = context.loop.ledger, of_queue(name, desired, context)
    try:
        release(before, name, context)
        if name not in desired.queues:
            return Write(context, context.loop.intake.in_force.revision, context.file.writes)
        return await context.write(remove_queue(name), request)
    except BaseException:  # also when the daemon stops amid it
        with suppress(OSError):  # a turn tries again to put it on disk
            for broker, held in before.items():
                ledger.claim_all(broker, held)
        raise


def of_queue(name: str, desired: Desired, context: Context) -> dict[str, Holdings]:
    """What is ours of it at each broker: with its bindings and the policy of its own keys, which are to stay, too; and
    with what it rejects to, unless another queue does, too."""
    others = desired.queues.keys() | all_implied({n: q for n, q in desired.queues.items() if n != name})
    found = {}
    for broker, held in context.loop.ledger.brokers.items():
        stay = {n for n, owned in held.queues.items() if stays_with(owned, n, name) and n not in others}
        queues = {n: held.queues[n] for n in {name, *stay} & held.queues.keys()}
        bindings = {key for key in held.bindings if binding_of(key).destination == name}
        found[broker] = Holdings(queues, {}, bindings, held.policies & {OUR_POLICIES + name})
    return found


def stays_with(owned: Owned, implied: str, name: str) -> bool:
    """It would reject into nowhere otherwise. Its delay queues go once they are empty."""
    return owned.of == name and not implied.startswith(f"{name}.retry.")


def release(held: dict[str, Holdings], name: str, context: Context) -> None:
    for broker, all_of_it in held.items():
        context.loop.ledger.release_all(broker, all_of_it)
    context.loop.ledger.drop_requests({name})


def refuse_implied(name: str, desired: Desired) -> None:
    users = [user for user, queue in desired.queues.items() if queue.dead_letter == name]
    if users and name not in desired.queues:
        raise ApiError(409, f"queue {name} is the dead-letter queue of {users[0]} (change dead_letter there first)")


def is_forgotten(turn: Turn, name: str, context: Context) -> bool:
    return name not in turn.reading.in_force.desired.queues and not context.workers(name)
