"""The broker's HTTP API: what AMQP does not show. Every answer may be missing; the caller goes on without."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

SECONDS = 5.0
# Names, properties and counts without the statistics database: the counts of classic queues are live in it.
QUEUES = {"disable_stats": "true", "enable_queue_totals": "true"}


class ManagementUnavailable(Exception):
    """The management API cannot be used; the message says why."""


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
        self._client = httpx.AsyncClient(base_url=base, auth=(user, password), timeout=SECONDS, trust_env=False)

    async def queues(self) -> list[dict[str, Any]]:
        """All queues of the virtual host: properties and counts. Raises ManagementUnavailable."""
        found = await self._get(f"/api/queues/{self._vhost}", QUEUES)
        if not isinstance(found, list):
            raise ManagementUnavailable("the management API answers in a form that is not known here")
        return found

    async def connections(self) -> list[dict[str, Any]]:
        """All AMQP connections to the virtual host. One is in it for seconds only after it was opened."""
        found = await self._get(f"/api/vhosts/{self._vhost}/connections", {})
        if not isinstance(found, list):
            raise ManagementUnavailable("the management API answers in a form that is not known here")
        return found

    async def _get(self, path: str, query: dict[str, str]) -> Any:
        try:
            answer = await self._client.get(path, params=query)
            answer.raise_for_status()
            return answer.json()
        except httpx.HTTPStatusError as error:
            hint = " (the user needs the tag management)" if error.response.status_code in (401, 403) else ""
            raise ManagementUnavailable(f"{self.url} answers {error.response.status_code}{hint}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise ManagementUnavailable(f"{self.url} cannot be used: {error or type(error).__name__}") from None

    async def close(self) -> None:
        await self._client.aclose()
