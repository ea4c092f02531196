"""Becomes another user under limits, then the program: `python -I -S demoted.py LIMITS PROGRAM ARGUMENT…`.

For a process that is exec'd: only it may limit itself once it is not root's any more, where root's power is cut down,
as in a container. LIMITS are the arguments of `demote` as JSON. It must run without any package, by its path.
"""

from __future__ import annotations

import json
import os
import signal
import sys

sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # -I leaves it out
from demote import demote


def main(limits: str, program: str, *arguments: str) -> str:
    """Does not return unless it fails; then what is wrong."""
    wanted = json.loads(limits)
    try:
        demote(**wanted)
    except (OSError, ValueError) as error:
        return str(error)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(program, [program, *arguments])
    except OSError as error:
        right = "that user must be able to reach and run it"
        return f"cannot start {program} as user {wanted['user']}: {error.strerror} ({right})"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
