"""What would change, and doing it without a daemon: `plan`, `apply`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.commands.answers import NOT_WELL
from reconciler.options import with_settings
from reconciler.settings import Settings

if TYPE_CHECKING:
    from reconciler.review import Confirmation


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs; the same as --format json.")
@click.option("--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True)
@with_settings
def plan(settings: Settings, as_json: bool, form: str) -> None:
    """What would change and what it costs; nothing is touched.

    Exits with 0 if there is nothing to do, 2 if there is, 1 on an error. Without a running daemon only the broker's
    topology is compared, not the workers. Markdown is for a pull request's check.

    \b
      reconciler plan
      reconciler plan --format markdown > plan.md
      reconciler plan --json > plan.json; reconciler apply --plan plan.json
    """
    live = daemon_of_file(settings) is not None
    found = plan_of(settings)
    show_plan(found, "json" if as_json else form, "sync --confirm" if live else "apply --plan")
    sys.exit(NOT_WELL if found["actions"] or found["held"] or found["under_way"] else 0)


def show_plan(found: dict[str, Any], form: str = "text", command: str = "apply --plan") -> None:
    from reconciler.markdown import plan_markdown
    from reconciler.show import console, plan_text

    if form == "json":
        click.echo(json.dumps(found, indent=2))
    elif form == "markdown":
        click.echo(plan_markdown(found))
    else:
        console.print(plan_text(found, command))


def daemon_of_file(settings: Settings) -> dict[str, Any] | None:
    """The daemon that keeps the world equal to this very file, if one runs."""
    from reconciler.presence import known_daemon

    known = known_daemon(settings.state)
    return known if known and known["file"] == str(settings.file) else None


def plan_of(settings: Settings) -> dict[str, Any]:
    from reconciler.client import Client
    from reconciler.oneshot import plan_once

    if daemon_of_file(settings) is not None:
        found = Client(settings).get("/plan")
        if problem := found["file_error"] or found["broker_error"]:
            raise click.ClickException(problem)
        return found
    return plan_once(settings).body()


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--plan", "reviewed", metavar="DIGEST", help="Do only this plan, with its deletions, and do not ask.")
@click.option("--confirm", metavar="REVISION", help="Allow the deletions of this revision that wait for a person.")
@with_settings
def apply(settings: Settings, yes: bool, reviewed: str | None, confirm: str | None) -> None:
    """Bring the broker's topology in line, once, without a daemon and without workers. For pipelines.

    Exits with 0 if the broker then is as the file says, else with 1 and what is left. With --plan it refuses if file,
    ledger or broker are not any more what they were when that plan was made, and says what has moved; each thing, if it
    is given what `plan --json` wrote as a file.
    """
    from reconciler import oneshot
    from reconciler.errors import ReconcilerError
    from reconciler.presence import only_one
    from reconciler.review import Review
    from reconciler.show import progress

    asked = confirmation_of(reviewed) if reviewed is not None else None

    def agreed(review: Review) -> None:
        show_plan(review.body())
        if review.plan.actions and not yes and asked is None:
            click.confirm("Do this?", abort=True)
        bar.start(len(review.plan.actions))

    bar = progress()
    try:
        with only_one(settings), bar:
            left = oneshot.apply_once(settings, confirm, asked, agreed, bar.told)
    except (ReconcilerError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if left.plan.actions or left.plan.held:
        show_plan(left.body())
        sys.exit(1)
    click.echo("the broker is as the file says")


def confirmation_of(reviewed: str) -> Confirmation:
    """A digest, or a file that `plan --json` wrote. Raises ClickException if it is neither."""
    from reconciler.basis import Basis, is_digest
    from reconciler.review import Confirmation

    if is_digest(reviewed):
        return Confirmation(reviewed)
    try:
        written = json.loads(Path(reviewed).read_bytes())
        digest, basis = written["digest"], Basis(**written["basis"])
        if isinstance(digest, str) and is_digest(digest):
            return Confirmation(digest, basis)
        what = "not what reconciler plan --json writes"
    except OSError as error:
        what = f"neither the digest of a plan nor a file: {error.strerror}"
    except (ValueError, TypeError, KeyError):
        what = "not what reconciler plan --json writes"
    raise click.ClickException(f"{reviewed[:80]} is {what} (see the last line of reconciler plan)")


COMMANDS = (plan, apply)
