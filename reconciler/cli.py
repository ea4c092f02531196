"""The command line: `reconciler COMMAND`, or `python -m reconciler COMMAND`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from reconciler import __version__
from reconciler.options import with_settings
from reconciler.settings import Settings

LATER = {"import", "dead-letters", "redrive", "explain", "history", "diff", "rollback"}
LATER |= {"adopt", "forget", "token"}
NOT_WELL = 2


class Commands(click.Group):
    """Knows the commands that a later version brings, and says so."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] in LATER:
            raise click.ClickException(f"{args[0]} is not supported yet (see reconciler --help for what is)")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of this file, which is the order of use


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="reconciler")
def cli() -> None:
    """GitOps for RabbitMQ and the workers behind it.

    One file, queues.yaml, lists the queues and how many workers drain each. `reconciler run` keeps RabbitMQ and the
    worker processes equal to it; the other commands look, or change the file.

    \b
    A first round:
      reconciler validate                      is the file right?
      reconciler run                           keep the world equal to it
      reconciler status --watch                where things stand
      reconciler scale emails send_email 5     five workers, written into the file
      reconciler logs emails -f                what they say
    """


@cli.command()
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


@cli.command()
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


@cli.command()
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


@cli.command()
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


@cli.command()
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


@cli.command()
@click.option("--confirm", metavar="REVISION", help="Allow the deletions of this revision that wait for a person.")
@with_settings
def sync(settings: Settings, confirm: str | None) -> None:
    """Have the daemon reconcile now, wait for it, and show the status (and exit as `status` does)."""
    from reconciler.client import Client
    from reconciler.show import waiting

    with waiting("reconciling"):
        found = Client(settings).post("/sync", {"confirm": confirm} if confirm else {})
    show_status(found)


@cli.command()
@click.argument("queue")
@click.argument("properties", required=False, default="{}")
@with_settings
def create(settings: Settings, queue: str, properties: str) -> None:
    """Add QUEUE to the file. PROPERTIES are the queue's keys as JSON.

    \b
      reconciler create audit
      reconciler create emails '{"type": "quorum", "workers": {"send_email": 5}}'
    """
    body = parsed(properties)
    if not isinstance(body, dict):
        raise click.ClickException('PROPERTIES is a JSON object (such as {"type": "quorum"})')
    change(settings, "POST", "/queue/create", {"queue_name": queue, **body})


@cli.command()
@click.argument("queue")
@click.argument("worker")
@click.argument("count", type=click.IntRange(0, 1000))
@with_settings
def scale(settings: Settings, queue: str, worker: str, count: int) -> None:
    """Run COUNT processes of WORKER on QUEUE. Written into the file.

    \b
      reconciler scale emails send_email 5
    """
    from reconciler.client import name_in_path

    change(settings, "POST", f"/worker/scale/{name_in_path(queue)}", {"worker_name": worker, "count": count})


@cli.command()
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


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.ClickException(f"{text[:60]} is not JSON: {error} (quote text as '\"text\"')") from None


@cli.command()
@click.argument("queue")
@with_settings
def clear(settings: Settings, queue: str) -> None:
    """Stop the workers of QUEUE (in the file, too) and drop all its messages."""
    from reconciler.client import name_in_path

    change(settings, "POST", f"/queue/clear/{name_in_path(queue)}", {})


@cli.command()
@click.argument("queue")
@click.option("--force", is_flag=True, help="Even with messages in it, which are then lost.")
@with_settings
def delete(settings: Settings, queue: str, force: bool) -> None:
    """Take QUEUE out of the file and delete it. Refused while it holds messages."""
    from reconciler.client import name_in_path

    change(settings, "DELETE", f"/queue/delete/{name_in_path(queue)}", None, force=str(force).lower())


@cli.command()
@click.argument("queue")
@click.option("--reason", help="Shown wherever the queue is.")
@click.option("--until", metavar="TIME", help="It ends by itself then: 2026-12-01T09:00Z.")
@with_settings
def pause(settings: Settings, queue: str, reason: str | None, until: str | None) -> None:
    """Let the workers of QUEUE finish and stand still. Written into the file; messages wait in the queue.

    \b
      reconciler pause emails --reason "the mail server moves" --until 2026-12-01T09:00Z
    """
    from reconciler.client import name_in_path

    given = {"reason": reason, "until": until}
    body = {key: value for key, value in given.items() if value is not None}
    change(settings, "POST", f"/queue/pause/{name_in_path(queue)}", body)


@cli.command()
@click.argument("queue")
@with_settings
def resume(settings: Settings, queue: str) -> None:
    """End the pause of QUEUE. Written into the file."""
    from reconciler.client import name_in_path

    change(settings, "POST", f"/queue/resume/{name_in_path(queue)}", {})


@cli.command()
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


def change(
    settings: Settings, method: str, path: str, body: dict[str, Any] | None, say: bool = True, **query: str
) -> dict[str, Any]:
    """One write; says what came of it. Exits with 1 if the state was not reached in time."""
    from reconciler.client import Client
    from reconciler.show import waiting

    with waiting("waiting for it to be so"):
        answer = Client(settings).call(method, path, json=body, params=query)
    if say:
        click.echo(answer["message"])
    if answer.get("converged") is False:
        sys.exit(1)
    return answer


@cli.command()
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


@cli.command()
def schema() -> None:
    """Print the JSON Schema of queues.yaml, for editors."""
    from reconciler.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


def main() -> None:
    click.UsageError.exit_code = 1  # 2 says "there are changes" or "not well", and a typing error must not
    try:
        cli(prog_name="reconciler")
    except BrokenPipeError:  # `reconciler logs … | head` has seen enough
        sys.stderr.close()
        sys.exit(0)
