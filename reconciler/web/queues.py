"""`/queue/…`: list, create, clear, delete."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.diff import Properties, compare
from reconciler.errors import Temporary
from reconciler.machine import faults_here
from reconciler.turn import Turn
from reconciler.web.answers import ApiError, answer, flag_of, invalid, read_json, text_field, valid_text, wait_of
from reconciler.web.context import Context, Write, context_of, writes_file
from reconciler.web.edits import AlreadyThere, create_queue, no_such_queue, remove_queue, validated, zero_all
from reconciler.web.system import status_of
from reconciler.web.views import queue_view
from state.desired import NOTHING, Desired, Queue, check_name
from state.ledger import Owned
from state.observed import ObservedQueue
from state.processes import ObservedWorker
from state.retries import Implied, completed, dead_letter_of


async def list_queues(request: Request) -> Response:
    context = context_of(request)
    seen = await context.observe()
    names = sorted(seen.keys() | context.loop.intake.in_force.desired.all_queues().keys())
    if (asked := request.query_params.get("queue_names")) is not None:
        wanted = {asked, *(name.strip() for name in asked.split(",")), *asked.split(",")}
        names = [name for name in names if name in wanted]
    statuses = status_of(context)["queues"] if context.loop.last else {}
    workers: dict[str, list[ObservedWorker]] = {}
    for worker in context.workers():
        workers.setdefault(worker.pool.queue, []).append(worker)
    queues = [
        queue_view(n, seen.get(n), workers.get(n, []), statuses.get(n), context) | dead_letters_view(n, seen, context)
        for n in names
    ]
    return answer({"status": "success", "queue_count": len(queues), "queues": queues})


def dead_letters_view(name: str, seen: Mapping[str, ObservedQueue], context: Context) -> dict[str, Any]:
    """Where its failed messages go, and how many lie there, with those of others that go there too."""
    queue = context.loop.intake.in_force.desired.queues.get(name)
    if queue is None or (dead := dead_letter_of(name, queue)) is None:
        return {}
    return {"dead_letters": {"queue": dead, "messages": seen[dead].messages if dead in seen else 0}}


# -- create ------------------------------------------------------------------------------------------------------


@writes_file
async def create(request: Request) -> Response:
    context, seconds = context_of(request), wait_of(request)
    body = await read_json(request)
    name = text_field(body, "queue_name")
    properties = {key: value for key, value in body.items() if key != "queue_name"}
    await check_new_queue(name, properties, context)
    try:
        write = await context.write(create_queue(name, properties), request, may_create=may_create(context))
    except AlreadyThere:
        revision = (await asyncio.to_thread(context.file.snapshot)).revision
        write = Write(context, revision, context.file.writes)
        done = await write.converged(lambda turn: is_there(turn, revision) and is_well(turn, name), seconds)
        return answer(created(name, "is in the file already", revision, done))
    done = await write.converged(lambda turn: is_well(turn, name), seconds)
    text = "created" if done else "is in the file; the broker and the workers follow"
    return answer(created(name, text, write.revision, done), 201 if done else 202)


def created(name: str, text: str, revision: str, converged: bool) -> dict[str, Any]:
    return {"message": f"Queue {name} {text}", "queue_name": name, "revision": revision, "converged": converged}


def may_create(context: Context) -> bool:
    """A file is only started where none was lost: nothing is in force that an almost empty file would remove."""
    in_force = context.loop.intake.in_force
    is_lost = not in_force.data and context.loop.ledger.queue_names()  # and so is what was in force before
    return in_force.desired == NOTHING and not is_lost


def is_there(turn: Turn, revision: str) -> bool:
    """Is that in force? The turn before may be of an older file."""
    return turn.reading.in_force.revision == revision


def is_well(turn: Turn, name: str) -> bool:
    status = turn.status["queues"].get(name)
    return bool(status and status["synced"] and status["healthy"])


async def check_new_queue(name: str, properties: dict[str, Any], context: Context) -> None:
    """Refuses what could never be reached, before anything is written."""
    named(name)
    if not valid_text(json.dumps(properties, ensure_ascii=False)):
        raise invalid("", "a text in it is not valid Unicode (it holds half of a surrogate pair)")
    newest = await context.loop.intake.newest()
    queue = validated(properties, newest)
    asked = Desired(version=1, queues={name: queue})
    for path, fault in faults_here(asked).items():
        raise invalid(".".join(path[2:]), fault)
    faults = await context.modules.settled(asked)
    for pool, fault in faults.items():
        raise invalid(f"workers.{pool.worker}", fault)
    if name not in newest.queues and (seen := await seen_if_connected(name, context)) is not None:
        refuse_other_properties(name, queue, seen)


def named(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise invalid("queue_name", str(error)) from None


async def seen_if_connected(name: str, context: Context) -> ObservedQueue | None:
    turn = context.loop.last
    if turn is None or turn.broker is None:
        return None
    return (await context.observe()).get(name)


def refuse_other_properties(name: str, queue: Queue, seen: ObservedQueue) -> None:
    have = Properties.seen(seen)
    wanted = Properties.wanted(completed(name, queue), have.arguments) if have else None
    differences = list(compare(wanted, have)) if wanted and have else []
    if differences:
        raise ApiError(
            409,
            f"queue {name} is at the broker already with other properties: {'; '.join(map(str, differences))} "
            f"(ask for the same, or choose another name)",
        )


# -- clear -------------------------------------------------------------------------------------------------------


@writes_file
async def clear(request: Request) -> Response:
    context, name, seconds = context_of(request), request.path_params["queue_name"], wait_of(request)
    deadline = time.monotonic() + seconds
    refuse_stream(name, await context.loop.intake.newest())
    refuse_migrating(name, context)
    before = sum(w.running for w in context.workers(name))
    write = await context.write(zero_all(name), request)
    stopped = await write.converged(lambda _: not any(w.running for w in context.workers(name)), seconds)
    body = {
        "message": f"Queue {name} cleared",
        "queue_name": name,
        "messages_removed": 0,
        "workers_stopped": before - sum(w.running for w in context.workers(name)),
        "revision": write.revision,
        "converged": stopped,
    }
    if not stopped:
        text = f"Queue {name}: its workers are still finishing, so nothing was removed yet (clear it again then)"
        return answer(body | {"message": text}, 202)
    try:
        async with asyncio.timeout(max(5.0, deadline - time.monotonic())):
            body["messages_removed"] = await context.loop.broker.purge(name)
    except TimeoutError:
        raise Temporary(
            f"the broker did not say in time whether queue {name} was cleared; its workers are stopped (clear it again)"
        ) from None
    return answer(body)


def refuse_stream(name: str, desired: Desired) -> None:
    queue = desired.all_queues().get(name)
    if queue is not None and queue.type == "stream":
        raise ApiError(409, f"queue {name} is a stream, and RabbitMQ does not clear streams (delete it with force)")


# -- delete ------------------------------------------------------------------------------------------------------


@writes_file
async def delete(request: Request) -> Response:
    context, name, seconds = context_of(request), request.path_params["queue_name"], wait_of(request)
    force = flag_of(request, "force")
    desired = await context.loop.intake.newest()
    refuse_dead_letter_target(name, desired)
    refuse_protected(name, desired, context)
    refuse_migrating(name, context)
    if name in desired.queues:
        seen = await check_removable(name, desired.queues[name], force, context)
        foreign = seen is not None and not owned(name, context)  # as of now: a turn may delete what is ours meanwhile
        with context.loop.asked_to_delete(name, force):
            write = await context.write(remove_queue(name), request)
        if foreign:
            own(name, context)  # not before the file has taken the edit
    elif owned(name, context):  # it has left the file before, and is held
        await check_removable(name, Queue(), force, context)
        write = Write(context, context.loop.intake.in_force.revision, context.file.writes)
        context.loop.ledger.request(name, force)
    else:
        raise no_such_queue(name)
    done = await write.converged(lambda turn: is_gone(turn, name, context), seconds)
    text = "deleted" if done else f"has left the file; it goes as soon as it may{why_not_yet(name, context)}"
    body = {"message": f"Queue {name} {text}", "queue_name": name, "revision": write.revision, "converged": done}
    return answer(body, 200 if done else 202)


def refuse_migrating(name: str, context: Context) -> None:
    if name in context.migrating():
        raise ApiError(409, f"queue {name} is being migrated (try again when that is done: see GET /status)")


def refuse_protected(name: str, desired: Desired, context: Context) -> None:
    """Neither force nor anything else: the flag goes first, and that is in force before the entry goes."""
    listed = desired.queues.get(name)
    ours = [held.queues[name] for held in context.loop.ledger.brokers.values() if name in held.queues]
    if (listed and listed.protect) or any(owned.protect for owned in ours):
        way_out = "take protect: true out of the file first, and let that come into force"
        raise ApiError(409, f"queue {name} is protected ({way_out})")


def refuse_dead_letter_target(name: str, desired: Desired) -> None:
    users = [n for n, queue in desired.queues.items() if dead_letter_of(n, queue) == name]
    if users:
        raise ApiError(409, f"queue {name} is the dead-letter queue of {users[0]} (change dead_letter there first)")
    if isinstance(queue := desired.all_queues().get(name), Implied):
        raise ApiError(409, f"queue {name} is there for the retry of {queue.of} (change retry there)")


async def check_removable(name: str, queue: Queue, force: bool, context: Context) -> ObservedQueue | None:
    """Refuses what would not be deleted, before the file is changed. What was seen of it. Raises BrokerUnreachable."""
    if force and not context.loop.broker.connected:
        return None
    seen = await context.loop.broker.count(name)
    if seen is None or force:
        return seen
    if seen.messages and queue.on_remove != "delete":
        raise ApiError(
            409,
            f"queue {name} holds {seen.messages} messages (drain or clear it first, or say ?force=true to lose them)",
            messages=seen.messages,
        )
    if seen.unacknowledged is None and queue.on_remove != "delete":
        raise ApiError(
            409,
            f"without the management API nobody can see whether messages of queue {name} are in flight "
            f"(set MANAGEMENT_URL, or say ?force=true to lose them if there are any)",
        )
    if not owned(name, context):
        raise ApiError(
            409,
            f"queue {name} was there before it was in queues.yaml, so it is not ours to delete "
            f"(take it out of the file to leave it alone, or say ?force=true)",
        )
    return seen


def owned(name: str, context: Context) -> bool:
    turn = context.loop.last
    return bool(turn and turn.broker and name in context.loop.ledger.owned(turn.broker.identity))


def own(name: str, context: Context) -> None:
    """A deletion with force is also the word that a queue which was there before is ours to delete."""
    turn = context.loop.last
    if turn is not None and turn.broker is not None:
        context.loop.ledger.claim(turn.broker.identity, {name: Owned()})


def is_gone(turn: Turn, name: str, context: Context) -> bool:
    return (
        turn.broker is not None and name not in turn.queues and not context.workers(name) and not owned(name, context)
    )


def why_not_yet(name: str, context: Context) -> str:
    turn = context.loop.last
    held = next((h.reason for h in turn.plan.held if h.queue == name), None) if turn else None
    return f" ({held})" if held else ""
