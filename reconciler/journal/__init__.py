"""The files that workers log to, read: pages of what was written, lines as they come. Knows nothing of processes."""

from reconciler.journal.follow import LogFollower, LogLine
from reconciler.journal.logs import LogPage, read_page

__all__ = ["LogFollower", "LogLine", "LogPage", "read_page"]
