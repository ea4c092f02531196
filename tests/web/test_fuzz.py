"""Whatever the endpoints of /openapi.json are sent: no undocumented 5xx, and every error says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.web.openapi import document
from tests.nodes import TestNode
from tests.system import System

pytestmark = pytest.mark.timeout(600)  # some of the requests are allowed to take seconds

NAMES = ["known", "a/b c", "ünï.cødé", "%2F?#", "x" * 255, "x" * 256, "amq.x", "", "..", "\x01", "no such"]
STREAMS = ("/events", "/logs/workers/stream_logs/{pid}")

CONDITIONS = ["*", '"x"', 'W/"0a"', "bare, *", '"', ",", "", "é", "x" * 5000]
BROKEN = [b"", b"{", b"[1]", b"\xff", b"NaN", b'{"count": 1e999}', b"[" * 5000]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def site(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    vhost = broker.make_vhost("fuzz")
    system = System(tmp_path_factory.mktemp("fuzz") / "site", vhost.amqp_url, vhost.management_url)
    system.write("version: 1\nqueues: {known: {workers: {echo: 1}}}\n")
    system.start()
    system.settled()
    yield system
    system.stop()
    broker.drop_vhost("fuzz")


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values near the schema: mostly fitting, so that they get past the door."""
    schema = resolve(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if options := schema.get("anyOf"):
        return st.one_of(*map(fitting, options))
    kinds = schema.get("type", "any")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    match kind:
        case "integer":
            return st.integers(schema.get("minimum", -3), min(schema.get("maximum", 5), 5))
        case "number":
            return st.floats(0, 2)
        case "boolean":
            return st.booleans()
        case "string":
            return st.sampled_from(NAMES) | st.text(max_size=12)
        case "array":
            return st.lists(fitting(schema.get("items", {})), max_size=3)
        case "object" if "properties" in schema:
            parts = {name: often(fitting(part)) for name, part in schema["properties"].items()}
            must = {name: parts.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(must, optional=parts)
    return json_values


def often(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*[strategy] * 9, json_values)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, op) for path, methods in document()["paths"].items() for method, op in methods.items()]


def is_write(method: str) -> bool:
    return method in ("post", "delete")


@st.composite
def requests(draw: st.DrawFn, path: str, method: str, operation: dict[str, Any], pid: int) -> dict[str, Any]:
    query: dict[str, Any] = {"wait": "0"} if is_write(method) else {}
    for parameter in operation["parameters"]:
        if parameter["in"] == "query" and parameter["name"] != "wait" and draw(st.booleans()):
            query[parameter["name"]] = str(draw(st.one_of(fitting(parameter["schema"]), st.text(max_size=6))))
    name = quote(draw(st.sampled_from(NAMES)), safe="")
    number = str(draw(st.sampled_from([pid, 1, -1, 2**63, "x", "٣"])))
    url = path.replace("{queue_name}", name).replace("{pid}", quote(number))
    content = b""
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        value = draw(st.one_of(fitting(schema), fitting(schema), fitting(schema), json_values))
        good = httpx.Request("POST", "http://x", json=value).content
        content = draw(st.sampled_from([*[good] * 20, *BROKEN]))
    headers = {}
    if any(parameter["name"] == "If-Match" for parameter in operation["parameters"]) and draw(st.integers(0, 4)) == 0:
        headers["If-Match"] = draw(st.sampled_from(CONDITIONS)).encode()
    return {"method": method.upper(), "url": url, "params": query, "content": content, "headers": headers}


@pytest.mark.parametrize(("path", "method", "operation"), operations(), ids=lambda value: str(value)[:40])
def test_no_request_is_answered_with_a_fault_of_ours(
    site: System, path: str, method: str, operation: dict[str, Any]
) -> None:
    pid = next(w["pid"] for w in [*site.list_workers(), {"pid": 1}])
    with httpx.Client(base_url=site.url, timeout=120, trust_env=False) as http:

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(requests(path, method, operation, pid))
        def send(request: dict[str, Any]) -> None:
            with http.stream(**request) as answer:
                check(operation, answer, streams=path in STREAMS)

        send()
    assert site.get("/healthz").status_code == 200


def check(operation: dict[str, Any], answer: httpx.Response, *, streams: bool) -> None:
    told = [int(code) for code in operation["responses"]]
    assert answer.status_code < 500 or answer.status_code in told, answer.status_code
    if answer.status_code >= 400:
        body = answer.read()
        assert answer.headers["content-type"].startswith(("application/json", "text/html")), body
        if answer.headers["content-type"].startswith("application/json"):
            assert answer.json()["error"], body
    elif not streams:
        answer.read()


def test_the_file_is_still_valid_afterwards(site: System) -> None:
    assert site.cli("validate").returncode == 0


def test_the_document_is_valid_openapi() -> None:
    from openapi_spec_validator import validate

    validate(document())


def test_every_route_is_in_the_document() -> None:
    from reconciler.web.app import ROUTES

    routes = {str(route.path).replace(":path", "") for route in ROUTES} - {"/static"}
    assert routes == document()["paths"].keys()


def test_the_schema_in_the_repository_is_the_one_the_command_prints(system: System) -> None:
    schema = (Path(__file__).parents[2] / "schema" / "queues.schema.json").read_text()
    assert system.cli("schema").stdout == schema
