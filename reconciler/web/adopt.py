"""`/queue/adopt/…`, `/exchange/adopt/…`, `/policy/adopt/…` and `/adopt`: ownership of what was there before."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reconciler.adoption import Adoptable, Adoption, adoption, all_adoptable
from reconciler.web.answers import answer, invalid, read_json
from reconciler.web.context import Context, context_of
from state.observed import ObservedBroker


async def queue(request: Request) -> Response:
    return await adopt("queue", request)


async def exchange(request: Request) -> Response:
    return await adopt("exchange", request)


async def policy(request: Request) -> Response:
    return await adopt("policy", request)


async def adopt(kind: Adoptable, request: Request) -> Response:
    context, name = context_of(request), request.path_params[f"{kind}_name"]
    await takes_nothing(request)
    broker = await observed(context)
    found = await take(kind, name, broker, context)
    return answer({"message": found.message, f"{kind}_name": name, "adopted": bool(found.new)})


async def everything(request: Request) -> Response:
    """All that the file lists and the broker has."""
    context = context_of(request)
    await takes_nothing(request)
    broker, desired = await observed(context), context.loop.intake.in_force.desired
    todo = all_adoptable(desired, broker, context.loop.ledger.holdings(broker.identity))
    messages = [(await take(kind, name, broker, context)).message for kind, name in todo]
    return answer({"message": f"{len(messages)} adopted", "adopted": len(messages), "messages": messages})


async def takes_nothing(request: Request) -> None:
    for key in await read_json(request, optional=True):
        raise invalid(key, "unknown field (this takes none)")


async def observed(context: Context) -> ObservedBroker:
    """The broker as it is now. Raises BrokerUnreachable."""
    return await context.loop.see(context.loop.intake.in_force.desired)


async def take(kind: Adoptable, name: str, broker: ObservedBroker, context: Context) -> Adoption:
    """Writes it into the ledger. Raises NotListed, Refused, WriteFailed."""
    ledger = context.loop.ledger
    desired = await context.loop.intake.newest()
    found = adoption(kind, name, desired, broker, ledger.holdings(broker.identity))
    if found.new:
        ledger.claim_all(broker.identity, found.new)
        context.events.tell("action", found.message, **({"queue": name} if kind == "queue" else {}))
        context.loop.wake("api")
    return found
