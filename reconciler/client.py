"""The command line's side of the REST endpoints."""

from __future__ import annotations

import getpass
import os
from typing import Any
from urllib.parse import quote

import click
import httpx

from reconciler import __version__
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
        agent = f"reconciler-cli/{__version__}".encode()
        headers = {b"User-Agent": agent, b"X-Reconciler-User": caller().encode(errors="replace")}
        self.http = httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False, headers=headers)

    def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The answer's body. Raises NoDaemon, or ClickException with the daemon's own words if it refuses."""
        answer = self._ask(method, path, **request)
        try:
            body = answer.json()
        except ValueError:
            raise NoDaemon(f"what answers at {self.url} is no reconciler (set RECONCILER_HOST and _PORT)") from None
        if answer.status_code >= 400:
            raise click.ClickException(str(body.get("error", answer.text)))
        return dict(body)

    def text(self, path: str, **query: str) -> str:
        """A body that is not JSON. Raises as `call` does."""
        answer = self._ask("GET", path, params=query)
        if answer.status_code >= 400:
            self.call("GET", path, params=query)
        return answer.content.decode(errors="replace")

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self.http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise NoDaemon(f"no reconciler answers at {self.url}: {error} (start it with reconciler run)") from None

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self.call("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: dict[str, Any], **query: Any) -> dict[str, Any]:
        return self.call("POST", path, json=body, params={k: v for k, v in query.items() if v is not None})


def caller() -> str:
    """Who is to stand in the history as the author of a change: `RECONCILER_USER`, else whoever is logged in."""
    if given := os.environ.get("RECONCILER_USER") or os.environ.get("SUDO_USER"):
        return " ".join(given.split())
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # this uid has no name
        return f"uid {os.getuid()}"


def name_in_path(name: str) -> str:
    return quote(name, safe="")
