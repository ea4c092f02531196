"""What the README shows is what happens: its file is valid, its worker runs, its requests get the answers it gives."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from state.reader import parse
from tests.system import System
from tests.waiting import eventually

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@dataclass(frozen=True)
class Curl:
    """One request of the README and the answer that stands below it."""

    method: str
    path: str
    body: object
    status: int
    keys: list[str]


def curls() -> list[Curl]:
    found = re.findall(r"^(curl .*)\n# (\d+) (.*(?:\n# .*)*)", README, flags=re.MULTILINE)
    assert len(found) > 6
    return [curl(command, int(status), answer) for command, status, answer in found]


def curl(command: str, status: int, answer: str) -> Curl:
    words = shlex.split(command)[1:]
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
    path = next(word for word in words if word.startswith("127.0.0.1:5000")).removeprefix("127.0.0.1:5000")
    return Curl(method, path, body, status, re.findall(r'[{,] ?"(\w+)":', answer.split("; ")[0]))


def test_the_requests_get_the_answers_beside_them(live_system: System) -> None:
    for request in curls():
        answer = live_system.request(request.method, request.path, json=request.body)
        assert answer.status_code == request.status, (request, answer.text)
        assert all(f'"{key}":' in answer.text for key in request.keys), (request, answer.text)


def test_the_files_are_valid() -> None:
    for text in blocks("yaml"):
        parse(text.encode())


def test_the_worker_runs(live_system: System) -> None:
    source = next(text for text in blocks("python") if "SendEmail" in text)
    live_system.worker("send_email", source)
    live_system.write("version: 1\nqueues: {emails: {workers: {send_email: 1}}}\n")
    live_system.settled()
    assert live_system.publish("emails", {"to": "ann"}).status_code == 200
    (worker,) = live_system.list_workers()
    eventually(lambda: "'to': 'ann'" in str(live_system.get(worker["log_url"]).json()["lines"]))


def test_every_command_of_the_table_exists(system: System) -> None:
    table = README.partition("## Command line")[2].partition("Settings are")[0]
    names = {cell.split()[0] for cell in re.findall(r"`([a-z]+[^`]*)`", table.replace(".venv/bin/reconciler", ""))}
    names -= {"make", "--help"}
    for name in names:
        assert system.cli(name, "--help").returncode == 0, name
