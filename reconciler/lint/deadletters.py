"""Where dead letters go: into nothing, round in circles, or behind messages that take longer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.lint.finding import Finding, Path, otherwise
from reconciler.lint.queues import argument_at
from state.desired import Desired, Queue
from state.observed import ObservedBroker
from state.retries import in_words, milliseconds

EXCHANGE, KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"
TELLING = {"arguments", "dead_letter"}


@dataclass(frozen=True)
class Way:
    """From a queue to the one that gets its dead letters, and where the file says so."""

    target: str
    path: Path


def about_dead_letters(desired: Desired, there: ObservedBroker | None) -> Iterator[Finding]:
    ways: dict[str, Way] = {}
    known = Known(desired, there)
    for name, queue in desired.queues.items():
        if queue.model_fields_set & TELLING:
            yield from about_target(("queues", name), queue, known)
            if (way := way_of(name, queue, desired)) is not None:
                ways[name] = way
    for name, rule in desired.policies.items():
        exchange = rule.definition.get("dead-letter-exchange")
        if isinstance(exchange, str) and exchange:
            path = ("policies", name, "definition", "dead-letter-exchange")
            yield from about_exchange(path, exchange, known)
    yield from about_circles(ways, desired)
    yield from about_the_head(ways, desired)


def way_of(name: str, queue: Queue, desired: Desired) -> Way | None:
    """The one queue that its dead letters go to, as far as the file alone says which that is."""
    if queue.dead_letter is not None:
        return Way(queue.dead_letter, ("queues", name, "dead_letter"))
    exchange, key = queue.arguments.get(EXCHANGE), queue.arguments.get(KEY)
    path = argument_at(("queues", name), EXCHANGE)
    if exchange == "":
        return Way(str(key or name), path)
    targets = list(bound_to(str(exchange), key, desired)) if exchange else []
    return Way(targets[0], path) if len(targets) == 1 else None


def bound_to(exchange: str, key: object, desired: Desired) -> Iterator[str]:
    """The queues of the file that such a message reaches, if the exchange's type says so plainly."""
    kind = desired.exchanges[exchange].type if exchange in desired.exchanges else ""
    for name, queue in desired.queues.items() if kind in ("fanout", "direct") else ():
        for binding in queue.bindings:
            if binding.exchange == exchange and (kind == "fanout" or binding.routing_key == key):
                yield name
                break


class Known:
    """The names that dead letters may go to: those of the file, and what is at the broker beside them."""

    def __init__(self, desired: Desired, there: ObservedBroker | None) -> None:
        self.sees_broker = there is not None and there.exchanges is not None
        bound = [queue.bindings for queue in desired.queues.values() if queue.bindings]
        bound += [exchange.bindings for exchange in desired.exchanges.values()]
        self.queues = {*desired.all_queues(), *(there.queues if there else ())}
        self.exchanges = {*desired.exchanges, *((there and there.exchanges) or ())}
        self.sources = {binding.exchange for bindings in bound for binding in bindings}
        self.sources |= {binding.source for binding in (there and there.bindings) or ()}

    @property
    def where(self) -> str:
        return "at the broker" if self.sees_broker else "in this file"


def about_target(path: Path, queue: Queue, known: Known) -> Iterator[Finding]:
    exchange, key = queue.arguments.get(EXCHANGE), queue.arguments.get(KEY)
    where = argument_at(path, EXCHANGE)
    if exchange == "" and key is None:
        text = "without x-dead-letter-routing-key its dead letters keep their key: most come back into this very queue"
        yield otherwise(where, f"{text} (name another with dead_letter)")
    elif exchange == "" and str(key) not in known.queues:
        text = f"there is no queue {key} {known.where}: what is rejected is lost in silence"
        yield otherwise(argument_at(path, KEY), f"{text} (list it, or write dead_letter: {key}, which makes it)")
    elif isinstance(exchange, str) and exchange:
        yield from about_exchange(where, exchange, known)


def about_exchange(path: Path, exchange: str, known: Known) -> Iterator[Finding]:
    if exchange not in known.exchanges and not exchange.startswith("amq."):
        text = f"there is no exchange {exchange} {known.where}: what is rejected is lost in silence"
        yield otherwise(path, f"{text} (list it under exchanges)")
    elif exchange not in known.sources:
        text = f"nothing is bound to exchange {exchange} {known.where}: what is rejected is lost in silence"
        yield otherwise(path, f"{text} (bind a queue to it)")


def about_circles(ways: Mapping[str, Way], desired: Desired) -> Iterator[Finding]:
    """Each circle once, at the queue that stands first in the file."""
    told: set[str] = set()
    for start in ways:
        circle = circle_from(start, ways)
        if circle and not told & set(circle):
            told |= set(circle)
            route = " → ".join([*circle, circle[0]])
            text = f"dead letters go in a circle: {route}; RabbitMQ drops those that only expire in it, and a message "
            text += "that is rejected each time never leaves it"
            yield otherwise(ways[start].path, f"{text} (use retry, which counts its attempts)")


def circle_from(start: str, ways: Mapping[str, Way]) -> list[str]:
    """The queues of the circle that begins here; empty if there is none. A queue's own key is told elsewhere."""
    route = [start]
    while (way := ways.get(route[-1])) is not None:
        if way.target == start:
            return route if len(route) > 1 else []
        if way.target in route:
            return []
        route.append(way.target)
    return []


def about_the_head(ways: Mapping[str, Way], desired: Desired) -> Iterator[Finding]:
    """A queue with a time to live that gets its messages from one in which they live longer."""
    for source, way in ways.items():
        long = ttl_of(desired.queues[source])
        short = ttl_of(desired.queues[way.target]) if way.target in desired.queues else None
        if long is not None and short is not None and long > short:
            text = f"what expires in {source} has waited {told(long)} there before the {told(short)} of {way.target} "
            text += "begin, for a message expires only at the head of the queue that it is in: a shorter time behind a "
            text += "longer one shortens nothing"
            yield otherwise(way.path, f"{text} (use one queue for each delay, or retry with delays)")


def told(seconds: float) -> str:
    return in_words(milliseconds(seconds))


def ttl_of(queue: Queue) -> float | None:
    """How long a message may stay, in seconds."""
    if queue.message_ttl is not None:
        return float(queue.message_ttl)
    argument = queue.arguments.get("x-message-ttl")
    return argument / 1000 if isinstance(argument, int) else None
