"""The shell scripts behind `make up` and `make test`, in a world with only the commands that a test puts there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
BASICS = ("sh", "dirname", "cat", "mktemp", "rm", "id", "env", "chmod", "tee", "touch")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder for PATH with nothing but the basics."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BASICS:
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


def command(world: Path, name: str, script: str) -> None:
    path = world / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(world: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(world), "HOME": str(world.parent), "RABBITMQ_HOME": str(world / "nowhere")}
    line = ["sh", str(SCRIPTS / script), *arguments]
    return subprocess.run(line, env=env, cwd=world.parent, capture_output=True, text=True, timeout=60)


def test_a_broker_that_is_there_is_left_alone(world: Path) -> None:
    command(world, "rabbitmq-server", "")
    command(world, "apt-get", "echo called >&2; exit 1")
    done = run(world, "install-broker.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_it_may_not_install_one_line_names_both_ways_out(world: Path) -> None:
    done = run(world, "install-broker.sh")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get install rabbitmq-server" in done.stderr
    assert "AMQP_URL=" in done.stderr


def test_an_ordinary_user_without_sudo_may_not_install(world: Path) -> None:
    (world / "id").unlink()
    command(world, "id", "echo 1000")
    command(world, "apt-get", "echo called >&2; exit 1")
    command(world, "sudo", "echo 'a password is required' >&2; exit 1")
    done = run(world, "install-broker.sh")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "AMQP_URL=" in done.stderr


def test_a_python_that_is_too_old(world: Path) -> None:
    command(world, "python3", "exit 1")
    done = run(world, "venv.sh", ".venv/.up", "")
    assert done.returncode == 1
    assert done.stderr == "Python 3.11 or newer is needed (set PYTHON=/path/to/python3.11)\n"


def test_a_python_without_venv_names_the_package(world: Path) -> None:
    command(world, "python3", 'case "$2" in *ensurepip*) exit 1;; *print*) echo python3.13-venv;; esac')
    done = run(world, "venv.sh", ".venv/.up", "")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "python3 cannot make virtual environments: run 'sudo apt-get install python3.13-venv'"
    ]


def test_without_rabbitmq_4_the_tests_are_told_and_go_on(world: Path) -> None:
    for name in ("uname", "mkdir"):
        (world / name).symlink_to(shutil.which(name) or name)
    done = run(world, "install-broker4.sh")
    assert done.returncode == 0
    assert "the tests on RabbitMQ 4 and on a cluster of it will be skipped" in done.stderr
    assert "sudo apt-get install mmdebstrap" in done.stderr


def test_packages_that_cannot_be_fetched_leave_no_half_made_rabbitmq_4(world: Path) -> None:
    for name in ("uname", "mkdir", "tail", "chown"):
        (world / name).symlink_to(shutil.which(name) or name)
    (world / "id").unlink()
    command(world, "id", "echo 0")
    command(world, "apt-get", "")
    command(world, "mmdebstrap", "echo 'no route to host'; exit 1")
    done = run(world, "install-broker4.sh")
    assert done.returncode == 0
    assert "no route to host" in done.stderr
    assert "skipped: Debian's packages could not be fetched" in done.stderr
    assert list((world.parent / ".cache" / "queue-reconciler").iterdir()) == []
