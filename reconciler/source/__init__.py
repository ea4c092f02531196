"""Where the file comes from, and how it is written: on this machine alone, with a commit for each write, or by pushing
to a branch that is followed. The loop knows none of this: it sees a file."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.events import Events
from reconciler.settings import Settings
from reconciler.source.base import Note, Source
from reconciler.source.following import Following
from reconciler.source.local import Local
from state.file import DesiredFile
from state.history import History

__all__ = ["Following", "Local", "Source", "source_of"]


def source_of(
    settings: Settings, file: DesiredFile, note: Note, history: History, events: Events, on_news: Callable[[], None]
) -> Source:
    """The source that the settings ask for."""
    if settings.followed is None:
        return Local(file, settings.git == "commit", note)
    return Following(settings.followed, settings.state / "git", file, note, history, events, on_news)
