"""Calls on channels of one connection, of which each may be the end of all."""

from __future__ import annotations

import pytest

from reconciler.broker.amqp import ConnectionClosedOverCall, Link
from tests.nodes import TestVhost


async def test_a_channel_that_was_closed_with_its_connection_tells_over_what(vhost: TestVhost) -> None:
    """Else its call would not be made once more, alone, and somebody else's mistake would be its answer."""
    link = Link(vhost.amqp_url, "test")
    try:
        async with link.channel() as first, link.channel() as second:
            with pytest.raises(ConnectionClosedOverCall, match="unknown exchange type"):
                await first.call("exchange_declare", exchange="x", exchange_type="no-such-type")
            for method, arguments in (("queue_declare", {"queue": "q"}), ("queue_purge", {"queue": "q"})):
                with pytest.raises(ConnectionClosedOverCall, match="unknown exchange type"):
                    await second.call(method, **arguments)
    finally:
        await link.close()
