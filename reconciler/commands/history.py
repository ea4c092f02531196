"""What was in force: `history`, `diff`, `rollback`."""

from __future__ import annotations

import json

import click

from reconciler.commands.answers import change, if_match
from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@click.option(
    "-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many, the newest."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@with_settings
def history(settings: Settings, limit: int, as_json: bool) -> None:
    """The revisions that were in force, the newest first: when, whose, by which way, and how each ended."""
    from reconciler.client import Client
    from reconciler.show import console, history_view

    found = Client(settings).get("/history", limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        console.print(history_view(found))


@click.command()
@click.argument("revision")
@click.argument("other", metavar="[REVISION2]", required=False)
@with_settings
def diff(settings: Settings, revision: str, other: str | None) -> None:
    """What changed in the file from REVISION to what is in force, or to REVISION2. A start of a revision is enough.

    \b
      reconciler diff 1a2b3c
      reconciler diff 1a2b3c 4d5e6f
    """
    from reconciler.client import Client, name_in_path
    from reconciler.show import console, diff_view

    found = Client(settings).text(f"/history/{name_in_path(revision)}/diff", **({"to": other} if other else {}))
    if found:
        console.print(diff_view(found.split("\n")))


@click.command()
@click.argument("revision")
@if_match
@with_settings
def rollback(settings: Settings, revision: str, if_match: str | None) -> None:
    """Write REVISION into the file again. A start of it is enough.

    Removals are as careful as after any other edit: those that need a confirmation wait for `reconciler sync`.
    """
    from reconciler.client import name_in_path

    change(settings, "POST", f"/rollback/{name_in_path(revision)}", {}, if_match=if_match)


COMMANDS = (history, diff, rollback)
