"""`/openapi.json`: every endpoint, with what it takes and answers. The queue's schema is the file's own."""

from __future__ import annotations

from functools import cache
from typing import Any

from reconciler import __version__
from state.desired import MAX_COUNT, Queue
from state.processes import WorkerState

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
ANY: Schema = {}
ERROR_TEXTS = {
    400: "malformed",
    404: "no such queue, worker or pid",
    409: "it conflicts with the file or the broker",
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
    queue, pid = path_parameter("queue_name", TEXT), path_parameter("pid", NUMBER)
    wait = query("wait", {"type": "number", "minimum": 0}, "seconds to wait for the state to be reached")
    only = query("worker_name", TEXT, "only this worker")
    log_filter = [
        query("q", TEXT, "only lines that hold this text"),
        query("level", {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]}, "only lines at least this serious"),
    ]
    create = ref("QueueCreate")
    scale = fields(count={"type": "integer", "minimum": 0, "maximum": MAX_COUNT}, worker_name=TEXT)
    message = fields(
        message=ANY, headers={"type": "object"}, priority=NUMBER, expiration={"type": ["integer", "string"]}
    )
    message["required"] = ["message"]
    named = fields(queue_name=TEXT)
    named["required"] = ["queue_name"]
    workers = fields(worker_count=NUMBER, workers={"type": "array", "items": ref("WorkerProcess")})
    done = fields(message=TEXT, queue_name=TEXT, revision=TEXT, converged={"type": "boolean"})
    lines = query("lines", {"type": "integer", "minimum": 1, "maximum": 10000}, "how many, the newest")
    before = query("before", NUMBER, "only lines that end at this byte offset or before")
    return {
        "/queue/create": post("Add a queue to the file", [wait], create, done, 201, 200, 202),
        "/queue/list": get("The queues of the virtual host", [query("queue_names", TEXT, "a,b")], fields(queues=ANY), 503),
        "/queue/publish/{queue_name}": post("Publish, answered once the broker confirmed", [queue], message, done, 200),
        "/queue/clear/{queue_name}": post("Stop its workers and purge it", [queue, wait], None, done, 200, 202),
        "/queue/delete/{queue_name}": {
            "delete": operation(
                "Take a queue out of the file and delete it",
                [queue, wait, query("force", {"type": "boolean"}, "even with messages in it")],
                done,
                (200, 202),
                (400, 404, 409, 503, 507),
            )
        },
        "/worker/scale/{queue_name}": post("Set a number of workers in the file", [queue, wait], scale, workers, 200, 202),
        "/worker/{queue_name}": get("The workers of a queue", [queue, only], workers, 404),
        "/worker/list": get(
            "All workers",
            [query("queue_name", TEXT, "only of this queue"), only, query("state", {"enum": list(WorkerState)}, "only in it")],
            workers,
            400,
        ),
        "/worker/workers": post("The workers of a queue, with their logs", [], named, workers, 200),
        "/logs/workers/logs/{pid}": get("Lines of a log", [pid, lines, before, *log_filter], fields(lines=ANY), 400, 404),
        "/logs/workers/stream_logs/{pid}": stream("A log as it grows", [pid, *log_filter], 400, 404),
        "/logs/workers/raw/{pid}": page("The whole log", [pid], "text/plain", 404),
        "/workers/view-logs/{pid}": page("The log viewer", [pid], "text/html", 404),
        "/logs/workers/view-logs/{pid}": page("The log viewer", [pid], "text/html", 404),
        "/": page("The dashboard", [], "text/html"),
        "/status": get("Where things stand", [], fields(synced={"type": "boolean"}, healthy={"type": "boolean"}), 503),
        "/plan": get("What the next reconciliation would do", [], fields(actions={"type": "array"}), 503),
        "/sync": post("Reconcile now", [wait], fields(confirm=TEXT), fields(synced={"type": "boolean"}), 200, required=False),
        "/events": stream("What happens, as it happens", []),
        "/healthz": get("Is the daemon alive?", [], fields(status=TEXT)),
        "/readyz": get("Has the first reconciliation ended?", [], fields(status=TEXT), 503),
        "/openapi.json": get("This document", [], {"type": "object"}),
    }  # fmt: skip


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def path_parameter(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


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
    answers |= {str(code): said(ERROR_TEXTS[code], ref("Error")) for code in errors}
    return {"summary": summary, "parameters": parameters, "responses": answers}


def said(text: str, schema: Schema) -> Schema:
    return {"description": text, "content": {"application/json": {"schema": schema}}}
