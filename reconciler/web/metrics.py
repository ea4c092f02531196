"""`/metrics`: everything as Prometheus reads it."""

from __future__ import annotations

import asyncio

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response

from reconciler.web.context import context_of


async def metrics(request: Request) -> Response:
    context = context_of(request)
    moment = context.metrics.look(context.loop.last, context.workers(), context.usage.reading)
    text = await asyncio.to_thread(context.metrics.text, moment)  # for 200 workers it takes a while to write
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
