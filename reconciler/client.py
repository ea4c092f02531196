"""The command line's side of the REST endpoints."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click
import httpx

from reconciler.presence import known_daemon
from reconciler.settings import Settings

# Longer than the daemon's longest wait of its own accord, so that it is the daemon that says what is missing.
SECONDS = 630.0


class NoDaemon(click.ClickException):
    """No daemon answers."""

    exit_code = 1


class Client:
    """Calls the daemon of the state folder, or the one at RECONCILER_HOST and RECONCILER_PORT."""

    def __init__(self, settings: Settings) -> None:
        known = known_daemon(settings.state)
        self.known = known
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = known["url"] if known else f"http://{host}:{settings.port}"
        self.http = httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False)

    def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The answer's body. Raises NoDaemon, or ClickException with the daemon's own words if it refuses."""
        try:
            answer = self.http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise NoDaemon(f"no reconciler answers at {self.url}: {error} (start it with reconciler run)") from None
        try:
            body = answer.json()
        except ValueError:
            raise NoDaemon(f"what answers at {self.url} is no reconciler (set RECONCILER_HOST and _PORT)") from None
        if answer.status_code >= 400:
            raise click.ClickException(str(body.get("error", answer.text)))
        return dict(body)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self.call("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: dict[str, Any], **query: Any) -> dict[str, Any]:
        return self.call("POST", path, json=body, params={k: v for k, v in query.items() if v is not None})


def name_in_path(name: str) -> str:
    return quote(name, safe="")
