"""Which failure is answered how: the caller's fault, a conflict, or a broker that is not there; hardly ever ours."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from reconciler.errors import Blocked, BrokerUnreachable, NoSuchQueue, Refused, StillInUse, Unconfirmed
from reconciler.web.answers import ApiError, answer, as_api_error
from reconciler.web.app import ROUTES
from reconciler.web.openapi import IF_MATCH, document
from state.desired import Desired
from state.edit import EditRefused
from state.faults import Fault, Rejected
from state.file import Conflict, MovedOn, WriteFailed


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as error:
        Desired.model_validate({"version": 2, "queues": {}})
    return error.value


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ApiError(418, "a teapot"), 418),
        (Rejected([Fault(1, 2, "queues.q", "is wrong")]), 422),
        (invalid(), 422),
        (RecursionError(), 400),
        (Conflict("the file has faults"), 409),
        (MovedOn("0a"), 412),
        (EditRefused("it is an alias"), 409),
        (Refused(), 409),
        (WriteFailed("read-only", errno.EROFS), 409),
        (WriteFailed("no room", errno.ENOSPC), 507),
        (WriteFailed("no room for you", errno.EDQUOT), 507),
        (OSError(errno.ENOSPC, "No space left on device"), 507),
        (OSError(errno.EFBIG, "File too large"), 507),
        (OSError(errno.EROFS, "Read-only file system"), 507),
        (NoSuchQueue(), 404),
        (BrokerUnreachable(), 503),
        (Blocked(), 503),
        (Unconfirmed(), 503),
        (StillInUse(), 503),
        (HTTPException(404), 404),
        (HTTPException(405, headers={"Allow": "POST"}), 405),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_known_failure_has_its_status_and_says_what_is_wrong(error: Exception, status: int) -> None:
    found = as_api_error(error)
    assert found is not None
    assert (found.status, bool(found.body["error"])) == (status, True)
    if status == 422:
        assert all(fault.keys() == {"path", "message"} for fault in found.body["details"])


def test_what_nobody_foresaw_is_called_a_fault_of_ours() -> None:
    assert as_api_error(KeyError("x")) is None
    assert as_api_error(PermissionError(errno.EACCES, "a log that may not be read")) is None


def test_an_answer_carries_any_text_even_half_of_a_surrogate_pair() -> None:
    assert answer({"error": "\ud800"}).body == b'{"error": "\\ud800"}'


def test_the_endpoints_that_take_if_match_are_those_that_say_so() -> None:
    conditional = {path for path, methods in document()["paths"].items() if IF_MATCH in parameters_of(methods)}
    routes = [route for route in ROUTES if isinstance(route, Route)]
    asked = {route.path.replace(":path", "") for route in routes if hasattr(route.endpoint, "__wrapped__")}
    assert asked == conditional
    assert all("412" in operation["responses"] for path in asked for operation in document()["paths"][path].values())


def parameters_of(methods: dict[str, Any]) -> list[Any]:
    return [parameter for operation in methods.values() for parameter in operation["parameters"]]
