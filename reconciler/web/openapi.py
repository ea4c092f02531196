"""`/openapi.json`: every endpoint, with what it takes and answers. The queue's schema is the file's own."""

from __future__ import annotations

from functools import cache
from typing import Any

from reconciler import __version__
from state.desired import MAX_COUNT, Queue
from state.history import KEPT, RESULTS
from state.processes import WorkerState

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
MAYBE: Schema = {"type": ["string", "null"]}
ANY: Schema = {}
ERROR_TEXTS = {
    400: "malformed",
    401: "not signed",
    403: "the signature is wrong",
    404: "no such queue, worker or pid",
    409: "it conflicts with the file or the broker",
    412: "the file is at none of the revisions in If-Match",
    413: "the body is too large",
    422: "valid JSON that breaks the schema",
    503: "the broker cannot be reached or takes nothing now",
    507: "the disk is full",
}


@cache
def document() -> Schema:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "queue-reconciler",
            "version": __version__,
            "description": "Writes change queues.yaml; the reconciler then makes RabbitMQ and the workers equal to it.",
        },
        "paths": paths(),
        "components": {"schemas": schemas()},
    }


def schemas() -> Schema:
    queue = Queue.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = queue.pop("$defs", {})
    create = {**queue, "properties": {"queue_name": TEXT, **queue["properties"]}, "required": ["queue_name"]}
    error = {"type": "object", "properties": {"error": TEXT, "details": {"type": "array"}}, "required": ["error"]}
    return {**inner, "Queue": queue, "QueueCreate": create, "Error": error, "WorkerProcess": worker()}


def worker() -> Schema:
    maybe_text, maybe_number = {"type": ["string", "null"]}, {"type": ["number", "null"]}
    return fields(
        pid={"type": ["integer", "null"]},
        worker_name=TEXT,
        queue_name=TEXT,
        slot=NUMBER,
        state={"enum": list(WorkerState)},
        started_at=maybe_text,
        restarts=NUMBER,
        consumer_tag=maybe_text,
        processed=NUMBER,
        failed=NUMBER,
        rss_bytes=maybe_number,
        cpu_percent=maybe_number,
        log_url=maybe_text,
        view_url=maybe_text,
    )


def fields(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def paths() -> Schema:
    return {**queue_paths(), **worker_paths(), **log_paths(), **history_paths(), **system_paths()}


def queue_paths() -> Schema:
    message = fields(message=ANY, headers={"type": "object"}, priority=NUMBER, expiration=EXPIRATION)
    message["required"] = ["message"]
    names = query("queue_names", TEXT, "only these: a,b")
    force = query("force", {"type": "boolean"}, "even with messages in it")
    create, name = ref("QueueCreate"), "{queue_name}"
    return {
        "/queue/create": post("Add a queue to the file", [WAIT, IF_MATCH], create, DONE, 201, 200, 202),
        "/queue/list": get("The queues of the virtual host", [names], fields(queues={"type": "array"}), 503),
        f"/queue/publish/{name}": post("Publish; answered once confirmed", [QUEUE], message, DONE, 200),
        f"/queue/clear/{name}": post("Stop its workers and purge it", [QUEUE, WAIT, IF_MATCH], None, DONE, 200, 202),
        f"/queue/pause/{name}": post(
            "Let its workers drain and stand still", [QUEUE, WAIT, IF_MATCH], PAUSE, DONE, 200, 202, required=False
        ),
        f"/queue/forget/{name}": post(
            "Give up its ownership, and leave it at the broker", [QUEUE, WAIT, IF_MATCH], None, DONE, 200, 202
        ),
        f"/queue/adopt/{name}": post("Make ours a queue that was there before", [QUEUE], None, ADOPTED, 200),
        "/exchange/adopt/{exchange_name}": post(
            "… an exchange", [path_parameter("exchange_name", TEXT)], None, ADOPTED, 200
        ),
        "/policy/adopt/{policy_name}": post("… a policy", [path_parameter("policy_name", TEXT)], None, ADOPTED, 200),
        "/adopt": post("… all that the file lists and the broker has", [], None, fields(adopted=NUMBER), 200),
        f"/queue/resume/{name}": post("End its pause", [QUEUE, WAIT, IF_MATCH], None, DONE, 200, 202),
        f"/queue/dead-letters/{name}": get(
            "What has failed for good, by reason, exception and worker", [QUEUE, LOOK], LETTERS, 400, 404, 409, 503
        ),
        f"/queue/redrive/{name}": {
            **post("Move dead letters back to where they failed", [QUEUE, WAIT], REDRIVE, RUN, 200, 202),
            "get": operation("How far the last redrive is", [QUEUE, WAIT], RUN, (200, 202), (400, 404, 409, 503)),
        },
        f"/queue/delete/{name}": {
            "delete": operation(
                "Take a queue out of the file and delete it",
                [QUEUE, WAIT, IF_MATCH, force],
                DONE,
                (200, 202),
                (400, 404, 409, 503, 507),
            )
        },
    }


def worker_paths() -> Schema:
    scale = fields(count={"type": "integer", "minimum": 0, "maximum": MAX_COUNT}, worker_name=TEXT)
    scale["required"] = ["count"]
    which = fields(worker_name=TEXT, pid=NUMBER)
    named = fields(queue_name=TEXT)
    named["required"] = ["queue_name"]
    workers = fields(worker_count=NUMBER, workers={"type": "array", "items": ref("WorkerProcess")})
    only = query("worker_name", TEXT, "only this worker")
    of_queue = query("queue_name", TEXT, "only of this queue")
    state = query("state", {"enum": list(WorkerState)}, "only in this state")
    return {
        "/worker/scale/{queue_name}": post(
            "Set a number of workers", [QUEUE, WAIT, IF_MATCH], scale, workers, 200, 202
        ),
        "/worker/restart/{queue_name}": post(
            "Replace processes, step by step", [QUEUE, WAIT], which, DONE, 200, 202, required=False
        ),
        "/worker/{queue_name}": get("The workers of a queue", [QUEUE, only], workers, 404),
        "/worker/list": get("All workers", [of_queue, only, state], workers, 400),
        "/worker/workers": post("The workers of a queue, with their logs", [], named, workers, 200),
    }


def log_paths() -> Schema:
    pid = path_parameter("pid", NUMBER)
    levels = {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]}
    kept = [query("q", TEXT, "only lines with this text"), query("level", levels, "only lines at least as serious")]
    lines = query("lines", {"type": "integer", "minimum": 1, "maximum": 10000}, "how many, the newest")
    before = query("before", NUMBER, "only lines that end at this byte offset or before")
    when = "ISO 8601, seconds since 1970, or 15m for that ago"
    chosen = [
        query("queue_name", TEXT, "only of this queue"),
        query("worker_name", TEXT, "only of this worker"),
        query("slot", NUMBER, "only of this slot, across its restarts"),
        query("pid", NUMBER, "only of this process"),
        query("since", TEXT, f"only lines from then on: {when}"),
        query("until", TEXT, f"only lines until then: {when}"),
    ]
    merged = fields(lines={"type": "array"}, partial={"type": "boolean"}, workers=NUMBER)
    return {
        "/logs/search": get("Lines of many logs, merged by time", [*chosen, lines, *kept], merged, 400, 404),
        "/logs/workers/logs/{pid}": get("Lines of a log", [pid, lines, before, *kept], fields(lines=ANY), 400, 404),
        "/logs/workers/stream_logs/{pid}": stream("A log as it grows", [pid, *kept], 400, 404),
        "/logs/workers/raw/{pid}": page("The whole log", [pid], "text/plain", 404),
        "/workers/view-logs/{pid}": page("The log viewer", [pid], "text/html", 404),
        "/logs/workers/view-logs/{pid}": page("The log viewer", [pid], "text/html", 404),
    }


def history_paths() -> Schema:
    revision = path_parameter("revision", {**TEXT, "description": "or at least its first 4 characters"})
    limit = query("limit", {"type": "integer", "minimum": 1, "maximum": KEPT}, "how many, the newest")
    entry = fields(revision=TEXT, at=TEXT, by=MAYBE, via=TEXT, text=TEXT, result={"enum": list(RESULTS)}, commit=MAYBE)
    listed = fields(in_force=TEXT, revisions={"type": "array", "items": entry}, error=MAYBE)
    done = fields(message=TEXT, revision=TEXT, unchanged={"type": "boolean"}, converged={"type": "boolean"})
    hook = post("A forge tells that somebody has pushed", [], {"type": "object"}, fields(message=TEXT), 202)
    hook["post"]["responses"] |= {str(code): said(ERROR_TEXTS[code], ref("Error")) for code in (401, 403)}
    return {
        "/history": get("What was in force, the newest first", [limit], listed, 400),
        "/history/{revision}": page("What the file said", [revision], "application/yaml", 404, 409),
        "/history/{revision}/diff": page(
            "What changed from it to another",
            [revision, query("to", TEXT, "the other revision; what is in force by default")],
            "text/x-diff",
            404,
            409,
            413,
        ),
        "/rollback/{revision}": post(
            "Write an old revision into the file", [revision, WAIT, IF_MATCH], fields(), done, 200, 202, required=False
        ),
        "/hooks/git": hook,
    }


def system_paths() -> Schema:
    well = fields(synced={"type": "boolean"}, healthy={"type": "boolean"})
    said_ok = fields(status=TEXT)
    return {
        "/": page("The dashboard", [], "text/html"),
        "/status": get("Where things stand", [], well, 503),
        "/plan": get("What the next reconciliation would do, and what it costs", [], PLAN, 503),
        "/explain/{queue_name}": get("Why a queue and its workers are as they are", [QUEUE], WHY, 404, 503),
        "/sync": post(
            "Reconcile now",
            [WAIT],
            fields(confirm={**TEXT, "description": "a plan's digest, or a revision"}),
            well,
            200,
            required=False,
        ),
        "/events": stream("What happens, as it happens", []),
        "/healthz": get("Is the daemon alive?", [], said_ok),
        "/readyz": get("Has the first reconciliation ended?", [], said_ok, 503),
        "/metrics": page("The numbers, as Prometheus reads them", [], "text/plain"),
        "/openapi.json": get("This document", [], {"type": "object"}),
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def path_parameter(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def named(name: str) -> Schema:
    return path_parameter(name, TEXT)


def query(name: str, schema: Schema, text: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}


def get(summary: str, parameters: list[Schema], result: Schema, *errors: int) -> Schema:
    return {"get": operation(summary, parameters, result, (200,), errors)}


def post(
    summary: str, parameters: list[Schema], body: Schema | None, result: Schema, *good: int, required: bool = True
) -> Schema:
    made = operation(summary, parameters, result, good, (400, 404, 409, 413, 422, 503, 507))
    if body is not None:
        made["requestBody"] = {"required": required, "content": {"application/json": {"schema": body}}}
    return {"post": made}


def stream(summary: str, parameters: list[Schema], *errors: int) -> Schema:
    last = {"name": "Last-Event-ID", "in": "header", "required": False, "schema": TEXT}
    return page(summary, [*parameters, last], "text/event-stream", *errors)


def page(summary: str, parameters: list[Schema], media: str, *errors: int) -> Schema:
    made = operation(summary, parameters, TEXT, (200,), errors)
    made["responses"]["200"]["content"] = {media: {"schema": TEXT}}
    return {"get": made}


def operation(
    summary: str, parameters: list[Schema], result: Schema, good: tuple[int, ...], errors: tuple[int, ...]
) -> Schema:
    answers: Schema = {str(code): said("as asked", result) for code in good}
    if IF_MATCH in parameters:
        errors = (*errors, 412)
    answers |= {str(code): said(ERROR_TEXTS[code], ref("Error")) for code in sorted(errors)}
    return {"summary": summary, "parameters": parameters, "responses": answers}


def said(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


QUEUE = path_parameter("queue_name", TEXT)
WAIT = query("wait", {"type": "number", "minimum": 0}, "seconds to wait for the state to be reached")
IF_MATCH: Schema = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": TEXT,
    "description": 'only if the file is at this revision: "REVISION", several with commas, or *',
}
DONE = fields(message=TEXT, queue_name=TEXT, revision=TEXT, converged={"type": "boolean"})
PAUSE = fields(reason=TEXT, until={**TEXT, "description": "such as 2026-12-01T09:00Z; it ends by itself then"})
PLAN = fields(revision=TEXT, digest=TEXT, actions={"type": "array"}, summary={"type": "object"})
ADOPTED = fields(message=TEXT, adopted={"type": "boolean"})
WHY = fields(queue_name=TEXT, sentences={"type": "array", "items": TEXT})
LOOK = query("limit", {"type": "integer", "minimum": 1, "maximum": 50000}, "look at so many messages at most")
LETTERS = fields(
    queue_name=TEXT,
    dead_letter=TEXT,
    groups={"type": "array", "items": {"type": "object"}},
    count=NUMBER,
    counted=NUMBER,
    of=NUMBER,
    waiting={"type": "object"},
)
REDRIVE = fields(
    all={"type": "boolean"},
    message_ids={"type": "array", "items": TEXT},
    rate={"type": "number", "description": "messages per second"},
    dry_run={"type": "boolean"},
)
RUN = fields(
    queue_name=TEXT,
    dead_letter=TEXT,
    moved=NUMBER,
    left=NUMBER,
    why={"type": "array", "items": {"type": "object"}},
    total=NUMBER,
    to={"type": "object"},
    converged={"type": "boolean"},
)
EXPIRATION: Schema = {"type": ["integer", "string"]}
