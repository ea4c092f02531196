"""The JSON Schema of queues.yaml, from the models that read it."""

from __future__ import annotations

from typing import Any

from state.desired import MAX_COUNT, Desired

ID = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    schema = Desired.model_json_schema()
    # The short form of a worker, and defaults that need not be whole queues or workers.
    workers = schema["$defs"]["Queue"]["properties"]["workers"]
    count = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT, "description": "the number of processes"}
    workers["additionalProperties"] = {"anyOf": [count, {"$ref": "#/$defs/Worker"}]}
    defaults = schema["$defs"]["Defaults"]["properties"]
    defaults["queue"] = {"$ref": "#/$defs/Queue"}
    defaults["worker"] = {"$ref": "#/$defs/Worker"}
    return {"$schema": ID, **schema, "title": "queues.yaml of queue-reconciler"}
