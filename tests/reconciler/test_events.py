"""What happens, told to whoever listens: nothing is lost between two looks, and nobody holds up the one who tells."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from reconciler.events import KEPT, Event, Events


async def first(count: int, events: Events, after: int = 0) -> list[Event]:
    async with aclosing(events.listen(after)) as listening:  # type: ignore[type-var]
        return [event async for _, event in _zip(count, listening)]


async def _zip(count: int, listening):  # type: ignore[no-untyped-def]
    for number in range(count):
        yield number, await anext(listening)


async def test_who_comes_late_hears_what_was_said() -> None:
    events = Events()
    events.tell("plan", "one", detail=1)
    events.tell("plan", "two")
    heard = await first(2, events)
    assert [(event.id, event.text) for event in heard] == [(1, "one"), (2, "two")]
    assert heard[0].as_json()["data"] == {"detail": 1}


async def test_who_comes_back_hears_what_came_since() -> None:
    events = Events()
    for number in range(5):
        events.tell("plan", str(number))
    assert [event.text for event in await first(2, events, after=3)] == ["3", "4"]


async def test_who_waits_hears_at_once() -> None:
    events = Events()
    heard = asyncio.create_task(first(1, events))
    await asyncio.sleep(0)
    events.tell("plan", "now")
    assert [event.text for event in await asyncio.wait_for(heard, 30)] == ["now"]


async def test_the_oldest_are_forgotten_and_numbers_go_on() -> None:
    events = Events()
    for number in range(KEPT + 5):
        events.tell("plan", str(number))
    kept = events.since(0)
    assert (len(kept), kept[0].id, kept[-1].id, events.last_id) == (KEPT, 6, KEPT + 5, KEPT + 5)
