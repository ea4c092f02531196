"""What RabbitMQ's event exchange has told: who was connected when, and who changed what. Bounded, and pure.

An event names the user, never the connection. But it is told at the moment, and connections are told of, too: so a
client that connects, deletes a queue and goes is known by its name; the management API, seconds late, never shows it.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.drift import Drift, listed
from state.observed import OURS, ObservedConnection

CHANGES = ("queue.", "exchange.", "binding.", "policy.")
KEPT_CHANGES = 500
KEPT_CONNECTIONS = 2000
FORGET = 900.0  # seconds after which a change explains no drift any more
INTERNAL = ("rmq-internal", "none", "unknown", "undefined", "")  # as RabbitMQ names itself


@dataclass(frozen=True)
class Happened:
    """One event. `kind` is its routing key, such as queue.deleted; `at` is in seconds since the epoch."""

    kind: str
    at: float
    headers: Mapping[str, Any]

    @property
    def user(self) -> str:
        return str(self.headers.get("user_who_performed_action", ""))


@dataclass
class Session:
    connection: ObservedConnection
    closed_at: float | None = None


class Trail:
    """The events of one virtual host."""

    def __init__(self, vhost: str) -> None:
        self._vhost = vhost
        self._changes: deque[Happened] = deque(maxlen=KEPT_CHANGES)
        self._sessions: dict[str, Session] = {}

    def hear(self, event: Happened) -> bool:
        """Takes it in; has something been taken away or set that the file may want otherwise?"""
        match event.kind:
            case "connection.created":
                self._opened(event)
            case "connection.closed":
                if session := self._sessions.get(str(event.headers.get("pid"))):
                    session.closed_at = event.at
            case kind if kind.startswith(CHANGES) and event.headers.get("vhost") == self._vhost:
                self._changes.append(event)
                return not kind.endswith(".created")
        return False

    def _opened(self, event: Happened) -> None:
        headers = event.headers
        name = headers.get("user_provided_name") or None
        if headers.get("vhost") != self._vhost or str(name or "").startswith(OURS) or headers.get("type") == "direct":
            return  # a direct one is the HTTP API's own
        connection = ObservedConnection(name, str(headers.get("user", "")), address(headers.get("peer_host")), event.at)
        self._sessions[str(headers.get("pid"))] = Session(connection)
        while len(self._sessions) > KEPT_CONNECTIONS:
            gone = (pid for pid, session in self._sessions.items() if session.closed_at is not None)
            del self._sessions[next(gone, next(iter(self._sessions)))]

    def author(self, drift: Drift, seen: Iterable[ObservedConnection] = ()) -> str | None:
        """Who made it, in words, as far as the events tell; None if there was no event. `seen`: connections that are
        open now, and may have been before the first event was heard."""
        event = next((e for e in reversed(self._changes) if touches(e, drift) and drift.at - e.at < FORGET), None)
        if event is None:
            return None
        if event.user in INTERNAL:
            return "RabbitMQ itself (it expired, or went with a connection or a node)"
        others = set(self._open_at(event)) | {c for c in seen if c.user == event.user and c.since <= event.at}
        return named(event.user, sorted(others, key=str))

    def _open_at(self, event: Happened) -> Iterator[ObservedConnection]:
        for session in self._sessions.values():
            connection, until = session.connection, session.closed_at
            if connection.user == event.user and connection.since <= event.at and (until is None or until >= event.at):
                yield connection


def touches(event: Happened, drift: Drift) -> bool:
    """Is it about what has drifted? A queue's bindings and policy are its own affair, too."""
    headers, kind = event.headers, event.kind.partition(".")[0]
    if event.kind.endswith(".created"):
        return False
    if kind == "binding":
        return drift.subject in (headers.get("destination_name"), headers.get("source_name"))
    if kind == "policy":
        return drift.what.startswith((f"policy {headers.get('name')}:", f"the policy {headers.get('name')} "))
    return headers.get("name") == drift.subject


def named(user: str, others: Sequence[ObservedConnection]) -> str:
    if not others:
        return f"user {user}, over the HTTP API (no connection of that user was open then)"
    if len(others) == 1:
        return f"{others[0]} (user {user}, {others[0].peer}), the only one of that user beside ours then"
    return f"one of the {len(others)} connections of user {user} that were open then beside ours: {listed(others)}"


def address(told: Any) -> str:
    """{127,0,0,1}, as Erlang writes it, as people do."""
    parts = [int(part) for part in re.findall(r"\d+", str(told))]
    try:
        if len(parts) == 4:
            return str(ipaddress.IPv4Address(bytes(parts)))
        if len(parts) == 8:
            return str(ipaddress.IPv6Address(b"".join(part.to_bytes(2) for part in parts)))
    except (ValueError, OverflowError):
        pass
    return str(told)
