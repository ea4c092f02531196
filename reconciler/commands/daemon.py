"""`run`, and asking the daemon that runs: `status`, `sync`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from reconciler.commands.answers import NOT_WELL
from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@with_settings
def run(settings: Settings) -> None:
    """The daemon: reconciles, supervises and serves until Ctrl-C or SIGTERM.

    Workers then finish the message in hand, and everything that was started is stopped. Once more stops at once.
    """
    from reconciler import daemon, logs
    from reconciler.errors import ReconcilerError

    logs.configure()
    try:
        daemon.run(settings)
    except ReconcilerError as error:
        raise click.ClickException(str(error)) from None


@click.command()
@click.option("--watch", is_flag=True, help="Again each second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@with_settings
def status(settings: Settings, watch: bool, as_json: bool) -> None:
    """The queues and workers, and whether all is as the file says.

    Exits with 0 if synced and healthy, 2 if not, 1 if no daemon answers.
    """
    from reconciler.client import Client

    client = Client(settings)
    if watch:
        watch_status(client)
    show_status(client.get("/status"), as_json)


def show_status(found: dict[str, Any], as_json: bool = False) -> None:
    from reconciler.show import console, status_view

    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        console.print(status_view(found))
    sys.exit(0 if found["synced"] and found["healthy"] else NOT_WELL)


def watch_status(client: Any) -> None:
    from reconciler.show import live_view, status_view

    try:
        with live_view() as show:
            while True:
                show(status_view(client.get("/status")))
                time.sleep(1)
    except KeyboardInterrupt:
        pass


@click.command()
@click.option("--confirm", metavar="DIGEST", help="Allow the deletions that wait: of a plan, or of a REVISION.")
@with_settings
def sync(settings: Settings, confirm: str | None) -> None:
    """Have the daemon reconcile now, wait for it, and show the status (and exit as `status` does).

    With the digest of a plan it refuses if anything has moved since that plan was made, and says what.
    """
    from reconciler.client import Client
    from reconciler.show import waiting

    with waiting("reconciling"):
        found = Client(settings).post("/sync", {"confirm": confirm} if confirm else {})
    show_status(found)


COMMANDS = (run, status, sync)
