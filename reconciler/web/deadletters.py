"""`/queue/dead-letters/…` and `/queue/redrive/…`: who has failed for good and why, and back to where they came from."""

from __future__ import annotations

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reconciler.deadletters import Order, Progress
from reconciler.deadletters.desk import MOST_LOOKED
from reconciler.deadletters.places import Place, place_of, waiting_for, why_not_look
from reconciler.deadletters.redrive import MOST_KEPT
from reconciler.web.answers import ApiError, answer, invalid, number_of, read_json, wait_of
from reconciler.web.context import Context, context_of
from state.desired import Desired
from state.observed import ObservedBroker

FIELDS = ("all", "message_ids", "rate", "dry_run")
MOST_IDS = 10_000
FASTEST = 1_000_000.0  # messages per second


async def dead_letters(request: Request) -> Response:
    context, name = context_of(request), request.path_params["queue_name"]
    most = number_of(request, "limit", MOST_LOOKED, 1, MOST_KEPT) or MOST_LOOKED
    place, broker = await meant(name, context)
    refuse_look(place, broker, context)
    found = await context.desk.look(place, most, stream=kind_of(place, broker, context) == "stream")
    waiting = {queue: await context.loop.broker.ready(queue) or 0 for queue in waiting_for(name, in_force(context))}
    return answer({"queue_name": name, "dead_letter": place.queue, **found, "waiting": waiting})


async def redrive(request: Request) -> Response:
    context, name, seconds = context_of(request), request.path_params["queue_name"], wait_of(request)
    body = await read_json(request)
    ids, rate, dry_run = ids_of(body), rate_of(body), flag_in(body, "dry_run")
    place, broker = await meant(name, context)
    if kind_of(place, broker, context) == "stream":
        raise ApiError(409, f"queue {place.queue} is a stream, and RabbitMQ takes nothing out of streams")
    if dry_run or ids is not None:  # all that is looked at and not moved is given back
        refuse_look(place, broker, context)
    progress = context.desk.redrive(Order(place, ids, rate, dry_run))
    return await run_of(name, progress, seconds, context)


async def redrive_so_far(request: Request) -> Response:
    """The run under way, or the one that ended last."""
    context, name, seconds = context_of(request), request.path_params["queue_name"], wait_of(request)
    place, _ = await meant(name, context)
    if (progress := context.desk.last_run(place.queue)) is None:
        raise ApiError(404, f"nothing was redriven from {place.queue} since this daemon started (POST starts it)")
    return await run_of(name, progress, seconds, context)


async def run_of(name: str, progress: Progress, seconds: float, context: Context) -> Response:
    done = await context.desk.ended(progress, seconds)
    if progress.error is not None:
        raise ApiError(503, f"{progress.error} (what was not moved is where it was)", **told(name, progress))
    return answer(
        {"message": in_words(progress, done), **told(name, progress), "converged": done}, 200 if done else 202
    )


def told(name: str, progress: Progress) -> dict[str, Any]:
    run = progress.as_json()
    kept = ("dry_run", "total", "moved", "left", "to", "why")
    return {"queue_name": name, "dead_letter": progress.order.place.queue} | {key: run[key] for key in kept}


def in_words(progress: Progress, done: bool) -> str:
    verb = "would be moved" if progress.order.dry_run else "moved"
    text = f"{progress.moved} of {progress.total} messages {verb}" + (
        f", {progress.left} left" if progress.left else ""
    )
    return text if done else f"{text} so far; it goes on (see redrives in /status)"


def in_force(context: Context) -> Desired:
    return context.loop.intake.in_force.desired


async def meant(name: str, context: Context) -> tuple[Place, ObservedBroker]:
    """The dead-letter queue that `name` stands for. Raises ApiError 404 and 409, BrokerUnreachable."""
    desired = in_force(context)
    names = {name, *desired.all_queues()} if 0 < len(name.encode(errors="replace")) <= 255 else desired.all_queues()
    broker = await context.loop.broker.observe(names)
    place = place_of(name, desired, broker.queues)
    if place is None and name in desired.queues:
        raise ApiError(409, f"queue {name} has no dead-letter queue (give it dead_letter or retry in queues.yaml)")
    if place is None or (place.queue not in broker.queues and place.queue not in desired.all_queues()):
        raise ApiError(404, f"there is no queue {name} (see /queue/list)")
    if place.queue not in broker.queues:
        raise ApiError(404, f"queue {place.queue} is not at the broker yet (the reconciler makes it; see /status)")
    return place, broker


def kind_of(place: Place, broker: ObservedBroker, context: Context) -> str | None:
    """Its type, as far as anybody knows."""
    wanted = in_force(context).all_queues().get(place.queue)
    return broker.queues[place.queue].type or (wanted.type if wanted else None)


def refuse_look(place: Place, broker: ObservedBroker, context: Context) -> None:
    if (why := why_not_look(place.queue, broker, kind_of(place, broker, context))) is not None:
        raise ApiError(409, why)


def ids_of(body: dict[str, Any]) -> frozenset[str] | None:
    """The ids asked for; None for all."""
    for key in body:
        if key not in FIELDS:
            raise invalid(key, f"unknown field (known are {', '.join(FIELDS)})")
    ids, everything = body.get("message_ids"), flag_in(body, "all")
    if (ids is not None) == everything:
        raise invalid("all" if everything else "message_ids", 'say either "all": true or which "message_ids"')
    if ids is None:
        return None
    if not isinstance(ids, list) or not ids or not all(isinstance(i, str) and i for i in ids):
        raise invalid("message_ids", 'this is a list of texts, such as ["order-7"] (see /queue/dead-letters)')
    if len(ids) > MOST_IDS:
        raise invalid("message_ids", f"these are {len(ids):,} (at most {MOST_IDS:,} at once)")
    return frozenset(ids)


def rate_of(body: dict[str, Any]) -> float | None:
    rate = body.get("rate")
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= FASTEST or math.isnan(rate):
        raise invalid("rate", "this is a number of messages per second, above 0")
    return float(rate)


def flag_in(body: dict[str, Any], key: str) -> bool:
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise invalid(key, "this is true or false")
    return bool(value)
