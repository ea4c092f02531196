"""The two kinds of failure of an action. The docstring of a subclass is its default message."""

from __future__ import annotations


class ReconcilerError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__class__.__doc__)


class Permanent(ReconcilerError):
    """This cannot work until the file or the broker is changed; it is not tried again before."""


class Temporary(ReconcilerError):
    """This did not work now; it is tried again by itself."""


class BrokerUnreachable(Temporary):
    """The broker cannot be reached (check AMQP_URL and that it runs)."""


class NoSuchQueue(Permanent):
    """There is no such queue at the broker (list it in queues.yaml)."""


class NoSuchExchange(Temporary):
    """There is no such exchange at the broker now (list it in queues.yaml)."""


class NotListed(Permanent):
    """This is not in queues.yaml (list it first)."""


class Refused(Permanent):
    """The broker refused this."""


class Unconfirmed(Temporary):
    """The broker did not confirm the message (it may or may not have arrived; send it again)."""


class Blocked(Temporary):
    """The broker takes no messages now: a memory or disk alarm is on (free some and send it again)."""


class StillInUse(Temporary):
    """The queue is not empty or is in use, so it is not deleted now; it is tried again by itself."""
