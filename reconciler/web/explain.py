"""`/explain/…`: why a queue and its workers are as they are."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from reconciler.explain import Known, explain, is_known, near
from reconciler.web.answers import ApiError, answer
from reconciler.web.context import Context, context_of
from reconciler.web.system import status_of


async def explain_queue(request: Request) -> Response:
    known = known_of(request.path_params["queue_name"], context_of(request))
    if not is_known(known):
        meant = " or ".join(near(known))
        raise ApiError(
            404,
            f"neither the file nor the broker nor the ledger knows a queue {known.name} "
            f"({f'did you mean {meant}?' if meant else 'reconciler status lists them'})",
        )
    return answer({"queue_name": known.name, "sentences": explain(known)})


def known_of(name: str, context: Context) -> Known:
    """What the last turn saw of the queue, with its workers as they are now. Raises ApiError 503 before the first."""
    status, turn = status_of(context), context.loop.last
    assert turn is not None
    now = time.time()
    return Known(
        name=name,
        desired=turn.reading.in_force.desired,
        broker=turn.broker,
        plan=turn.plan,
        status=status,
        now=now,
        owned=context.loop.ledger.owned(turn.broker.identity) if turn.broker else {},
        workers=context.workers(name),
        drifts=context.loop.drifts.of(name, now),
    )
