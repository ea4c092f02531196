"""Processes: spawn, adopt, drain, reap, readiness, and the files they log to. Knows nothing of broker or web."""

from reconciler.supervisor.event import Event, EventKind
from reconciler.supervisor.supervisor import FolderInUse, Supervisor

__all__ = ["Event", "EventKind", "FolderInUse", "Supervisor"]
