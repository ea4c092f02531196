"""The file by itself: `validate`, `schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@click.argument("path", metavar="[FILE]", required=False)
@with_settings
def validate(settings: Settings, path: str | None) -> None:
    """Check the file. Imports nothing and needs no broker.

    Prints every fault as FILE:LINE:COLUMN: path: what is wrong (what would be right), and exits with 1 if there is one.
    """
    from reconciler.oneshot import read_file

    file = Path(path).absolute() if path else settings.file
    workers = settings.workers if path is None or file == settings.file else file.parent / "workers"
    desired, revision = read_file(file, workers, path)
    pools = list(desired.pools())
    count = sum(worker.count for _, worker in pools)
    click.echo(f"{file.name} is valid: {len(desired.all_queues())} queues, {count} workers, revision {revision[:12]}")


@click.command()
def schema() -> None:
    """Print the JSON Schema of queues.yaml, for editors."""
    from reconciler.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


COMMANDS = (validate, schema)
