"""The processes of a queue: `scale`, `restart`, `logs`."""

from __future__ import annotations

import click

from reconciler.commands.answers import change, if_match
from reconciler.options import with_settings
from reconciler.settings import Settings


@click.command()
@click.argument("queue")
@click.argument("worker")
@click.argument("count", type=click.IntRange(0, 1000))
@if_match
@with_settings
def scale(settings: Settings, queue: str, worker: str, count: int, if_match: str | None) -> None:
    """Run COUNT processes of WORKER on QUEUE. Written into the file.

    \b
      reconciler scale emails send_email 5
    """
    from reconciler.client import name_in_path

    body = {"worker_name": worker, "count": count}
    change(settings, "POST", f"/worker/scale/{name_in_path(queue)}", body, if_match=if_match)


@click.command()
@click.argument("queue")
@click.argument("worker", required=False)
@click.option("--pid", type=click.IntRange(1), help="Only this process, at once.")
@with_settings
def restart(settings: Settings, queue: str, worker: str | None, pid: int | None) -> None:
    """Drain and replace the processes of QUEUE, or of one WORKER on it, a few at a time. Ends backoff at once.

    \b
      reconciler restart emails
      reconciler restart emails send_email
      reconciler restart emails --pid 4711
    """
    from reconciler.client import name_in_path

    given = {"worker_name": worker, "pid": pid}
    body = {key: value for key, value in given.items() if value is not None}
    change(settings, "POST", f"/worker/restart/{name_in_path(queue)}", body)


@click.command()
@click.argument("target", metavar="PID-or-QUEUE")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option(
    "-n", "--lines", default=100, show_default=True, type=click.IntRange(1, 10000), help="How many, the newest."
)
@with_settings
def logs(settings: Settings, target: str, follow: bool, lines: int) -> None:
    """The log of one worker by its pid, or of all workers of a queue merged by time.

    \b
      reconciler logs 4711
      reconciler logs emails -f -n 20
    """
    from reconciler.client import Client
    from reconciler.tail import show_logs

    show_logs(Client(settings), target, lines, follow)


COMMANDS = (scale, restart, logs)
