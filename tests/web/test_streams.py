"""How events go out: a few at once, many together, and none is kept back or lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from reconciler.web import streams
from reconciler.web.streams import BURST, GATHER, Gathered, Pace, Sent


def test_a_few_go_at_once_and_of_many_so_many_a_second() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert [pace.wait() for _ in range(BURST)] == pytest.approx([0.0] * BURST)
    assert pace.wait() == pytest.approx(GATHER)
    now += GATHER
    assert pace.wait() == pytest.approx(GATHER)
    now += 1.0
    assert [pace.wait() for _ in range(BURST)] == pytest.approx([0.0] * BURST), "after a rest as at first"


async def counted(count: int, asked: list[int]) -> AsyncGenerator[Sent, None]:
    for number in range(count):
        asked.append(number)
        yield Sent(str(number))


async def test_all_that_is_said_is_sent_in_order_in_few_pieces() -> None:
    parts = [part async for part in streams._bytes(counted(1000, []), asyncio.Event())]
    assert b"".join(parts[1:]) == b"".join(b"data: %d\n\n" % number for number in range(1000))
    assert len(parts) < 50


async def test_what_comes_one_after_another_goes_out_together_once_it_is_a_storm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "GATHER", 50 * GATHER)  # on a busy machine a millisecond is longer, and still a storm

    async def storm() -> AsyncGenerator[Sent, None]:
        for number in range(200):
            yield Sent(str(number))
            await asyncio.sleep(0.001)

    parts = [part async for part in streams._bytes(storm(), asyncio.Event())]
    assert b"".join(parts[1:]) == b"".join(b"data: %d\n\n" % number for number in range(200))
    assert len(parts) < 100


async def test_a_client_that_does_not_read_holds_its_source_back() -> None:
    asked: list[int] = []
    gathered = Gathered()
    filling = asyncio.ensure_future(gathered.fill(counted(1_000_000, asked)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(asked) < streams.MOST
    assert len(gathered.take()) < streams.MOST + 100
    before = len(asked)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(asked) > before, "once it has read, it goes on"
    filling.cancel()


async def test_the_source_is_closed_and_what_it_has_said_is_sent_when_the_daemon_stops() -> None:
    closed, stopping, said = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncGenerator[Sent, None]:
        try:
            yield Sent("last words")
            said.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = streams._bytes(endless(), stopping)
    assert await anext(stream) == b"retry: 1000\n\n"
    assert await anext(stream) == b"data: last words\n\n"
    await said.wait()
    stopping.set()
    assert [part async for part in stream] == []
    assert closed.is_set()


async def test_what_was_said_before_the_daemon_stops_reaches_a_slow_client() -> None:
    stopping, more = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[Sent, None]:
        yield Sent("one")
        await more.wait()
        yield Sent("last words")
        await asyncio.Event().wait()

    stream = streams._bytes(source(), stopping)
    assert [await anext(stream), await anext(stream)][1] == b"data: one\n\n"
    more.set()
    await asyncio.sleep(0.01)
    stopping.set()
    await asyncio.sleep(0.01)
    assert [part async for part in stream] == [b"data: last words\n\n"]


async def test_what_goes_wrong_in_the_source_is_not_swallowed() -> None:
    async def broken() -> AsyncGenerator[Sent, None]:
        yield Sent("one")
        raise OSError("the disk is gone")

    stream = streams._bytes(broken(), asyncio.Event())
    assert [await anext(stream), await anext(stream)][1] == b"data: one\n\n"
    with pytest.raises(OSError, match="the disk is gone"):
        await anext(stream)
