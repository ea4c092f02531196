"""The Starlette app: routes, errors, and what guards them."""

from __future__ import annotations

from email.utils import formatdate
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.web import (
    adopt,
    deadletters,
    explain,
    forget,
    history,
    hooks,
    logs,
    metrics,
    pages,
    pauses,
    publish,
    queues,
    restarts,
    system,
    workers,
)
from reconciler.web.answers import ERRORS, answer, on_error
from reconciler.web.context import Context

# Names may hold slashes: `path` takes what was %2F as part of the name.
ROUTES = [
    Route("/", pages.dashboard),
    Route("/queue/create", queues.create, methods=["POST"]),
    Route("/queue/list", queues.list_queues),
    Route("/queue/publish/{queue_name:path}", publish.publish, methods=["POST"]),
    Route("/queue/clear/{queue_name:path}", queues.clear, methods=["POST"]),
    Route("/queue/pause/{queue_name:path}", pauses.pause, methods=["POST"]),
    Route("/queue/resume/{queue_name:path}", pauses.resume, methods=["POST"]),
    Route("/queue/forget/{queue_name:path}", forget.forget, methods=["POST"]),
    Route("/queue/adopt/{queue_name:path}", adopt.queue, methods=["POST"]),
    Route("/exchange/adopt/{exchange_name:path}", adopt.exchange, methods=["POST"]),
    Route("/policy/adopt/{policy_name:path}", adopt.policy, methods=["POST"]),
    Route("/adopt", adopt.everything, methods=["POST"]),
    Route("/queue/dead-letters/{queue_name:path}", deadletters.dead_letters),
    Route("/queue/redrive/{queue_name:path}", deadletters.redrive, methods=["POST"]),
    Route("/queue/redrive/{queue_name:path}", deadletters.redrive_so_far),
    Route("/queue/delete/{queue_name:path}", queues.delete, methods=["DELETE"]),
    Route("/worker/scale/{queue_name:path}", workers.scale, methods=["POST"]),
    Route("/worker/restart/{queue_name:path}", restarts.restart, methods=["POST"]),
    Route("/worker/list", workers.list_workers),
    Route("/worker/workers", workers.workers_with_logs, methods=["POST"]),
    Route("/worker/{queue_name:path}", workers.workers_of_queue),
    Route("/logs/workers/logs/{pid}", logs.page),
    Route("/logs/workers/stream_logs/{pid}", logs.follow),
    Route("/logs/workers/raw/{pid}", logs.raw),
    Route("/logs/search", logs.search),
    Route("/logs/workers/view-logs/{pid}", pages.viewer),
    Route("/workers/view-logs/{pid}", pages.viewer),
    Route("/status", system.status),
    Route("/plan", system.plan),
    Route("/explain/{queue_name:path}", explain.explain_queue),
    Route("/sync", system.sync, methods=["POST"]),
    Route("/history", history.history),
    Route("/history/{revision}", history.text),
    Route("/history/{revision}/diff", history.diff),
    Route("/rollback/{revision}", history.rollback, methods=["POST"]),
    Route("/hooks/git", hooks.git, methods=["POST"]),
    Route("/events", system.events),
    Route("/healthz", system.healthz),
    Route("/readyz", system.readyz),
    Route("/metrics", metrics.metrics),
    Route("/openapi.json", system.openapi),
    Mount("/static", StaticFiles(directory=pages.HERE / "static")),
]

SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(context: Context) -> Starlette:
    handlers = dict.fromkeys(ERRORS, on_error)
    app = Starlette(routes=ROUTES, middleware=[Middleware(Guard)], exception_handlers=handlers)
    app.router.redirect_slashes = False
    app.state.context = context
    return app


class Guard:
    """Keeps other web sites from writing through a visitor's browser, and pages from being framed or sniffed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] not in SAFE and is_foreign(Headers(scope=scope)):
            refusal = answer({"error": "a page of another site may not write here (use this server's own page)"}, 403)
            await refusal(scope, receive, send)
        else:
            # Modules import each other without a version: after an upgrade a browser must not mix old and new.
            fresh = {"Cache-Control": "no-cache"} if scope["path"].startswith("/static/") else {}
            await self.app(scope, receive, with_headers(send, HEADERS | fresh | {"Date": formatdate(usegmt=True)}))


def is_foreign(headers: Headers) -> bool:
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host")
    except ValueError:  # no browser sends what is no URL
        return True


def with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
