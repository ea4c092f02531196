"""The dashboard and the log viewer: two templates; everything in them comes from the endpoints."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from reconciler import __version__
from reconciler.web.answers import ApiError
from reconciler.web.context import context_of
from reconciler.web.logs import worker_of
from reconciler.web.views import worker_view

HERE = Path(__file__).parent
templates = Jinja2Templates(HERE / "templates")


async def dashboard(request: Request) -> Response:
    return templates.TemplateResponse(request, "dashboard.html", {"version": __version__})


async def viewer(request: Request) -> Response:
    context, pid = context_of(request), request.path_params["pid"]
    try:
        worker = worker_view(worker_of(request, context), context)
    except ApiError:
        worker = None
    values = {"version": __version__, "pid": pid, "worker": worker}
    return templates.TemplateResponse(request, "viewer.html", values, status_code=200 if worker else 404)
