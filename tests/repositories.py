"""Git repositories for tests: a work tree, and a bare one as a remote, driven with the real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


class Repository:
    """A repository in `folder`; its commands raise if git fails."""

    def __init__(self, folder: Path, bare: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "main", *(["--bare"] if bare else []))
        self("config", "user.name", "Ann")
        self("config", "user.email", "ann@example.org")

    @classmethod
    def clone(cls, remote: Repository, folder: Path) -> Repository:
        subprocess.run(["git", "clone", "-q", remote.folder, folder], check=True, capture_output=True)
        return cls(folder)

    def __call__(self, *words: str, **more: str) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | more
        done = subprocess.run(["git", *words], cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"git {' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def write(self, path: str, text: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def commit(self, message: str = "edit", **files: str | bytes) -> str:
        """Writes `files`, whose names have `__` for a slash, commits everything, and returns the commit."""
        for name, text in files.items():
            self.write(name.replace("__", "/").replace("_yaml", ".yaml").replace("_py", ".py"), text)
        self("add", "-A")
        self("commit", "-q", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self("rev-parse", "HEAD")

    def push(self, *words: str) -> str:
        self("push", "-q", *words, "origin", "HEAD")
        return self.head

    def show(self, path: str = "queues.yaml", commit: str = "HEAD") -> str:
        return self("show", f"{commit}:{path}")

    def log(self, form: str = "%s", *words: str) -> list[str]:
        return self("log", f"--format={form}", *words).splitlines()
