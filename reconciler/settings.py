"""The daemon's settings: environment variables, or the flags of `reconciler run` with the same meaning."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import workers


@dataclass(frozen=True)
class Followed:
    """The branch of a remote repository that the file comes from. `interval` is in seconds."""

    url: str
    branch: str | None = None  # the repository's default
    path: str = "queues.yaml"
    interval: float = 60.0
    workers_here: Path = Path("workers")  # for a repository that brings none
    signers: str | None = None  # None: signatures are not checked; "": as git is configured; else a file of signers


@dataclass(frozen=True)
class Settings:
    """Where everything is. `amqp_url` None means the embedded broker; `resync` is in seconds."""

    file: Path = Path("queues.yaml")
    workers: Path = Path("workers")
    state: Path = Path("var")
    host: str = "127.0.0.1"
    port: int = 5000
    resync: float = 30.0
    amqp_url: str | None = None
    management_url: str | None = None
    on_exit: str = "drain"  # or `leave`: workers and embedded broker go on, and the next daemon takes them over
    git: str = "off"  # or `commit`: each write is one
    git_secret: str | None = None
    followed: Followed | None = None

    @classmethod
    def build(
        cls,
        file: str | None = None,
        workers: str | None = None,
        state: str | None = None,
        host: str = "127.0.0.1",
        port: int = 5000,
        resync: float = 30.0,
        amqp_url: str | None = None,
        management_url: str | None = None,
        on_exit: str = "drain",
        git: str = "off",
        git_url: str | None = None,
        git_branch: str | None = None,
        git_path: str = "queues.yaml",
        git_interval: float = 60.0,
        git_secret: str | None = None,
        git_verify: str | None = None,
    ) -> Settings:
        """Fills in what is beside the file by default. The file itself may be a link: it is not resolved.

        A branch that is followed has a site of its own in the state folder, with the file and its `workers/`.
        """
        path = Path(file or "queues.yaml").absolute()
        folder = Path(state).absolute() if state else path.parent / "var"
        site = folder / "git" / "site"
        return cls(
            file=site / PurePosixPath(git_path).name if git_url and not file else path,
            workers=Path(workers).absolute() if workers else (site if git_url else path.parent) / "workers",
            state=folder,
            host=host,
            port=port,
            resync=resync,
            amqp_url=amqp_url or None,
            management_url=management_url or None,
            on_exit=on_exit,
            git=git,
            git_secret=git_secret or None,
            followed=Followed(
                url=absolute_if_local(git_url),
                branch=git_branch or None,
                path=str(PurePosixPath(git_path)),
                interval=git_interval,
                workers_here=path.parent / "workers",
                signers=signers_of(git_verify),
            )
            if git_url
            else None,
        )

    @property
    def broker_folder(self) -> Path:
        return self.state / "broker"


def absolute_if_local(url: str) -> str:
    """git runs in another folder than we were started in."""
    is_local = "://" not in url and ":" not in url.split("/")[0]
    return str(Path(url).absolute()) if is_local else url


def signers_of(verify: str | None) -> str | None:
    if not verify or verify.lower() in ("no", "off", "false", "0"):
        return None
    return "" if verify.lower() in ("yes", "on", "true", "1") else str(Path(verify).absolute())


@dataclass(frozen=True)
class Runtime:
    """How Python workers are run, and which broker every worker is given."""

    workers: Path
    amqp_url: str
    python: str = sys.executable

    @property
    def entry(self) -> str:
        """The script that a worker process runs; by its path, so that no other package `workers` can shadow it."""
        return str(Path(workers.__path__[0]) / "__main__.py")
