"""The broker's HTTP API: what AMQP does not show. Every answer may be missing; the caller goes on without.

With 10,000 queues and as many bindings `GET /api/definitions/{vhost}` takes the broker 3 s, because it looks up
each binding's queue in a list of all, and a page of 500 of `/api/queues` costs as much as the whole. One list of
queues, one of exchanges and the bindings exchange by exchange take 0.5 s together, and leave out RabbitMQ's own.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from reconciler.errors import Refused

CONNECT_SECONDS = 4.0
SECONDS = 30.0  # for an answer: a busy broker takes its time over a list of 10,000 queues
TIMEOUT = httpx.Timeout(SECONDS, connect=CONNECT_SECONDS)
# Names, properties and counts without the statistics database: the counts of classic queues are live in it.
PROPERTIES = {"disable_stats": "true", "columns": "name,type,durable,auto_delete,exclusive,arguments,policy,state"}
QUEUES = {
    "disable_stats": "true",
    "enable_queue_totals": "true",
    "columns": PROPERTIES["columns"] + ",messages,messages_ready,messages_unacknowledged",
}
EXCHANGES = {"disable_stats": "true", "columns": "name,type,durable,auto_delete,internal,arguments"}
AT_ONCE = 8  # requests under way
LARGE = 1000  # queues, from which on the default exchange's bindings cost more than a request for each other exchange
QUEUES_AN_EXCHANGE = 25  # … of which there is at most one for so many queues
DOTS = {".", ".."}  # what is called so has no path of its own: RabbitMQ takes them for the folder and the one above


class ManagementUnavailable(Exception):
    """The management API cannot be used; the message says why."""


@dataclass(frozen=True)
class Everything:
    """What the HTTP API says of a virtual host. `policies` is None if this user may not see them."""

    queues: list[dict[str, Any]]
    exchanges: list[dict[str, Any]]  # the default one and RabbitMQ's own included
    bindings: list[dict[str, Any]]  # but for the default exchange's
    policies: list[dict[str, Any]] | None
    counted: bool = True  # have the queues their counts?


class Management:
    """The API at `url` (user and password in it or, if not, those of the AMQP URL), for one virtual host."""

    def __init__(self, url: str, user: str, password: str, vhost: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must begin with http:// or https:// and name a host")
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        self.url = base
        self._vhost = quote(vhost, safe="")
        self._is_large = False
        self._client = httpx.AsyncClient(base_url=base, auth=(user, password), timeout=TIMEOUT, trust_env=False)

    async def queues(self) -> list[dict[str, Any]]:
        """All queues of the virtual host: properties and counts. Raises ManagementUnavailable."""
        return await self._list(f"/api/queues/{self._vhost}", QUEUES)

    async def queue(self, name: str) -> dict[str, Any] | None:
        """One queue as in `queues`; None if it is not there. Raises ManagementUnavailable."""
        one = {"page": "1", "page_size": "1", "name": f"^{re.escape(name)}$", "use_regex": "true"}
        answer = self._checked(await self._ask("GET", f"/api/queues/{self._vhost}", params=QUEUES | one))
        try:
            items = answer.json()["items"]
        except (ValueError, KeyError, TypeError):
            raise ManagementUnavailable(f"{self.url} answers in a form that is not known here") from None
        return next((queue for queue in items if queue["name"] == name), None)

    async def _uncounted_queues(self) -> list[dict[str, Any]]:
        return await self._list(f"/api/queues/{self._vhost}", PROPERTIES)

    async def everything(self, expected: int = 0) -> Everything:
        """All of the virtual host; a large one, as one with so many queues `expected`, comes without counts.

        Raises ManagementUnavailable.
        """
        self._is_large = self._is_large or expected > LARGE
        queues_now = self._uncounted_queues() if self._is_large else self.queues()
        first = queues_now, self._list(f"/api/exchanges/{self._vhost}", EXCHANGES), self.policies()
        if self._is_large:
            queues, exchanges, policies = await asyncio.gather(*first)
            bindings = await self._bindings([x["name"] for x in exchanges if x["name"]], len(queues))
        else:
            queues, exchanges, policies, bindings = await asyncio.gather(*first, self._all_bindings())
        counted, self._is_large = not self._is_large, len(queues) > LARGE
        return Everything(queues, exchanges, bindings, policies, counted)

    async def _bindings(self, sources: list[str], queues: int) -> list[dict[str, Any]]:
        if len(sources) > queues // QUEUES_AN_EXCHANGE or DOTS & set(sources):
            return await self._all_bindings()
        slots = asyncio.Semaphore(AT_ONCE)

        async def of(source: str) -> list[dict[str, Any]]:
            async with slots:
                path = f"/api/exchanges/{self._vhost}/{quote(source, safe='')}/bindings/source"
                return await self._list(path, {}, gone_is_empty=True)

        return list(chain.from_iterable(await asyncio.gather(*map(of, sources))))

    async def _all_bindings(self) -> list[dict[str, Any]]:
        found = await self._list(f"/api/bindings/{self._vhost}", {})
        return [binding for binding in found if binding["source"]]

    async def policies(self) -> list[dict[str, Any]] | None:
        answer = await self._ask("GET", f"/api/policies/{self._vhost}")
        if answer.status_code in (401, 403):
            return None
        return self._as_list(answer)

    async def set_policy(self, name: str, policy: dict[str, Any]) -> None:
        """Makes or replaces a policy: `pattern`, `apply-to`, `priority`, `definition`. Raises Refused."""
        if name in DOTS:
            raise Refused(f"RabbitMQ's HTTP API has no way to a policy that is called {name} (choose another name)")
        await self._change("PUT", f"/api/policies/{self._vhost}/{quote(name, safe='')}", policy)

    async def delete_policy(self, name: str) -> None:
        """Deletes a policy, if it is there. Raises Refused."""
        await self._change("DELETE", f"/api/policies/{self._vhost}/{quote(name, safe='')}")

    async def ask(self, method: str, path: str, **request: Any) -> Any:
        """Any question or change: the answer's JSON, None if there is none or no such thing. Raises Refused."""
        answer = await self._ask(method, path, **request)
        if answer.status_code == 404 or (answer.is_success and not answer.content):
            return None
        if answer.status_code in (400, 401, 403):
            raise Refused(reason_of(answer))
        try:
            return self._checked(answer).json()
        except ValueError:
            raise ManagementUnavailable(f"{self.url} answers in a form that is not known here") from None

    async def _change(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        answer = await self._ask(method, path, json=body)
        if answer.status_code in (401, 403):
            raise Refused("the broker's user may not set policies (give it the tag policymaker or administrator)")
        if method == "DELETE" and answer.status_code == 404:
            return  # it is gone already
        if answer.is_client_error:
            raise Refused(reason_of(answer))
        self._checked(answer)

    async def _list(self, path: str, query: dict[str, str], gone_is_empty: bool = False) -> list[dict[str, Any]]:
        answer = await self._ask("GET", path, params=query)
        return [] if gone_is_empty and answer.status_code == 404 else self._as_list(answer)

    def _as_list(self, answer: httpx.Response) -> list[dict[str, Any]]:
        try:
            found = self._checked(answer).json()
        except ValueError:
            found = None
        if not isinstance(found, list):
            raise ManagementUnavailable(f"{self.url} answers in a form that is not known here")
        return found

    async def connections(self) -> list[dict[str, Any]]:
        """All AMQP connections to the virtual host. One is in it for seconds only after it was opened."""
        return await self._list(f"/api/vhosts/{self._vhost}/connections", {})

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        code = answer.status_code
        if not answer.is_success:
            hint = " (the user needs the tag management)" if code in (401, 403) else ""
            raise ManagementUnavailable(f"{self.url} answers {code}{hint}")
        return answer

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ManagementUnavailable(f"{self.url} cannot be used: {error or type(error).__name__}") from None

    async def close(self) -> None:
        await self._client.aclose()


def reason_of(answer: httpx.Response) -> str:
    """What RabbitMQ says in the body of an error."""
    try:
        return str(answer.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"
