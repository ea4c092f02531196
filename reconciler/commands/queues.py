"""A queue and its messages: `create`, `publish`, `clear`, `delete`, `pause`, `resume`."""

from __future__ import annotations

import click

from reconciler.commands.answers import change, if_match, parsed
from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@click.argument("queue")
@click.argument("properties", required=False, default="{}")
@if_match
@with_settings
def create(settings: Settings, queue: str, properties: str, if_match: str | None) -> None:
    """Add QUEUE to the file. PROPERTIES are the queue's keys as JSON.

    \b
      reconciler create audit
      reconciler create emails '{"type": "quorum", "workers": {"send_email": 5}}'
    """
    body = parsed(properties)
    if not isinstance(body, dict):
        raise click.ClickException('PROPERTIES is a JSON object (such as {"type": "quorum"})')
    change(settings, "POST", "/queue/create", {"queue_name": queue, **body}, if_match=if_match)


@click.command()
@click.argument("queue")
@click.argument("message", metavar="JSON")
@with_settings
def publish(settings: Settings, queue: str, message: str) -> None:
    """Publish JSON to QUEUE, and wait until the broker has confirmed it.

    \b
      reconciler publish emails '{"to": "ann@example.org"}'
    """
    from reconciler.client import name_in_path

    answer = change(settings, "POST", f"/queue/publish/{name_in_path(queue)}", {"message": parsed(message)}, say=False)
    click.echo(f"{answer['message']} to {answer['queue']} as {answer['message_id']}")


@click.command()
@click.argument("queue")
@if_match
@with_settings
def clear(settings: Settings, queue: str, if_match: str | None) -> None:
    """Stop the workers of QUEUE (in the file, too) and drop all its messages."""
    from reconciler.client import name_in_path

    change(settings, "POST", f"/queue/clear/{name_in_path(queue)}", {}, if_match=if_match)


@click.command()
@click.argument("queue")
@click.option("--force", is_flag=True, help="Even with messages in it, which are then lost.")
@if_match
@with_settings
def delete(settings: Settings, queue: str, force: bool, if_match: str | None) -> None:
    """Take QUEUE out of the file and delete it. Refused while it holds messages."""
    from reconciler.client import name_in_path

    path = f"/queue/delete/{name_in_path(queue)}"
    change(settings, "DELETE", path, None, force=str(force).lower(), if_match=if_match)


@click.command()
@click.argument("queue")
@click.option("--reason", help="Shown wherever the queue is.")
@click.option("--until", metavar="TIME", help="It ends by itself then: 2026-12-01T09:00Z.")
@if_match
@with_settings
def pause(settings: Settings, queue: str, reason: str | None, until: str | None, if_match: str | None) -> None:
    """Let the workers of QUEUE finish and stand still. Written into the file; messages wait in the queue.

    \b
      reconciler pause emails --reason "the mail server moves" --until 2026-12-01T09:00Z
    """
    from reconciler.client import name_in_path

    given = {"reason": reason, "until": until}
    body = {key: value for key, value in given.items() if value is not None}
    change(settings, "POST", f"/queue/pause/{name_in_path(queue)}", body, if_match=if_match)


@click.command()
@click.argument("queue")
@if_match
@with_settings
def resume(settings: Settings, queue: str, if_match: str | None) -> None:
    """End the pause of QUEUE. Written into the file."""
    from reconciler.client import name_in_path

    change(settings, "POST", f"/queue/resume/{name_in_path(queue)}", {}, if_match=if_match)


COMMANDS = (create, publish, clear, delete, pause, resume)
