"""What would change, and doing it without a daemon: `plan`, `apply`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from reconciler.commands.answers import NOT_WELL
from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@with_settings
def plan(settings: Settings, as_json: bool) -> None:
    """What would change; nothing is touched.

    Exits with 0 if there is nothing to do, 2 if there is, 1 on an error. Without a running daemon only the broker's
    topology is compared, not the workers.
    """
    from reconciler.show import console, plan_text

    found = plan_of(settings)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        console.print(plan_text(found))
    sys.exit(NOT_WELL if found["actions"] or found["held"] else 0)


def plan_of(settings: Settings) -> dict[str, Any]:
    from reconciler.client import Client
    from reconciler.oneshot import plan_once
    from reconciler.presence import known_daemon
    from reconciler.status import plan_body

    known = known_daemon(settings.state)
    if known and known["file"] == str(settings.file):
        found = Client(settings).get("/plan")
        if problem := found["file_error"] or found["broker_error"]:
            raise click.ClickException(problem)
        return found
    shot = plan_once(settings)
    return plan_body(shot.revision, shot.plan)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--confirm", metavar="REVISION", help="Allow the deletions of this revision that wait for a person.")
@with_settings
def apply(settings: Settings, yes: bool, confirm: str | None) -> None:
    """Bring the broker's topology in line, once, without a daemon and without workers. For pipelines.

    Exits with 0 if the broker then is as the file says, else with 1 and what is left.
    """
    from reconciler import oneshot
    from reconciler.errors import ReconcilerError
    from reconciler.presence import only_one
    from reconciler.show import console, plan_text, progress
    from reconciler.status import plan_body

    def agreed(shot: oneshot.Shot) -> None:
        console.print(plan_text(plan_body(shot.revision, shot.plan)))
        if shot.plan.actions and not yes:
            click.confirm("Do this?", abort=True)
        bar.start(len(shot.plan.actions))

    bar = progress()
    try:
        with only_one(settings), bar:
            left = oneshot.apply_once(settings, confirm, agreed, bar.told)
    except (ReconcilerError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if left.plan.actions or left.plan.held:
        console.print(plan_text(plan_body(left.revision, left.plan)))
        sys.exit(1)
    click.echo("the broker is as the file says")


COMMANDS = (plan, apply)
