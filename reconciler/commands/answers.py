"""What the commands share: one write and what came of it, and the JSON that a person types."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from reconciler.settings import Settings

NOT_WELL = 2  # the exit code of "there are changes" and "not well"


if_match = click.option("--if-match", metavar="REVISION", help="Only if the file still is at this revision.")


def change(
    settings: Settings,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    say: bool = True,
    if_match: str | None = None,
    **query: str,
) -> dict[str, Any]:
    """One write; says what came of it. Exits with 1 if the state was not reached in time."""
    from reconciler.client import Client
    from reconciler.show import waiting

    with waiting("waiting for it to be so"):
        answer = Client(settings).call(method, path, json=body, params=query, headers=condition(if_match))
    if say:
        click.echo(answer["message"])
    if answer.get("converged") is False:
        sys.exit(1)
    return answer


def condition(revision: str | None) -> dict[str, str]:
    """The header of a write that only counts if the file is still at `revision`, as `status` tells it."""
    if revision is None:
        return {}
    if not (revision.isascii() and revision.isalnum()) and revision != "*":
        raise click.ClickException(f"{revision[:80]!r} is no revision (reconciler status --json tells it)")
    return {"If-Match": revision if revision == "*" else f'"{revision}"'}


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.ClickException(f"{text[:60]} is not JSON: {error} (quote text as '\"text\"')") from None
