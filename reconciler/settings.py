"""The daemon's settings: environment variables, or the flags of `reconciler run` with the same meaning."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import workers


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

    @classmethod
    def build(
        cls,
        file: str = "queues.yaml",
        workers: str | None = None,
        state: str | None = None,
        host: str = "127.0.0.1",
        port: int = 5000,
        resync: float = 30.0,
        amqp_url: str | None = None,
        management_url: str | None = None,
        on_exit: str = "drain",
    ) -> Settings:
        """Fills in what is beside the file by default. The file itself may be a link: it is not resolved."""
        path = Path(file).absolute()
        return cls(
            file=path,
            workers=Path(workers).absolute() if workers else path.parent / "workers",
            state=Path(state).absolute() if state else path.parent / "var",
            host=host,
            port=port,
            resync=resync,
            amqp_url=amqp_url or None,
            management_url=management_url or None,
            on_exit=on_exit,
        )

    @property
    def broker_folder(self) -> Path:
        return self.state / "broker"


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
