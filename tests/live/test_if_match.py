"""`If-Match`: a write that only counts if the file still is as the caller saw it; without it all writes count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from state.reader import parse, revision_of
from tests.nodes import TestNode
from tests.system import System

WRITES = [
    ("POST", "/queue/create", {"queue_name": "new"}),
    ("POST", "/worker/scale/known", {"count": 1, "worker_name": "echo"}),
    ("POST", "/queue/clear/known", {}),
    ("POST", "/queue/pause/known", {"reason": "moving"}),
    ("POST", "/queue/resume/known", {}),
    ("DELETE", "/queue/delete/known?force=true", None),
]
# What a daemon that was killed while it wrote leaves in the two folders.
LEFT_BEHIND = (".queues.yaml.x.reconciler.part", "var/.ledger.json.x.new")
TEXT = "version: 1\nqueues:\n  known:\n    workers: {echo: 0}\n"


@pytest.fixture(scope="module")
def site(broker: TestNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    vhost = broker.make_vhost("if-match")
    made = System(tmp_path_factory.mktemp("if-match") / "site", vhost.amqp_url, vhost.management_url)
    made.write(TEXT)
    made.state.mkdir(mode=0o700)
    for left in LEFT_BEHIND:
        (made.folder / left).write_text("version")
    made.start()
    yield made
    made.stop()
    broker.drop_vhost("if-match")


@pytest.fixture
def revision(site: System) -> str:
    """The revision of the file as each test finds it."""
    site.write(TEXT)
    site.settled()
    return revision_of(site.file.read_bytes())


def send(site: System, write: tuple[str, str, Any], if_match: str) -> httpx.Response:
    method, path, body = write
    return site.request(method, path, json=body, headers={"If-Match": if_match})


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[1])
def test_a_file_that_moved_on_is_412_and_nothing_is_done(
    site: System, revision: str, write: tuple[str, str, Any]
) -> None:
    site.write(TEXT + "# somebody was here\n")
    moved = revision_of(site.file.read_bytes())
    answer = send(site, write, f'"{revision}"')
    assert (answer.status_code, answer.json()["revision"]) == (412, moved)
    assert moved in answer.json()["error"]
    assert site.text == TEXT + "# somebody was here\n"
    assert site.get("/status").json()["queues"].keys() == {"known"}


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[1])
def test_the_revision_that_is_there_is_taken_and_the_answer_names_the_next(
    site: System, revision: str, write: tuple[str, str, Any]
) -> None:
    answer = send(site, write, f'"{revision}"')
    assert answer.is_success, answer.text
    assert answer.json()["revision"] == revision_of(site.file.read_bytes())
    assert answer.headers["etag"] == f'"{answer.json()["revision"]}"'


def test_what_a_killed_daemon_left_behind_is_gone(site: System) -> None:
    assert not [left for left in LEFT_BEHIND if (site.folder / left).exists()]


def test_status_tells_the_revision_to_send(site: System, revision: str) -> None:
    status = site.get("/status")
    assert (status.json()["revision"], status.headers["etag"]) == (revision, f'"{revision}"')
    assert send(site, WRITES[1], status.headers["etag"]).status_code == 200


@pytest.mark.parametrize("form", ["{}", '"{}"', 'W/"{}"', '"other", "{}"', "other,{}", '"a" , W/"{}" ,', "*"])
def test_a_revision_may_be_written_in_each_way_that_clients_have(site: System, revision: str, form: str) -> None:
    assert send(site, WRITES[1], form.format(revision)).status_code == 200


@pytest.mark.parametrize("form", ["other", '"other"', '"{}x"', 'W/"other", "else"'])
def test_another_revision_is_none(site: System, revision: str, form: str) -> None:
    assert send(site, WRITES[1], form.format(revision)).status_code == 412
    assert site.text == TEXT


@pytest.mark.parametrize("form", ["", ",", '""', '"', 'W/"', "a b"])
def test_what_names_no_revision_is_400(site: System, revision: str, form: str) -> None:
    answer = send(site, WRITES[1], form)
    assert (answer.status_code, "If-Match" in answer.json()["error"]) == (400, True)
    assert site.text == TEXT


def test_a_star_wants_a_file_to_be_there(site: System, revision: str) -> None:
    site.file.unlink()
    answer = send(site, WRITES[0], "*")
    assert (answer.status_code, answer.json()["revision"]) == (412, None)
    assert not site.file.exists()


def test_of_many_that_saw_the_same_revision_one_writes(site: System, revision: str) -> None:
    answers = at_once(site, 20, {"If-Match": f'"{revision}"'})
    done, *refused = sorted(answer.status_code for answer in answers)
    assert (done in (201, 202), refused) == (True, [412] * 19)
    assert len(parse(site.file.read_bytes()).queues) == 2


def test_the_command_line_has_it_too(site: System, revision: str) -> None:
    late = site.cli("scale", "known", "echo", "1", "--if-match", "0" * 64)
    assert (late.returncode, revision in late.stderr) == (1, True)
    assert site.cli("scale", "known", "echo", "1", "--if-match", revision).returncode == 0
    assert "echo: 1" in site.text
    wrong = site.cli("pause", "known", "--if-match", "what is this")
    assert (wrong.returncode, "is no revision" in wrong.stderr) == (1, True)


def test_of_fifty_that_name_none_all_do(site: System, revision: str) -> None:
    # the last test here: the guard against mass deletion keeps these queues
    answers = at_once(site, 50, {})
    assert {answer.status_code for answer in answers} <= {201, 202}
    assert parse(site.file.read_bytes()).queues.keys() == {"known", *(f"q{n}" for n in range(50))}


def at_once(site: System, count: int, headers: dict[str, str]) -> list[httpx.Response]:
    """So many queues made at the same time, each by a connection of its own."""

    async def everyone() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=site.url, timeout=300, trust_env=False) as http:
            bodies = ({"queue_name": f"q{n}"} for n in range(count))
            create = "/queue/create?wait=0"
            return await asyncio.gather(*(http.post(create, json=body, headers=headers) for body in bodies))

    return asyncio.run(everyone())
