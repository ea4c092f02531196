"""What has failed for good: `dead-letters`, `redrive`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command("dead-letters")
@click.argument("queue")
@click.option("--limit", type=click.IntRange(1), help="Look at so many messages at most (10,000).")
@click.option("--json", "as_json", is_flag=True, help="All that is known, with a sample of each group.")
@with_settings
def dead_letters(settings: Settings, queue: str, limit: int | None, as_json: bool) -> None:
    """Say what has failed for good on QUEUE, by reason, worker and exception. Nothing is taken out.

    QUEUE is one that has `dead_letter` or `retry`, or the dead-letter queue itself.

    \b
      reconciler dead-letters orders
    """
    from reconciler.client import Client, name_in_path
    from reconciler.show import console, dead_letters_view

    found = Client(settings).get(f"/queue/dead-letters/{name_in_path(queue)}", limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        console.print(dead_letters_view(found))


@click.command()
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--rate", type=float, help="Messages per second, at most.")
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@with_settings
def redrive(
    settings: Settings, queue: str, ids: tuple[str, ...], everything: bool, rate: float | None, dry_run: bool
) -> None:
    """Move dead letters of QUEUE back to the queue in which they failed: those with these message ids, or --all.

    \b
      reconciler redrive orders --all --rate 50
      reconciler redrive orders order-7 order-9
    """
    from reconciler.client import Client, name_in_path
    from reconciler.show import waiting

    if bool(ids) == everything:
        raise click.ClickException("say which message ids, or --all (see reconciler dead-letters)")
    asked: dict[str, Any] = {"all": True} if everything else {"message_ids": list(ids)}
    body = asked | {"dry_run": dry_run} | ({"rate": rate} if rate is not None else {})
    client, path = Client(settings), f"/queue/redrive/{name_in_path(queue)}"
    with waiting("moving messages back"):
        run = client.post(path, body)
        while not run["converged"]:
            run = client.get(path)
    say_how_it_went(run)


def say_how_it_went(run: dict[str, Any]) -> None:
    """Exits with 1 if anything that was asked for stays."""
    verb = "would be moved" if run["dry_run"] else "moved"
    to = ", ".join(f"{count} to {queue}" for queue, count in run["to"].items())
    click.echo(f"{run['moved']} {verb}" + (f" ({to})" if to else ""))
    for left in run["why"]:
        named = f": {', '.join(left['message_ids'][:5])}" if left["message_ids"] else ""
        click.echo(f"{left['count']} left: {left['reason']}{named}", err=True)
    if run["left"]:
        sys.exit(1)


COMMANDS = (dead_letters, redrive)
