"""The settings as options of a command: each an environment variable, each a flag with the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import click

from reconciler.settings import Settings


def option(name: str, variable: str, text: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(name, envvar=variable, show_envvar=True, help=text, **more)


def path_within(_: click.Context, option: click.Parameter, value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.name or not value.isprintable():
        raise click.BadParameter(f"{value!r} is no path within a repository (such as live/queues.yaml)", param=option)
    return str(path)


def branch_name(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    name = (value or "").removeprefix("refs/heads/")
    if not is_branch(name):
        raise click.BadParameter(f"{value!r} is no name of a branch (such as main)", param=option)
    return name or None


# What `git check-ref-format` refuses in a name.
NOT_IN_BRANCH = ("..", "//", "/.", "@{", ".lock/", *" ~^:?*[\\")


def is_branch(name: str) -> bool:
    ends = name.startswith(("-", "/", ".")) or name.endswith(("/", ".", ".lock"))
    return name.isprintable() and not ends and not any(part in name for part in NOT_IN_BRANCH)


PORT = click.IntRange(0, 65535)
SECONDS = click.FloatRange(0.1, 86400)
OPTIONS = [
    option("--file", "RECONCILER_FILE", "The desired state.  [default: queues.yaml]"),
    option("--workers", "RECONCILER_WORKERS", "Worker modules.  [default: workers/ beside the file]"),
    option("--state", "RECONCILER_STATE", "Ledger, records, logs, broker.  [default: var/ beside the file]"),
    option("--host", "RECONCILER_HOST", "Where API and pages listen.", default="127.0.0.1", show_default=True),
    option("--port", "RECONCILER_PORT", "0 picks a free one.", default=5000, type=PORT, show_default=True),
    option("--resync", "RECONCILER_RESYNC", "Seconds between looks.", default=30.0, type=SECONDS, show_default=True),
    option("--amqp-url", "AMQP_URL", "The broker.  [default: the embedded broker]"),
    option("--management-url", "MANAGEMENT_URL", "Its HTTP API.  [default: the AMQP host, port 15672]"),
    option(
        "--on-exit",
        "RECONCILER_ON_EXIT",
        "At the end of `run`: workers finish and stop, or go on for the next daemon.",
        default="drain",
        type=click.Choice(["drain", "leave"]),
        show_default=True,
    ),
    option(
        "--git",
        "RECONCILER_GIT",
        "commit: each write of a file in a git work tree is a commit of that file alone.",
        default="off",
        type=click.Choice(["off", "commit"]),
        show_default=True,
    ),
    option("--git-url", "RECONCILER_GIT_URL", "Follow a branch of this repository, and push writes to it."),
    option(
        "--git-branch", "RECONCILER_GIT_BRANCH", "The branch.  [default: the repository's own]", callback=branch_name
    ),
    option(
        "--git-path",
        "RECONCILER_GIT_PATH",
        "The file in it.",
        default="queues.yaml",
        show_default=True,
        callback=path_within,
    ),
    option(
        "--git-interval",
        "RECONCILER_GIT_INTERVAL",
        "Seconds between looks at the remote.",
        default=60.0,
        type=SECONDS,
        show_default=True,
    ),
    option("--git-secret", "RECONCILER_GIT_SECRET", "Of the forge's push hook, POST /hooks/git."),
    option(
        "--git-verify",
        "RECONCILER_GIT_VERIFY",
        "Take signed commits only: yes (as git is configured), or a file of allowed SSH signers.",
    ),
]
NAMES = ["file", "workers", "state", "host", "port", "resync", "amqp_url", "management_url", "on_exit"]
NAMES += ["git", "git_url", "git_branch", "git_path", "git_interval", "git_secret", "git_verify"]


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command these options and, as its first argument, the settings that they make."""

    def collected(**options: Any) -> Any:
        chosen = {name: options.pop(name) for name in NAMES}
        return command(Settings.build(**chosen), **options)

    collected.__name__, collected.__doc__ = command.__name__, command.__doc__
    collected.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    for add in reversed(OPTIONS):
        collected = add(collected)
    return collected
