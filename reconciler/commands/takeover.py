"""Taking over what is there: `import` writes the file, `adopt` takes ownership, `forget` gives it up."""

from __future__ import annotations

import asyncio
import sys
from typing import IO, TYPE_CHECKING

import click

from reconciler.options import with_settings
from reconciler.settings import Settings

if TYPE_CHECKING:
    from reconciler.adoption import Adoptable
    from state.observed import ObservedBroker


@click.command("import")
@click.option("--vhost", help="Another virtual host than the one of AMQP_URL.")
@click.option(
    "--definitions", type=click.File("rb"), metavar="FILE", help="From an export, without a broker; - is stdin."
)
@with_settings
def import_(settings: Settings, vhost: str | None, definitions: IO[bytes] | None) -> None:
    """Print a queues.yaml of what the broker has. `plan` on it has nothing to do.

    What RabbitMQ makes itself is left out; what a file cannot say is, too, and named in comments with the reason.

    \b
      reconciler import > queues.yaml
      rabbitmqctl export_definitions - | reconciler import --definitions - --vhost /
    """
    from reconciler.broker.definitions import NoDefinitions, read_definitions
    from reconciler.importing import draft, written

    others: list[str] = []
    if definitions is not None:
        try:
            seen, others = read_definitions(definitions.read(), vhost)
        except NoDefinitions as error:
            raise click.ClickException(f"{definitions.name}: {error}") from None
    else:
        seen = asyncio.run(observed(settings, vhost))
    made = draft(seen)
    made.left_out += others
    origin = f"RabbitMQ {seen.version}" if seen.version != "unknown" else "RabbitMQ"
    click.echo(written(made, f"{origin} ({seen.identity})"), nl=False)
    counts = ", ".join(f"{len(forms)} {section}" for section, forms in made.forms.items())
    left = f"; {len(made.left_out)} left out, see the end of the file" if made.left_out else ""
    click.echo(f"{counts}{left}", err=True)


async def observed(settings: Settings, vhost: str | None) -> ObservedBroker:
    from reconciler.errors import ReconcilerError
    from reconciler.oneshot import broker_of

    broker = broker_of(settings, vhost)
    try:
        seen = await broker.observe(())
    except ReconcilerError as error:
        raise click.ClickException(str(error)) from None
    finally:
        await broker.close()
    if not seen.management:
        way_out = "set MANAGEMENT_URL, or give --definitions FILE from rabbitmqctl export_definitions"
        raise click.ClickException(f"only the management API lists queues: {broker.management_error} ({way_out})")
    return seen


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--kind", type=click.Choice(["queue", "exchange", "policy"]), default="queue", show_default=True)
@click.option("--all", "everything", is_flag=True, help="All that the file lists and the broker has.")
@with_settings
def adopt(settings: Settings, names: tuple[str, ...], kind: Adoptable, everything: bool) -> None:
    """Take ownership of queues that were there before they were in the file.

    Only what is ours is deleted when it leaves the file. Nothing is touched at the broker, and what the file does not
    list cannot be adopted.

    \b
      reconciler adopt emails audit
      reconciler adopt --kind exchange events
      reconciler adopt --all
    """
    from reconciler.presence import known_daemon

    if everything == bool(names):
        raise click.ClickException("say which to adopt, or --all (such as reconciler adopt emails)")
    known = known_daemon(settings.state)
    if known and known["file"] == str(settings.file):
        failed = adopt_by_daemon(settings, names, kind)
    else:
        failed = adopt_directly(settings, names, kind)
    sys.exit(1 if failed else 0)


def adopt_by_daemon(settings: Settings, names: tuple[str, ...], kind: Adoptable) -> bool:
    from reconciler.client import Client, name_in_path

    client, failed = Client(settings), False
    if not names:
        for message in client.post("/adopt", {})["messages"]:
            click.echo(message)
    for name in names:
        try:
            click.echo(client.post(f"/{kind}/adopt/{name_in_path(name)}", {})["message"])
        except click.ClickException as error:
            click.echo(f"Error: {error.message}", err=True)
            failed = True
    return failed


def adopt_directly(settings: Settings, names: tuple[str, ...], kind: Adoptable) -> bool:
    from reconciler.errors import ReconcilerError
    from reconciler.oneshot import adopt_once
    from reconciler.presence import only_one

    try:
        with only_one(settings):
            said = adopt_once(settings, [(kind, name) for name in names] or None)
    except (ReconcilerError, OSError) as error:
        raise click.ClickException(str(error)) from None
    for message, wrong in said:
        click.echo(f"Error: {wrong}" if wrong else message, err=bool(wrong))
    return any(wrong for _, wrong in said)


@click.command()
@click.argument("queue")
@with_settings
def forget(settings: Settings, queue: str) -> None:
    """Take QUEUE out of the file and leave it at the broker as it is: it is not ours any more."""
    from reconciler.client import name_in_path
    from reconciler.commands.answers import change

    change(settings, "POST", f"/queue/forget/{name_in_path(queue)}", {})


COMMANDS = (import_, adopt, forget)
