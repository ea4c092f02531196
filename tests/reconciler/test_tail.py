"""`reconciler logs -f`: what the stream tells, as it was written."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from reconciler.tail import show_stream
from reconciler.web.streams import Sent


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_line_is_whole_whatever_it_holds(capsys: pytest.CaptureFixture[str], size: int) -> None:
    text = "one\u2028two\x0cthree\x85four\x1efive"

    async def body() -> AsyncIterator[bytes]:
        data = Sent(text, id="7").encode() + Sent("next", id="8").encode()
        for at in range(0, len(data), size):
            yield data[at : at + size]

    await show_stream(httpx.Response(200, content=body()), "")
    assert capsys.readouterr().out == f"{text}\nnext\n"
