"""The queues that `retry` and `dead_letter` imply, and where a queue's failed messages go. Pure.

Of `orders` with delays of 1 s and 1 min: `orders.retry.1s` and `orders.retry.1m`, whose messages expire back into
`orders`; `orders.rejected`, where the broker puts what others reject, so that the daemon can count it; and
`orders.dead`, unless `dead_letter` names another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from state.queue import Queue
from state.topology import Retry
from state.traits import DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY
from state.values import MAX_NAME_BYTES, QueueName, fault

OnRemove = Literal["keep", "delete-if-empty"]
UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))  # in milliseconds
# A message that expires in a classic queue is published without a confirm: of 300 that were waiting, a broker that was
# killed lost 132. A quorum queue keeps each until the other queue has it.
LOSES_NONE = {"x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once"}


class Implied(Queue):
    """A queue that is there for the sake of another, `of`."""

    of: QueueName
    counts: bool = False  # what is rejected lies here until the daemon has counted it


def dead_letter_of(name: str, queue: Queue) -> str | None:
    """Where what has failed for good goes; None if the file does not say."""
    return queue.dead_letter or (f"{name}.dead" if queue.retry else None)


def rejected_of(name: str) -> str:
    return f"{name}.rejected"


def delay_queues(name: str, retry: Retry) -> list[str]:
    """The delay queue of each delay, in their order."""
    return [f"{name}.retry.{in_words(milliseconds(delay))}" for delay in retry.delays]


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def in_words(milliseconds: int) -> str:
    """1500 → 1500ms, 90000 → 90s, 60000 → 1m."""
    unit, size = next((unit, size) for unit, size in UNITS if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


def implied_by(name: str, queue: Queue) -> Iterator[tuple[str, Implied]]:
    """What has to be there for the queue's failed messages, beside the queue itself."""
    # Those from which we take messages and give them back are classic: from a quorum queue the broker drops a message
    # that was delivered too often, which since 4.0 is 20 times unless somebody says otherwise. They stay with a queue
    # that stays, or it would reject into nowhere.
    on_remove: OnRemove = "keep" if queue.on_remove == "keep" else "delete-if-empty"
    if (dead := dead_letter_of(name, queue)) is not None:
        yield dead, Implied(of=name, on_remove=on_remove)
    if queue.retry is not None:
        yield rejected_of(name), Implied(of=name, on_remove=on_remove, counts=True)
        for delayed, delay in zip(delay_queues(name, queue.retry), queue.retry.delays, strict=True):
            back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name}
            arguments = {"x-message-ttl": milliseconds(delay), **back, **LOSES_NONE}
            yield delayed, Implied(of=name, type="quorum", arguments=arguments)


class Retried(Queue):
    """A queue with a retry, as the broker is to have it: what is rejected there goes where the daemon counts it.

    If it is a quorum queue, that is done without a loss, by arguments if it is new and else by its policy. One that was
    declared with its dead-letter queue cannot be changed in place; it stays so, and only what its own workers fail at
    is retried.
    """

    dead: QueueName

    def broker_arguments(self, have: Mapping[str, Any] | None = None) -> dict[str, Any]:
        safe = {key: value for key, value in self._loses_none() if have is None or key in have}
        arguments = safe | super().broker_arguments(have)
        if have and (have.get(DEAD_LETTER_EXCHANGE), have.get(DEAD_LETTER_KEY)) == ("", self.dead):
            arguments[DEAD_LETTER_KEY] = self.dead
        return arguments

    def policy_definition(self, have: Mapping[str, Any] | None = None) -> dict[str, Any]:
        safe = {key.removeprefix("x-"): v for key, v in self._loses_none() if have is not None and key not in have}
        return safe | super().policy_definition(have)

    def _loses_none(self) -> Iterable[tuple[str, str]]:
        own = self.overflow, self.dead_letter_strategy, *(self.arguments.get(key) for key in LOSES_NONE)
        return LOSES_NONE.items() if self.type == "quorum" and own == (None,) * 4 else ()


def completed(name: str, queue: Queue) -> Queue:
    """The queue as the broker is to have it."""
    if queue.retry is None:
        return queue
    fields = dict(queue) | {"dead_letter": rejected_of(name), "dead": dead_letter_of(name, queue)}
    return Retried.model_construct(queue.model_fields_set | {"dead_letter", "dead"}, **fields)


def all_implied(queues: Mapping[str, Queue]) -> dict[str, Implied]:
    """One that several share stays if it is to stay for one of them."""
    found: dict[str, Implied] = {}
    for name, queue in queues.items():
        for implied, made in implied_by(name, queue):
            if implied not in found or made.on_remove == "keep":
                found[implied] = made
    return found


def check(queues: Mapping[str, Queue]) -> None:
    """Raises a fault where an implied queue has no place."""
    taken = {dead: "" for name, queue in queues.items() if (dead := dead_letter_of(name, queue)) is not None}
    for name, queue in queues.items():
        if dead_letter_of(name, queue) == name:
            raise fault("rejected messages would come back at once (name another)", name, "dead_letter")
        if queue.retry is not None and queue.dead_letter in (rejected_of(name), *delay_queues(name, queue.retry)):
            raise fault("messages that are to be tried again go there (name another)", name, "dead_letter")
        for implied, _ in implied_by(name, queue):
            if len(implied.encode(errors="replace")) > MAX_NAME_BYTES:
                raise fault(f"its queue …{implied[-30:]} would have over {MAX_NAME_BYTES} bytes (a shorter name)", name)
            if implied == dead_letter_of(name, queue):
                continue
            if implied in queues or taken.setdefault(implied, name) != name:
                raise fault(f"it needs a queue {implied}, which is another's here (rename that one)", name, "retry")
