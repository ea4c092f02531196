"""The two pages in a real browser, on a running daemon and a real broker: what a person sees and does."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.system import System
from tests.waiting import eventually

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SOON = 30_000  # milliseconds
PHONE = {"width": 360, "height": 740}
SMALLEST = {"width": 320, "height": 640}

# Writes what it is told to, as bytes, past all formatting.
SAY = """\
import json
import os

from .base import BaseWorker


class Say(BaseWorker):
    def process_message(self, ch, method, properties, body):
        message = json.loads(body)["message"]
        for number in range(message.get("lines", 0)):
            self.logger.info("line {} of {}", number, message["name"])
        os.write(1, bytes.fromhex(message.get("raw", "")))
        return True
"""
TALKER = "version: 1\nqueues:\n  talk:\n    workers:\n      say: 1\n"

# Byte sequences that have harmed log viewers, each a line.
HOSTILE = [
    b"<script>document.title = 'owned'; alert(1)</script>",
    b"<img src=x onerror=alert(1)><b id=injected>bold</b>",
    b"\x1b]0;owned\x07 title \x1b[2J\x1b[H clear \x00 nul",
    "right to left \u202egnp.exe\u202c".encode(),
    b"invalid \xff\xfe utf-8",
    b"event: end",
    b"data: x\rid: 1\rcarriage",
    b"\x1b[31mred\x1b[0m \x1b[38;5;46mgreen\x1b[0m \x1b[38;2;1;2;250mblue\x1b[0m plain",
    b"x" * 1_048_576,
]


# -- a browser that tells of what must never happen ---------------------------------------------------------------


def chromium() -> str:
    for name in CHROMIUM:
        if path := shutil.which(name) or (Path("/usr/bin", name).exists() and f"/usr/bin/{name}"):
            return path
    pytest.skip(f"no browser on this machine (one of {', '.join(CHROMIUM)})")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=90_000)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which a script that fails, a dialog or a breach of the content policy fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(SOON)
    expect.set_options(timeout=SOON)
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda message: seen.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert not seen


@pytest.fixture
def system(live_system: System) -> System:
    live_system.worker("say", SAY)
    return live_system


def row(page: Page, queue: str) -> Locator:
    return page.locator(".queue").filter(has=page.locator(".queue-name").get_by_text(queue, exact=True))


def opened(page: Page, queue: str) -> Locator:
    found = row(page, queue)
    found.get_by_role("button").first.click()
    return found


def sideways(page: Page) -> int:
    """Pixels by which the page is wider than the screen."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


# -- the dashboard ------------------------------------------------------------------------------------------------


def test_an_empty_file_is_met_with_what_to_write(system: System, page: Page) -> None:
    page.goto(system.url)
    expect(page.get_by_role("heading", name="No queues yet")).to_be_visible()
    example = page.locator("#start-yaml").inner_text()
    system.write(example + "\n")
    expect(row(page, "hello")).to_contain_text("2/2")
    expect(page.get_by_role("heading", name="No queues yet")).to_be_hidden()


def test_a_paused_queue_is_shown_as_paused_and_not_as_broken(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  emails:\n    workers:\n      echo: 2\n")
    system.settled()
    page.goto(system.url)
    expect(row(page, "emails")).to_contain_text("Synced")
    system.post("/queue/pause/emails", {"reason": "the <b>mail</b> server moves"})
    emails = row(page, "emails")
    expect(emails).to_contain_text("Paused")
    expect(emails).to_contain_text(re.compile(r"paused (just now|\d+ s ago): the <b>mail</b> server moves"))
    expect(page.locator("#state")).to_have_text("Synced")
    expect(page.locator("#count-problems")).to_have_text("0")
    expect(opened(page, "emails")).to_contain_text("paused, 2 when it is resumed")
    system.post("/queue/resume/emails")
    expect(emails).to_contain_text("echo2/2")
    expect(emails).to_contain_text("Synced")


def test_an_opened_queue_tells_its_dead_letters(system: System, page: Page) -> None:
    retry = "retry: {attempts: 2, delays: [10ms]}"
    system.worker("fail", SAY.replace("class Say", "class Fail").replace("message =", "raise LookupError;"))
    system.write(f"version: 1\nqueues:\n  orders: {{{retry}, workers: {{fail: 1}}}}\n  plain: {{}}\n")
    system.settled()
    system.publish("orders", {"name": "x"})
    page.goto(system.url)
    link = opened(page, "orders").get_by_role("link", name="1 in orders.dead")
    expect(link).to_be_visible()
    groups = str(link.get_attribute("href"))
    eventually(lambda: [group["exception"] for group in system.get(groups).json()["groups"]] == ["LookupError"])
    expect(opened(page, "plain").get_by_text("Dead letters")).to_be_hidden()
    page.set_viewport_size(PHONE)
    eventually(lambda: sideways(page) == 0)


def test_an_autoscaled_pool_shows_its_number_and_why_in_place_of_the_buttons(system: System, page: Page) -> None:
    scale = "{min: 1, max: 4, backlog: 100}"
    system.write(f"version: 1\nqueues:\n  emails:\n    workers:\n      echo: {{autoscale: {scale}}}\n      say: 1\n")
    system.settled()
    page.goto(system.url)
    emails = opened(page, "emails")
    expect(emails).to_contain_text("1 of 1 ready · autoscaled 1–4: backlog 0 / 100, at least 1")
    expect(emails.get_by_label("Workers of say")).to_be_visible()
    expect(emails.get_by_label("Workers of echo")).to_be_hidden()


def test_queues_are_listed_and_a_changed_file_shows_without_a_reload(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  emails:\n    type: quorum\n    workers:\n      echo: 2\n  audit: {}\n")
    page.goto(system.url)
    expect(row(page, "emails")).to_contain_text("echo2/2")
    expect(row(page, "emails")).to_contain_text("quorum")
    expect(row(page, "audit")).to_contain_text("Synced")
    expect(page.locator("#state")).to_have_text("Synced")
    page.evaluate("window.sameDocument = true")
    system.write(system.text + "  invoices: {}\n")
    expect(row(page, "invoices")).to_contain_text("Synced")
    system.publish("invoices", "one")
    expect(row(page, "invoices").locator(".figure-ready")).to_contain_text("1")
    assert page.evaluate("window.sameDocument") is True


def test_a_row_is_changed_in_place(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  b:\n    workers:\n      echo: 1\n")
    page.goto(system.url)
    opened(page, "b")
    expect(row(page, "b").get_by_role("table")).to_be_visible()
    page.evaluate("document.querySelector('.queue').mark = document.activeElement.mark = 'same'")
    system.write("version: 1\nqueues:\n  a: {}\n  b:\n    workers:\n      echo: 3\n")
    expect(row(page, "b")).to_contain_text("3 of 3 ready")
    expect(row(page, "a")).to_be_visible()
    assert row(page, "b").evaluate("row => row.mark") == "same"
    assert page.evaluate("document.activeElement.mark") == "same"


def test_scaling_by_button_changes_that_number_in_the_file(system: System, page: Page) -> None:
    before = "version: 1\nqueues:\n  emails:   # for customers\n    workers:\n      echo: 1  # one is enough\n"
    system.write(before)
    page.goto(system.url)
    emails = opened(page, "emails")
    more = emails.get_by_role("button", name="One echo more")
    more.click()
    more.click()
    expect(emails.locator(".stepper-said")).to_contain_text("3 of 3 workers")  # first: it goes away by itself
    expect(emails).to_contain_text("3 of 3 ready")
    assert system.text == before.replace("echo: 1", "echo: 3")
    eventually(lambda: len(system.list_workers(state="ready")) == 3)


def test_a_number_that_is_refused_is_answered_beside_it(system: System, page: Page) -> None:
    before = "version: 1\nqueues:\n  emails:\n    workers:\n      echo: 1\n"
    system.write(before)
    page.goto(system.url)
    number = opened(page, "emails").get_by_role("textbox", name="Workers of echo")
    number.fill("999999")
    number.press("Enter")
    expect(row(page, "emails").locator(".stepper-said")).to_contain_text("whole number from 0 to")
    expect(number).to_have_value("1")
    assert system.text == before


def test_a_fault_in_the_file_is_shown_with_its_place(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  emails: {}\n")
    page.goto(system.url)
    expect(row(page, "emails")).to_contain_text("Synced")
    system.write("version: 1\nqueues:\n  emails:\n    typ: quorum\n")
    expect(page.locator("#faults")).to_contain_text(re.compile(r"queues\.yaml:4:5: queues\.emails\.typ: "))
    expect(page.locator("#state")).to_have_text("File has faults")
    expect(row(page, "emails")).to_be_visible()
    system.write("version: 1\nqueues:\n  emails: {}\n")
    expect(page.locator("#faults")).to_be_hidden()


def test_what_the_broker_will_not_do_is_folded_away_and_opens(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  emails: {arguments: {x-mesage-ttl: 5}}\n")
    page.goto(system.url)
    title = page.locator("#warnings-title")
    expect(title).to_contain_text("will not do 1 thing as queues.yaml says")
    expect(page.locator("#warnings-list")).to_be_hidden()
    title.click()
    expect(page.locator("#warnings-list")).to_contain_text("queues.emails.arguments.x-mesage-ttl")
    expect(page.locator("#warnings-list")).to_contain_text("did you mean x-message-ttl?")
    system.write("version: 1\nqueues:\n  others: {}\n")
    expect(page.locator("#warnings")).to_be_hidden()


def test_many_deletions_wait_for_a_confirmation_that_names_them(system: System, page: Page) -> None:
    names = ["a", "b", "c", "d", "e"]
    system.write("version: 1\nqueues:\n" + "".join(f"  {name}: {{on_remove: delete}}\n" for name in names))
    system.settled()
    system.publish("c", "one")
    system.publish("c", "two")
    page.goto(system.url)
    expect(row(page, "e")).to_be_visible()
    system.write("version: 1\nqueues:\n  e: {on_remove: delete}\n")
    page.get_by_role("button", name="Confirm these deletions").click()
    dialog = page.get_by_role("dialog")
    for name in names[:4]:
        expect(dialog.get_by_role("listitem").filter(has_text=re.compile(f"^{name}"))).to_be_visible()
    expect(dialog.get_by_role("listitem").filter(has_text=re.compile("^c"))).to_contain_text("2 messages")
    dialog.get_by_role("button", name="Keep them").click()
    assert len(system.get("/queue/list").json()["queues"]) == 5
    page.get_by_role("button", name="Confirm these deletions").click()
    expect(dialog.get_by_role("button", name="Delete 4 queues, 2 messages")).to_be_visible()
    system.publish("c", "three, after the plan was shown")
    dialog.get_by_role("button", name="Delete 4 queues, 2 messages").click()
    expect(dialog.get_by_role("alert")).to_contain_text("queue c was classic, durable, 2 messages and is")
    assert len(system.get("/queue/list").json()["queues"]) == 5
    dialog.get_by_role("button", name="Look again").click()
    dialog.get_by_role("button", name="Delete 4 queues, 3 messages").click()
    expect(page.locator(".queue")).to_have_count(1)
    expect(page.locator("#held")).to_be_hidden()


def test_an_opened_queue_says_why_it_is_as_it_is(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  emails:\n    workers:\n      echo: 2\n")
    system.settled()
    page.goto(system.url)
    emails = opened(page, "emails")
    why = emails.get_by_role("button", name="Why is it like that?")
    why.click()
    expect(emails).to_contain_text("It is ours: out of the file it is deleted once it is empty and unused")
    expect(emails).to_contain_text("echo: desired 2, running 2.")
    system.post("/queue/pause/emails", {"reason": "<b>moving</b>"})
    expect(emails).to_contain_text('because "<b>moving</b>": its workers stand still')
    emails.get_by_role("button", name="Close").click()
    expect(emails).not_to_contain_text("It is ours")


def test_searching_and_filtering(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  orders: {}\n  orders.eu: {}\n  audit: {}\n")
    page.goto(system.url)
    expect(page.locator(".queue")).to_have_count(3)
    page.keyboard.press("/")
    page.keyboard.type("ORDERS")
    expect(page.locator(".queue:visible")).to_have_count(2)
    page.keyboard.type("xyz")
    expect(page.get_by_text("No queue matches.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".queue:visible")).to_have_count(3)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Problems")).to_be_checked()
    expect(page.locator(".queue:visible")).to_have_count(0)


def test_the_dashboard_by_keyboard_alone(system: System, page: Page) -> None:
    system.write("version: 1\nqueues:\n  audit: {}\n  emails:\n    workers:\n      echo: 1\n")
    page.goto(system.url)
    expect(row(page, "emails")).to_contain_text("1/1")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(row(page, "emails").get_by_role("table")).to_be_visible()
    for _ in range(4):  # why, less, the number, more
        page.keyboard.press("Tab")
    expect(row(page, "emails").get_by_role("button", name="One echo more")).to_be_focused()
    page.keyboard.press("Enter")
    expect(row(page, "emails")).to_contain_text("2 of 2 ready")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/workers/view-logs/\d+$"))


LONG = "n" * 255
STRANGE = "<img src=x onerror=alert(1)> ünï/слэш %2F"


@pytest.mark.parametrize("size", [PHONE, SMALLEST], ids=["360", "320"])
def test_any_name_fits_any_phone(system: System, page: Page, size: dict[str, int]) -> None:
    system.write(f"version: 1\nqueues:\n  {LONG}: {{}}\n  '{STRANGE}':\n    workers:\n      echo: 1\n")
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto(system.url)
    strange = opened(page, STRANGE)
    expect(strange).to_contain_text("1 of 1 ready")
    opened(page, LONG)
    eventually(lambda: sideways(page) == 0)
    assert page.locator("#queues img").count() == 0
    strange.get_by_role("button", name="One echo more").click()
    expect(strange).to_contain_text("2 of 2 ready")


def test_events_are_told_as_they_happen(system: System, page: Page) -> None:
    page.goto(system.url)
    system.write("version: 1\nqueues:\n  fresh:\n    workers:\n      echo: 1\n")
    feed = page.get_by_role("complementary", name="Events")
    expect(feed.get_by_text(re.compile("echo")).first).to_be_visible()
    expect(feed.get_by_text(re.compile(r"revision \w+ is in force")).first).to_be_visible()


def test_light_and_dark_is_remembered(system: System, page: Page) -> None:
    page.goto(system.url)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert dark != light
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


# -- the log viewer -----------------------------------------------------------------------------------------------


@pytest.fixture
def talker(system: System) -> System:
    system.write(TALKER)
    system.settled()
    return system


def say(system: System, name: str = "x", lines: int = 0, raw: bytes = b"") -> None:
    system.publish("talk", {"name": name, "lines": lines, "raw": raw.hex()})


def view_url(system: System, query: str = "") -> str:
    return system.url + str(system.list_workers(queue_name="talk")[0]["view_url"]) + query


def written(system: System, text: str) -> None:
    """Waits until the worker's log holds it."""
    url = str(system.list_workers(queue_name="talk")[0]["log_url"])
    eventually(lambda: any(text in line for line in system.get(url).json()["lines"]))


def line(page: Page, text: str) -> Locator:
    return page.locator(".ln").filter(has_text=text)


def first_seen(page: Page) -> Any:
    """The line at the top of the screen, and where exactly it stands."""
    return page.evaluate(
        """() => {
            const top = document.getElementById("log").getBoundingClientRect().top;
            const seen = [...document.querySelectorAll(".ln")].find((n) => n.getBoundingClientRect().bottom > top + 1);
            return [seen.textContent, Math.round(seen.getBoundingClientRect().top - top)];
        }"""
    )


def scrolled(page: Page) -> float:
    """Pixels from the beginning."""
    return float(page.locator("#log").evaluate("log => log.scrollTop"))


def is_at_the_end(page: Page) -> bool:
    log = page.locator("#log")
    return bool(log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight < 3"))


def test_the_viewer_follows_live(talker: System, page: Page) -> None:
    page.goto(view_url(talker))
    expect(page.locator("#state")).to_have_text("Live")
    say(talker, "first", lines=1)
    expect(line(page, "line 0 of first")).to_be_visible()
    say(talker, "second", lines=300)
    expect(line(page, "line 299 of second")).to_be_in_viewport()
    eventually(lambda: is_at_the_end(page))


def test_who_reads_further_up_is_not_moved(talker: System, page: Page) -> None:
    say(talker, "old", lines=2000)
    written(talker, "line 1999 of old")
    page.goto(view_url(talker))
    expect(line(page, "line 1999 of old")).to_be_in_viewport()
    eventually(lambda: is_at_the_end(page))
    bottom = scrolled(page)
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -900)
    eventually(lambda: scrolled(page) < bottom - 898)  # all of the way: it may halt on it
    before = eventually(lambda: steady(page))
    for number in range(3):
        say(talker, f"new{number}", lines=20)
    expect(page.locator("#newer")).to_have_text("60 new lines ↓")
    assert first_seen(page) == before
    page.keyboard.press("End")
    expect(line(page, "line 19 of new2")).to_be_in_viewport()
    expect(page.locator("#newer")).to_be_hidden()


def steady(page: Page) -> Any:
    """Where we are, once scrolling has come to rest."""
    before = first_seen(page)
    page.wait_for_timeout(150)
    return before if first_seen(page) == before else None


def test_older_lines_come_when_scrolling_up_and_the_page_stays_small(talker: System, page: Page) -> None:
    say(talker, "old", lines=6000)
    written(talker, "line 5999 of old")
    page.goto(view_url(talker))
    expect(line(page, "line 5999 of old")).to_be_in_viewport()

    def scrolled_up() -> bool:
        page.locator("#log").evaluate("log => log.scrollTop = 0")
        page.wait_for_timeout(50)
        return page.locator("#older").inner_text() == "The log begins here"

    eventually(scrolled_up)
    assert line(page, "line 0 of old").count() == 1
    assert page.locator(".ln").count() < 5000

    def scrolled_down() -> bool:
        page.locator("#log").evaluate("log => log.scrollTop = log.scrollHeight")
        page.wait_for_timeout(50)
        return line(page, "line 5999 of old").count() == 1

    eventually(scrolled_down)
    numbers = page.locator(".ln").evaluate_all(
        "lines => lines.map(n => /line (\\d+) of old/.exec(n.textContent)).filter(Boolean).map(found => +found[1])"
    )
    assert numbers == list(range(numbers[0], 6000)), "lines are missing, or there twice"


def test_filtering_by_text_and_level(talker: System, page: Page) -> None:
    say(talker, "needle", lines=3)
    say(talker, "hay", lines=50)
    say(talker, raw=b"2026-11-24T22:10:00.123Z ERROR   it broke\nTraceback (most recent call last):\n  x\n")
    written(talker, "it broke")
    page.goto(view_url(talker))
    page.get_by_role("searchbox").fill("NEEDLE")
    expect(page.locator(".ln")).to_have_count(3)
    expect(page.locator("mark")).to_have_text(["needle"] * 3)
    say(talker, "needle2", lines=1)
    say(talker, "hay2", lines=1)
    expect(page.locator(".ln")).to_have_count(4)
    page.get_by_role("searchbox").press("Escape")
    expect(line(page, "of hay2")).to_be_visible()
    page.get_by_role("combobox", name="Level").select_option("ERROR")
    expect(page.locator(".ln")).to_have_count(3)
    expect(line(page, "it broke")).to_have_class(re.compile("l-error"))


@pytest.mark.parametrize("live", [True, False], ids=["streamed", "loaded"])
def test_hostile_lines_are_inert_and_colours_are_kept(talker: System, page: Page, live: bool) -> None:
    raw = b"\n".join([*HOSTILE, b"the last one", b""])
    if live:
        page.goto(view_url(talker))
        expect(page.locator("#state")).to_have_text("Live")
    say(talker, raw=raw)
    written(talker, "the last one")
    if not live:
        page.goto(view_url(talker))
    expect(line(page, "the last one")).to_be_visible()
    assert "owned" not in page.title()
    assert page.locator("#log :is(script, img, b, #injected)").count() == 0
    assert line(page, "<script>document.title").count() == 1
    assert line(page, "event: end").count() == 1
    assert line(page, "\ufffd").count() == 1
    assert "\u202e" not in page.locator("#log").inner_text()
    assert line(page, "^[[2J").count() == 1
    colours = {word: colour_of(page, word) for word in ("red", "green", "blue")}
    assert len({*colours.values(), page.evaluate("getComputedStyle(document.body).color")}) == 4
    expect(line(page, "red green blue plain")).to_be_visible()
    long = line(page, "(1,048,576 bytes)")
    assert len(long.inner_text()) < 5000
    long.get_by_role("button", name="show all").click()
    assert len(long.inner_text()) > 60_000
    expect(page.locator("#state")).to_have_text("Live")


def colour_of(page: Page, word: str) -> str:
    return str(page.locator("#log span").get_by_text(word, exact=True).evaluate("n => getComputedStyle(n).color"))


def test_pausing(talker: System, page: Page) -> None:
    page.goto(view_url(talker))
    say(talker, "before", lines=1)
    expect(line(page, "of before")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.locator("#state")).to_have_text("Paused")
    say(talker, "meanwhile", lines=5)
    expect(page.locator("#newer")).to_have_text("5 new lines ↓")
    assert line(page, "of meanwhile").count() == 0
    page.keyboard.press("Space")
    expect(line(page, "line 4 of meanwhile")).to_be_in_viewport()
    expect(line(page, "of meanwhile")).to_have_count(5)


def test_a_link_leads_to_its_line(talker: System, page: Page) -> None:
    say(talker, "old", lines=3000)
    written(talker, "line 2999 of old")
    page.goto(view_url(talker))
    wanted = line(page, "line 2900 of old")
    expect(wanted).to_have_count(1)
    wanted.scroll_into_view_if_needed()
    wanted.hover()
    wanted.get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"#\d+$"))
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    marked = page.locator(".marked")
    expect(marked).to_contain_text("line 2900 of old")
    expect(marked).to_be_in_viewport()


def test_the_end_of_a_worker_is_said_and_its_log_stays(talker: System, page: Page) -> None:
    say(talker, "last", lines=2)
    written(talker, "line 1 of last")
    page.goto(view_url(talker))
    talker.write(TALKER.replace("say: 1", "say: 0"))
    expect(page.locator("#state")).to_have_text("Ended")
    page.reload()
    expect(page.locator("#state")).to_have_text("Ended")
    expect(line(page, "line 1 of last")).to_be_visible()


def test_a_daemon_that_comes_back_goes_on_with_the_stream(talker: System, page: Page) -> None:
    talker.env["RECONCILER_PORT"] = talker.url.rsplit(":", 1)[1].strip("/")
    say(talker, "before", lines=1)
    page.goto(view_url(talker))
    expect(line(page, "of before")).to_be_visible()
    talker.kill()
    expect(page.locator("#state")).to_have_text("Reconnecting")
    talker.start()
    expect(page.locator("#state")).to_have_text("Live")
    say(talker, "after", lines=1)
    expect(line(page, "of after")).to_be_visible()
    expect(line(page, "of before")).to_have_count(1)


def test_a_pid_without_a_log_is_told(system: System, page: Page) -> None:
    page.goto(f"{system.url}/workers/view-logs/99999999")
    expect(page.locator("#state")).to_have_text("No log")
    expect(page.get_by_text("no worker has or had the pid 99999999")).to_be_visible()


@pytest.mark.parametrize("size", [PHONE, SMALLEST], ids=["360", "320"])
def test_the_viewer_fits_a_phone(talker: System, page: Page, size: dict[str, int]) -> None:
    say(talker, raw=b"2026-11-24T22:10:00.123Z INFO    " + b"long" * 400 + b"\n")
    written(talker, "longlong")
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto(view_url(talker))
    expect(line(page, "longlong")).to_be_visible()
    eventually(lambda: sideways(page) == 0)
    for name in ("Pause", "Follow the newest lines", "Wrap long lines", "Download the whole log"):
        expect(page.get_by_label(name)).to_be_in_viewport()


def test_the_viewer_by_keyboard_alone(talker: System, page: Page) -> None:
    say(talker, "old", lines=500)
    written(talker, "line 499 of old")
    page.goto(view_url(talker))
    expect(line(page, "line 499 of old")).to_be_in_viewport()
    page.keyboard.press("Home")
    expect(page.get_by_text("The log begins here")).to_be_in_viewport()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(".marked")).to_have_count(1)
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile(r"#\d+$"))
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("line 49")
    expect(page.locator(".ln")).to_have_count(11)  # 49, 490 to 499
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    expect(line(page, "line 499 of old")).to_be_in_viewport()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


class TestTheHistory:
    def test_shows_what_was_in_force_compares_and_rolls_back(self, page: Page, system: System) -> None:
        system.write("version: 1\nqueues: {one: {}}\n")
        system.settled()
        system.post("/queue/create", {"queue_name": "two"})
        system.settled()
        eventually(lambda: len(system.get("/history").json()["revisions"]) == 3)  # the page asks for them once
        page.goto(system.url)
        page.get_by_role("button", name="history").click()
        listed = page.locator("#revisions-list li")
        expect(listed).to_have_count(3)
        expect(listed.first).to_contain_text("create queue two")
        expect(listed.first).to_contain_text("In force")
        listed.nth(1).get_by_role("button", name="Compare").click()
        expect(page.locator("#revisions-diff .is-removed")).to_contain_text("two: {}")
        page.get_by_role("button", name="Roll back to it").click()
        expect(page.locator("#revisions-note")).to_contain_text("Rolled back")
        expect(listed.first).to_contain_text("roll back to")
        assert list(system.settled()["queues"]) == ["one"]
