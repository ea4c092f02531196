"""The command line: `reconciler COMMAND`, or `python -m reconciler COMMAND`."""

from __future__ import annotations

import gc
import sys
from typing import Any

import click

from reconciler import __version__
from reconciler.commands import daemon, deadletters, file, history, once, queues, takeover, why, workers

LATER = {"token"}


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


# In the order of use, which is the order of `--help`.
for room in (daemon, file, once, takeover, queues, deadletters, workers, why, history):
    for command in room.COMMANDS:
        cli.add_command(command)


def main() -> None:
    # A file of 10,000 queues becomes a million objects that live on: looking for cycles in them every 700 takes as long
    # as making them.
    gc.set_threshold(100_000, 20, 100)
    click.UsageError.exit_code = 1  # 2 says "there are changes" or "not well", and a typing error must not
    try:
        cli(prog_name="reconciler")
    except BrokenPipeError:  # `reconciler logs … | head` has seen enough
        sys.stderr.close()
        sys.exit(0)
