"""Logs over the web while a real worker's files are rotated, packed and taken over by its successor."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from reconciler.supervisor.logfiles import append_line, exit_line
from state.processes import Pool
from tests.journal.logs import packed, rotate
from tests.system import System
from tests.waiting import eventually
from tests.web.test_pages import SAY, TALKER, browser, line, page, say, view_url, written

__all__ = ["browser", "page"]


@pytest.fixture
def talker(live_system: System) -> System:
    live_system.worker("say", SAY)
    live_system.write(TALKER)
    live_system.settled()
    return live_system


def the_worker(system: System) -> dict[str, Any]:
    found = system.list_workers(queue_name="talk")
    assert found
    return found[0]


def log_of(system: System) -> Path:
    return Path(system.get(the_worker(system)["log_url"]).json()["log_file"])


def turn_over(system: System, pack: bool = False) -> None:
    """What rotation does to the log of the one worker."""
    path, pid = log_of(system), the_worker(system)["pid"]
    older = rotate(path)
    os.kill(pid, signal.SIGHUP)
    eventually(path.exists)
    if pack:
        eventually(lambda: packed(older) == 0)  # once the worker has let go of it


def test_pages_downloads_and_filters_over_all_files(talker: System) -> None:
    url = the_worker(talker)["log_url"]
    before = None
    for number in range(4):
        say(talker, f"round{number}", lines=100)
        written(talker, f"line 99 of round{number}")
        before = before or talker.get(url, lines=1).json()
        turn_over(talker, pack=number % 2 == 0)
    page_ = talker.get(url, lines=10_000).json()
    ours = [text for text in page_["lines"] if " of round" in text]
    assert [text.split()[-3:] for text in ours] == [[str(n), "of", f"round{r}"] for r in range(4) for n in range(100)]
    assert page_["offset"] == 0
    assert page_["ends"] == sorted(page_["ends"])
    assert talker.get(url, lines=1, before=before["ends"][-1]).json()["lines"] == before["lines"]
    raw = talker.get(url.replace("/logs/workers/logs/", "/logs/workers/raw/"))
    assert raw.text.splitlines() == page_["lines"]
    assert "attachment" in raw.headers["content-disposition"]
    found = talker.get(url, lines=1000, q="of ROUND0").json()
    assert len(found["lines"]) == 100
    resumed = streamed(talker, found["ends"][-2], 3)
    assert resumed[0][1].endswith("line 99 of round0")


def streamed(system: System, after: int, count: int) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    pid, number = the_worker(system)["pid"], 0
    headers = {"Last-Event-ID": str(after)}
    with httpx.stream("GET", f"{system.url}/logs/workers/stream_logs/{pid}", headers=headers, timeout=60) as answer:
        for text in answer.iter_lines():
            if text.startswith("id: "):
                number = int(text[4:])
            elif text.startswith("data: "):
                found.append((number, text[6:]))
            if len(found) == count:
                return found
    raise AssertionError(found)


def test_lines_of_a_slot_across_its_restarts(talker: System) -> None:
    say(talker, "first", lines=3)
    written(talker, "line 2 of first")
    turn_over(talker, pack=True)
    first = the_worker(talker)
    os.kill(first["pid"], signal.SIGKILL)
    eventually(lambda: the_worker(talker)["pid"] not in (None, first["pid"]))
    eventually(lambda: the_worker(talker)["state"] == "ready")
    say(talker, "second", lines=3)
    written(talker, "line 2 of second")

    def search(**query: object) -> list[dict[str, Any]]:
        def whole() -> dict[str, Any]:  # a busy machine may not get through them in time
            answer = talker.get("/logs/search", **query)
            assert answer.status_code == 200, answer.text
            assert answer.json()["partial"] is False
            return dict(answer.json())

        return list(eventually(whole)["lines"])

    lines = search(queue_name="talk", worker_name="say", slot=0, q="line 2 of")
    assert [(one["pid"], one["line"].split()[-1]) for one in lines] == [
        (first["pid"], "first"),
        (the_worker(talker)["pid"], "second"),
    ]
    assert all(one["slot"] == 0 and one["worker_name"] == "say" and one["queue_name"] == "talk" for one in lines)
    for one in lines:
        again = talker.get(f"/logs/workers/logs/{one['pid']}", lines=1, before=one["offset"]).json()
        assert again["lines"] == [one["line"]]
    everything = search(queue_name="talk", lines=1000)
    assert [one["time"] for one in everything] == sorted(one["time"] for one in everything)
    since = lines[1]["time"]
    assert all(one["pid"] != first["pid"] for one in search(since=since, q=" of "))
    assert [one["pid"] for one in search(until=lines[0]["time"], lines=1, q="of first")] == [first["pid"]]
    assert search(pid=first["pid"], q="of second") == []
    assert search(slot=7) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"queue_name": "none"}, 404),
        ({"since": "soon"}, 400),
        ({"until": "-5"}, 400),
        ({"slot": "x"}, 400),
        ({"pid": "-1"}, 400),
        ({"lines": 0}, 400),
        ({"level": "LOUD"}, 400),
    ],
)
def test_what_cannot_be_searched(live_system: System, query: dict[str, object], status: int) -> None:
    answer = live_system.get("/logs/search", **query)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_the_viewer_over_rotation(talker: System, page: Page) -> None:
    path, pid = log_of(talker), the_worker(talker)["pid"]
    say(talker, "old", lines=700)
    written(talker, "line 699 of old")
    turn_over(talker, pack=True)
    say(talker, "middle", lines=5)
    written(talker, "line 4 of middle")
    page.goto(view_url(talker))
    expect(line(page, "line 4 of middle")).to_be_in_viewport()
    for number in range(3):
        turn_over(talker)
        say(talker, f"after{number}", lines=5)
        expect(line(page, f"line 4 of after{number}")).to_be_in_viewport()
    expect(page.locator("#state")).to_have_text("Live")

    def at_the_beginning() -> bool:
        page.locator("#log").evaluate("log => log.scrollTop = 0")
        page.wait_for_timeout(50)
        return page.locator("#older").inner_text() == "The log begins here"

    eventually(at_the_beginning)
    texts = page.locator(".ln").all_inner_texts()
    told = [found[0] for text in texts if (found := re.search(r"line \d+ of \w+", text))]
    rounds = [("old", 700), ("middle", 5), ("after0", 5), ("after1", 5), ("after2", 5)]
    assert told == [f"line {n} of {name}" for name, count in rounds for n in range(count)]
    expect(page.locator(".life")).to_have_count(1)
    append_line(path, exit_line(Pool("talk", "say"), 0, pid, "exit code 3", 1764032524.0, abnormal=True))
    page.keyboard.press("End")
    expect(page.locator(".life.l-warn")).to_be_in_viewport()
    page.goto(view_url(talker) + "#" + str(link_of(talker, "line 650 of old")))
    expect(page.locator(".marked")).to_contain_text("line 650 of old")


def link_of(system: System, text: str) -> int:
    found = system.get(the_worker(system)["log_url"], q=text, lines=1).json()
    return int(found["ends"][0])
