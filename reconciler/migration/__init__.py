"""Queues replaced by queues of other properties, with all their messages, and whatever happens on the way."""

from reconciler.migration.migrations import Migrations

__all__ = ["Migrations"]
