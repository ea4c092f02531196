"""The peers, installed once into a folder of their own that git ignores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parent.parent / ".peers"
PACKAGES = {"supervisord": "supervisor", "circus": "circus", "pm2": "pm2"}
PROGRAMS = {
    "supervisord": "supervisord/bin/supervisord",
    "circus": "circus/bin/circusd",
    "pm2": "pm2/node_modules/pm2/package.json",
}


class NotThere(Exception):
    """A peer that cannot be installed here; says why."""


def installed(peer: str) -> Path:
    """Its folder, made on first use. Raises NotThere."""
    PEERS.mkdir(exist_ok=True)
    (PEERS / ".gitignore").write_text("*\n")
    folder = PEERS / peer
    if not (PEERS / PROGRAMS[peer]).exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {peer} into {folder}", file=sys.stderr)
        try:
            _npm(folder, peer) if peer == "pm2" else _pip(folder, peer)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotThere(f"{peer} cannot be installed: {error}") from error
    return folder


def _pip(folder: Path, peer: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "-q", PACKAGES[peer]], check=True)


def _npm(folder: Path, peer: str) -> None:
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(["npm", "install", "--prefix", str(folder), *quiet, PACKAGES[peer]], check=True)
