"""Which commit of a followed branch was taken last: kept on disk, so that a restart knows it without the remote."""

from __future__ import annotations

import json
from pathlib import Path

from state.file import write_atomically


def read_state(path: Path, url: str, file: str) -> tuple[str | None, str | None]:
    """The commit and the revision of its file; None twice if there is none of that remote and path."""
    try:
        known = json.loads(path.read_bytes())
        if (known["url"], known["path"]) == (url, file):
            return str(known["commit"]), str(known["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None, None


def write_state(path: Path, url: str, file: str, commit: str | None, revision: str | None) -> None:
    """Raises OSError."""
    known = {"url": url, "path": file, "commit": commit, "revision": revision}
    write_atomically(path, json.dumps(known, indent=1).encode())
