"""Settles each message exactly once: claims on any thread, what goes to the broker on the I/O thread.

Delivery tags start at 1 again with each channel. The tags that handlers see do not: they go on counting, so a late ack
for a lost connection can never hit a message of the next one. One message is in hand at a time, so acks come in order,
and a run of them is one frame with multiple=True. A message that is rejected where the file says what follows (`retry`,
`dead_letter`) is not: a copy of it takes the detour, and then it is acked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from loguru import logger
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel as PikaChannel
from pika.spec import Basic

from .detour import Copy, Delivery, Detour, Ends

HOLD = 1.0  # seconds before a message that was already redelivered goes back once more

How = Literal["ack", "nack", "reject"]


class Settlement(NamedTuple):
    """How one message ends."""

    tag: int
    how: How
    requeue: bool
    hold: bool
    copy: Copy | None = None  # what is to take its place

    @property
    def goes_back(self) -> Settlement:
        return self._replace(how="nack", requeue=True, copy=None)


class Settler:
    """Counts what is delivered, and settles it.

    `processed`: messages acked; `failed`: messages rejected or sent back; `outstanding`: delivered and not settled yet.
    """

    def __init__(self, loop: IOLoop, changed: Callable[[], None] = lambda: None) -> None:
        self.processed = 0
        self.failed = 0
        self.outstanding = 0
        self.changed = changed
        self.detour: Detour | None = None
        self.latest = 0  # the tag handed out last
        self._loop = loop
        self._channel: PikaChannel | None = None
        self._base = 0  # the last tag of earlier channels
        self._last = 0  # the last tag delivered
        self._in_hand: dict[int, Delivery] = {}  # by tag. A dict, because its pop() is atomic: a claim
        self._outbox: deque[Settlement] = deque()
        self._flush_asked = False
        self._held: dict[int, tuple[Settlement, Callable[[], None]]] = {}  # not sent yet, and how to drop it
        self._emptied: Callable[[], None] | None = None

    # The handler's side.

    def take(self, delivery: Delivery) -> bool:
        """Hand the message out, unless its channel is gone: then the broker delivers it again."""
        tag = delivery[0].delivery_tag
        if self.is_stale(tag):
            return False
        self.latest = tag
        self._in_hand[tag] = delivery if self.detour is None else self.detour.as_it_came(delivery)
        return True

    def is_stale(self, tag: int) -> bool:
        """Whether the channel that delivered it is gone."""
        return tag <= self._base

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    def settle(
        self, tag: int, how: How, requeue: bool = False, hold: bool = False, error: BaseException | None = None
    ) -> bool:
        """Settle the message in hand; False if it is not in hand, or settled already. `error` is why it failed."""
        delivery = self._in_hand.pop(tag, None)
        if delivery is None:
            return False
        copy = None
        if how == "ack":
            self.processed += 1
        else:
            self.failed += 1
            if self.detour is not None and not requeue:
                copy = self.detour.copy(delivery, error)
        self._outbox.append(Settlement(tag, how, requeue, hold or (requeue and delivery[0].redelivered), copy))
        if not self._flush_asked:
            self._flush_asked = True
            self._loop.add_callback_threadsafe(self.flush)
        return True

    # The I/O thread's side.

    def attach(self, channel: PikaChannel) -> None:
        """From now on messages come from `channel`."""
        self._channel = channel

    def detach(self) -> None:
        """The channel is gone, and with it every message that it delivered and that is not settled."""
        self._channel = None
        self._base = self._last
        self.outstanding = 0
        for _, drop in self._held.values():
            drop()
        self._held.clear()
        self._tell_if_empty()
        self.changed()

    def delivered(self, method: Basic.Deliver) -> None:
        """Count it, and give it a tag that no other message of this process has."""
        method.delivery_tag = self._last = self._base + method.delivery_tag
        self.outstanding += 1
        if self.outstanding == 1:
            self.changed()

    def flush(self) -> None:
        """Tell the broker everything that was settled since the last time."""
        self._flush_asked = False  # first: whatever is settled from here on asks again
        acks: list[int] = []
        while self._outbox:
            settlement = self._outbox.popleft()
            if self.is_stale(settlement.tag):
                self._too_late(settlement)
            elif settlement.how == "ack":
                acks.append(settlement.tag)
            else:
                self._ack(acks)
                acks = []
                self._refuse(settlement)
        self._ack(acks)
        self.changed()

    def release(self, released: Callable[[], None], seconds: float) -> None:
        """Send what is held back now: the worker stops, so it cannot come back to us. Copies that are on their way
        have so many seconds to arrive; their messages go back to the queue then. Calls `released` after that."""
        for settlement, drop in list(self._held.values()):
            if settlement.copy is None:
                drop()
                self._send(settlement)
        self._emptied = released
        self._loop.call_later(seconds, self._send_all_back)
        self._tell_if_empty()

    def _send_all_back(self) -> None:
        for settlement, drop in list(self._held.values()):
            drop()
            self._send(settlement.goes_back)

    def _tell_if_empty(self) -> None:
        if not self._held and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied()

    def _ack(self, tags: list[int]) -> None:
        if not tags or self._channel is None or not self._channel.is_open:
            return
        self.outstanding -= len(tags)
        if self._held:  # multiple=True would ack those too
            for tag in tags:
                self._channel.basic_ack(tag - self._base)
        else:
            self._channel.basic_ack(tags[-1] - self._base, multiple=len(tags) > 1)

    def _refuse(self, settlement: Settlement) -> None:
        if settlement.copy is not None:
            self._divert(settlement, settlement.copy)
        elif settlement.hold:
            timer = self._loop.call_later(HOLD, lambda: self._send(settlement))
            self._held[settlement.tag] = settlement, lambda: self._loop.remove_timeout(timer)
        else:
            self._send(settlement)

    def _divert(self, settlement: Settlement, copy: Copy) -> None:
        assert self.detour is not None
        ends = Ends(
            moved=lambda: self._send(settlement._replace(how="ack")),
            refused=lambda: self._send(settlement),
            back=lambda: self._send(settlement.goes_back),
        )
        passage = self.detour.passage(copy, ends)
        self._held[settlement.tag] = settlement, passage.give_up
        passage.go()

    def _send(self, settlement: Settlement) -> None:
        self._held.pop(settlement.tag, None)
        if self._channel is not None and self._channel.is_open:
            self._send_on(self._channel, settlement)
        self._tell_if_empty()

    def _send_on(self, channel: PikaChannel, settlement: Settlement) -> None:
        self.outstanding -= 1
        tag = settlement.tag - self._base
        if settlement.how == "ack":
            channel.basic_ack(tag)
        elif settlement.how == "nack":
            channel.basic_nack(tag, requeue=settlement.requeue)
        else:
            channel.basic_reject(tag, requeue=settlement.requeue)
        self.changed()

    def _too_late(self, settlement: Settlement) -> None:
        logger.warning(
            "{} of message {} is too late: its connection was lost meanwhile, and the broker delivers it again",
            settlement.how,
            settlement.tag,
        )
