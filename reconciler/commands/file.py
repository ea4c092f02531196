"""The file by itself: `validate`, `schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import httpx

from reconciler.options import with_settings
from reconciler.settings import Settings
from state.desired import Desired
from state.observed import Release, release_of


@click.command()
@click.argument("path", metavar="[FILE]", required=False)
@click.option("--broker-version", metavar="VERSION", help="Of the broker, such as 4.0.5.  [default: the daemon's]")
@with_settings
def validate(settings: Settings, path: str | None, broker_version: str | None) -> None:
    """Check the file. Imports nothing and needs no broker.

    Prints every fault as FILE:LINE:COLUMN: path: what is wrong (what would be right), and exits with 1 if there is one.
    Where the version of the broker is known, that is also what it would refuse; what it would do otherwise than the
    file says is a warning.
    """
    from reconciler.oneshot import read_file

    file = Path(path).absolute() if path else settings.file
    workers = settings.workers if path is None or file == settings.file else file.parent / "workers"
    desired, revision = read_file(file, workers, path)
    tell_findings(desired, file, path or file.name, release_to_ask(settings, broker_version))
    pools = list(desired.pools())
    count = sum(worker.count for _, worker in pools)
    click.echo(f"{file.name} is valid: {len(desired.all_queues())} queues, {count} workers, revision {revision[:12]}")


def tell_findings(desired: Desired, file: Path, name: str, release: Release | None) -> None:
    """Prints the warnings. Raises Faulty with all that the broker would refuse."""
    from reconciler.lint import lint
    from reconciler.oneshot import Faulty
    from state.reader import locate_all

    found = lint(desired, release)
    at = locate_all(file.read_bytes(), [(finding.path, finding.message) for finding in found], name)
    errors = [fault for fault, finding in zip(at, found, strict=True) if finding.severity == "error"]
    for fault in sorted(set(at) - set(errors)):
        click.echo(f"{fault.file}:{fault.line}:{fault.column}: warning: {fault.path}: {fault.message}", err=True)
    if errors:
        raise Faulty("\n".join(map(str, sorted(errors))))


def release_to_ask(settings: Settings, given: str | None) -> Release | None:
    """The version that was given, else that of the broker of a daemon that runs here."""
    from reconciler.presence import known_daemon

    if given is not None:
        if (release := release_of(given)) is None:
            raise click.ClickException(f"{given!r} is no version of RabbitMQ (such as 4.0.5)")
        return release
    known = known_daemon(settings.state)
    try:
        answer = httpx.get(f"{known['url']}/status", timeout=5, trust_env=False) if known else None
        return release_of(answer.json()["broker"]["version"]) if answer else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


@click.command()
def schema() -> None:
    """Print the JSON Schema of queues.yaml, for editors."""
    from reconciler.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


COMMANDS = (validate, schema)
