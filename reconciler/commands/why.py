"""Why a queue is as it is: `explain`."""

from __future__ import annotations

import click

from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@click.argument("queue")
@with_settings
def explain(settings: Settings, queue: str) -> None:
    """Say in sentences why QUEUE and each number of its workers is as it is.

    \b
      reconciler explain emails
    """
    from reconciler.client import Client, name_in_path

    for sentence in Client(settings).get(f"/explain/{name_in_path(queue)}")["sentences"]:
        click.echo(sentence)


COMMANDS = (explain,)
