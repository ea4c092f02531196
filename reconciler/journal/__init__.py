"""The logs of workers, read: pages of what was written, lines as they come, many merged. Knows nothing of processes."""

from reconciler.journal.follow import LogFollower, LogLine
from reconciler.journal.logs import LogPage, read_page
from reconciler.journal.merge import Found, Origin, Selection, search

__all__ = ["Found", "LogFollower", "LogLine", "LogPage", "Origin", "Selection", "read_page", "search"]
