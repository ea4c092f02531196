"""What is ours: what we made at which broker, and how each is to be removed. One small JSON file.

Only what stands here is ever deleted. A lost or broken ledger therefore deletes nothing: it owns nothing. It is one
thread's: the turns and the endpoints write it in the daemon's loop, one after another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from state.file import write_atomically
from state.observed import binding_of
from state.queue import Queue
from state.retries import Implied

UNREADABLE = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
Reached = dict[tuple[str, str], str]  # a fingerprint by kind and name
ON_REMOVE = ("keep", "delete-if-empty", "delete", "delete-if-unused")


@dataclass(frozen=True)
class Owned:
    """A queue or exchange that we made, and what the file said last of it, for when the entry is gone."""

    on_remove: str = "delete-if-empty"
    of: str | None = None  # the queue for whose sake it was made, if it is no entry of the file itself
    protect: bool = False  # the entry may only go after the flag went
    shape: str | None = None  # what we made, as `shape_of` says it; None: not known
    doubtful: str | None = None  # why nobody knows whether it is still ours
    counts: bool = False  # it was made for what is rejected: the daemon empties it

    @classmethod
    def as_wanted(cls, queue: Queue) -> Owned:
        """What is to be remembered of it now."""
        of = queue.of if isinstance(queue, Implied) else None
        shape = shape_of(queue.type, queue.durable, queue.broker_arguments())
        return cls(queue.on_remove, of, queue.protect, shape, counts=isinstance(queue, Implied) and queue.counts)


def shape_of(kind: str, durable: bool, arguments: Mapping[str, Any]) -> str:
    """What cannot be changed about a queue, in words that are the same for the same."""
    known = {key: value for key, value in arguments.items() if key != "x-queue-type"}
    rest = f" with {json.dumps(known, sort_keys=True, ensure_ascii=False, default=str)}" if known else ""
    return f"a {kind} queue{'' if durable else ' that is not durable'}{rest}"


@dataclass
class Holdings:
    """What is ours at one broker, by name; bindings by their key. A policy and a binding have no more to remember."""

    queues: dict[str, Owned] = field(default_factory=dict)
    exchanges: dict[str, Owned] = field(default_factory=dict)
    bindings: set[str] = field(default_factory=set)
    policies: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.queues or self.exchanges or self.bindings or self.policies)

    def __contains__(self, other: Holdings) -> bool:
        """Is all of `other` remembered, as it stands?"""
        return (
            all(self.queues.get(name) == owned for name, owned in other.queues.items())
            and all(self.exchanges.get(name) == owned for name, owned in other.exchanges.items())
            and other.bindings <= self.bindings
            and other.policies <= self.policies
        )

    def add(self, other: Holdings) -> None:
        self.queues |= other.queues
        self.exchanges |= other.exchanges
        self.bindings |= other.bindings
        self.policies |= other.policies

    def drop(self, other: Holdings) -> bool:
        """Forgets all of `other`, whatever was remembered of it. Was there anything?"""
        before = self.size
        for name in other.queues:
            self.queues.pop(name, None)
        for name in other.exchanges:
            self.exchanges.pop(name, None)
        self.bindings -= other.bindings
        self.policies -= other.policies
        return self.size != before

    @property
    def entries(self) -> int:
        """How many queues have, or had, an entry of their own in the file."""
        return sum(owned.of is None for owned in self.queues.values())

    @property
    def size(self) -> int:
        return len(self.queues) + len(self.exchanges) + len(self.bindings) + len(self.policies)


@dataclass
class Ledger:
    """Ownership by broker identity, and the deletions that a person asked for by name (True: with force)."""

    path: Path
    brokers: dict[str, Holdings] = field(default_factory=dict)
    requests: dict[str, bool] = field(default_factory=dict)
    clusters: dict[str, str] = field(default_factory=dict)  # which cluster each broker was, as `meet` says
    serial: int = 0  # how often it was written
    reached: dict[str, Reached] = field(default_factory=dict)  # by broker: see `reconciler.reached`
    unsaved: bool = False  # does the disk not know yet what stands here?
    broken: str | None = None  # why the file on disk could not be used, or not be believed

    @classmethod
    def load(cls, path: Path) -> Ledger:
        """The ledger at `path`; an empty one if there is none. One that cannot be read is moved aside, not lost.

        One that is older than the last that was written owns only what the file lists: what it remembers besides may
        be somebody else's by now.
        """
        try:
            found = cls._believed(path)
            if found.broken:
                found.save()
            return found
        except FileNotFoundError:
            return cls(path)
        except UNREADABLE as error:
            aside = path.with_suffix(".broken.json")
            path.replace(aside)
            return cls(
                path, broken=f"{path.name} cannot be read ({error}); it is {aside.name} now, and nothing is owned"
            )

    @classmethod
    def peek(cls, path: Path) -> Ledger:
        """The ledger for looking only: nothing is moved or written."""
        try:
            return cls._believed(path)
        except (OSError, *UNREADABLE):
            return cls(path)

    @classmethod
    def _believed(cls, path: Path) -> Ledger:
        """As it stands on disk; but nothing is deleted on the word of one that came back from a backup."""
        found = cls(path, *_read(json.loads(path.read_bytes())))
        if found.serial >= found.last_serial():
            return found
        found.broken = f"{path.name} is older than the last one that was written (was it restored from a backup?)"
        for held in found.brokers.values():
            held.queues = {name: replace(owned, doubtful=found.broken) for name, owned in held.queues.items()}
            held.exchanges, held.bindings, held.policies = {}, set(), set()
        found.requests = {}
        return found

    def meet(self, broker: str, cluster: str | None) -> str | None:
        """Notes which cluster is behind the name `broker`. If it is another one than it was, what was ours there is
        set aside, and said in words."""
        known = self.clusters.get(broker)
        if cluster is None or cluster == known:
            return None
        self.clusters[broker] = cluster
        told = None
        if known is not None:
            self.reached.pop(broker, None)
        if known is not None and (held := self.brokers.pop(broker, None)):
            self.brokers[f"{broker} ({known})"] = held
            told = f"broker {broker} is another one than before, though of the same name: nothing is ours there yet"
        if (back := self.brokers.pop(f"{broker} ({cluster})", None)) is not None:
            self.brokers[broker] = back
        self.save()
        return told

    def held_at(self, broker: str, cluster: str | None) -> Holdings:
        """As `holdings`, where nobody has met this cluster yet."""
        known = cluster is None or self.clusters.get(broker, cluster) == cluster
        return self.holdings(broker) if known else Holdings()

    def last_serial(self) -> int:
        """How often a ledger was written here, as a file of its own says: a backup that is restored does not know."""
        try:
            return int(self._counter.read_text())
        except (OSError, ValueError):
            return 0

    @property
    def _counter(self) -> Path:
        return self.path.with_suffix(".serial")

    def holdings(self, broker: str) -> Holdings:
        """What is ours there; for reading."""
        return self.brokers.get(broker) or Holdings()

    def owned(self, broker: str) -> Mapping[str, Owned]:
        """The queues that are ours there."""
        return self.holdings(broker).queues

    def queue_names(self) -> set[str]:
        """Every queue that was ever ours, at any broker, and may still be there."""
        return {name for held in self.brokers.values() for name in held.queues}

    def exchange_names(self) -> set[str]:
        return {name for held in self.brokers.values() for name in held.exchanges}

    def claim(self, broker: str, queues: Mapping[str, Owned]) -> None:
        """As `claim_all`, of queues."""
        self.claim_all(broker, Holdings(queues=dict(queues)))

    def claim_all(self, broker: str, new: Holdings) -> None:
        """Remembers `new` as ours, on disk before it returns. Called before anything is made, so that a crash
        between the two leaves something that is known to be ours."""
        if new in self.holdings(broker) and not self.unsaved:
            return
        self.brokers.setdefault(broker, Holdings()).add(new)
        self.save()

    def reshape(self, broker: str, name: str, shape: str) -> None:
        """A queue of ours was replaced by one of another shape; nothing if it is not ours any more."""
        if known := self.owned(broker).get(name):
            self.claim(broker, {name: replace(known, shape=shape)})

    def release(self, broker: str, name: str) -> None:
        """Forgets a queue, and that somebody asked for its deletion."""
        known = self.holdings(broker).queues.pop(name, None)
        if known is not None or self.requests.pop(name, None) is not None:
            self.requests.pop(name, None)
            self.save()

    def release_all(self, broker: str, old: Holdings) -> None:
        """Forgets what is gone, or is not to be ours any more."""
        if self.holdings(broker).drop(old) or self.unsaved:
            self.save()

    def request(self, name: str, force: bool) -> None:
        self.requests[name] = force
        self.save()

    def drop_requests(self, names: set[str]) -> None:
        if names & self.requests.keys():
            self.requests = {name: force for name, force in self.requests.items() if name not in names}
            self.save()

    def remember_reached(self, broker: str, reached: Mapping[tuple[str, str], str]) -> None:
        """What was last seen to be as the file says, and as what, of what is to be reported and not mended."""
        if self.reached.get(broker, {}) != reached:
            self.reached[broker] = dict(reached)
            self.save()

    @property
    def _is_small(self) -> bool:
        """Is it for reading, too? With indentation Python writes 10,000 queues twenty times as slowly."""
        return sum(held.size for held in self.brokers.values()) < 1000

    def save(self) -> None:
        self.unsaved = True
        self.serial = max(self.serial, self.last_serial()) + 1
        data: dict[str, Any] = {"version": 1, "serial": self.serial, "brokers": {}, "requests": self.requests}
        data["clusters"] = self.clusters
        reached = {b: [[*subject, known] for subject, known in found.items()] for b, found in self.reached.items()}
        if any(reached.values()):
            data["reached"] = reached
        for broker, held in self.brokers.items():
            data["brokers"][broker] = {name: _written(owned) for name, owned in held.queues.items()}
            for kind, found in (
                ("exchanges", {name: _written(owned) for name, owned in held.exchanges.items()}),
                ("bindings", sorted(held.bindings)),
                ("policies", sorted(held.policies)),
            ):
                if found:
                    data.setdefault(kind, {})[broker] = found
        write_atomically(self.path, json.dumps(data, indent=1 if self._is_small else None, ensure_ascii=False).encode())
        self._counter.write_text(str(self.serial))
        self.unsaved = False

    def save_again(self) -> None:
        """What a full disk has not taken."""
        if self.unsaved:
            self.save()


def _written(owned: Owned) -> dict[str, Any]:
    return {key: value for key, value in asdict(owned).items() if value not in (None, False)}


def _read(data: Any) -> tuple[dict[str, Holdings], dict[str, bool], dict[str, str], int, dict[str, Reached]]:
    """A ledger of any version: the first knew queues only, and later ones keep those where they were."""
    brokers = {str(broker): Holdings(queues=_owned(queues)) for broker, queues in data["brokers"].items()}
    for broker, exchanges in data.get("exchanges", {}).items():
        brokers[broker].exchanges = _owned(exchanges)
    for broker, keys in data.get("bindings", {}).items():
        brokers[broker].bindings = {binding_of(key).key for key in keys}
    for broker, names in data.get("policies", {}).items():
        brokers[broker].policies = set(map(str, names))
    requests = {str(name): force for name, force in data["requests"].items()}
    if any(force is not True and force is not False for force in requests.values()):
        raise ValueError("a request in it is neither true nor false")
    clusters = {str(broker): str(cluster) for broker, cluster in data.get("clusters", {}).items()}
    reached = {
        str(broker): {(str(kind), str(name)): str(known) for kind, name, known in found}
        for broker, found in data.get("reached", {}).items()
    }
    return brokers, requests, clusters, int(data.get("serial", 0)), reached


def _owned(things: Any) -> dict[str, Owned]:
    found = {str(name): Owned(**owned) for name, owned in things.items()}
    if any(owned.on_remove not in ON_REMOVE or not isinstance(owned.protect, bool) for owned in found.values()):
        raise ValueError("an on_remove or a protect in it is none that we wrote")
    return found
