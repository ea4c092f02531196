"""One value of a YAML text changed, every other byte kept: what a REST or CLI write does to queues.yaml. Pure.

    text ─▶ layout ─▶ splices, flow ─▶ apply ─▶ check ─▶ text
            where      what to cut     cut       read back and compare
                       and put in

The text is cut at the places its nodes have, never dumped anew, so comments, order, quoting and line endings stay. Then
the result is read back and must say the same, event by event, but for the one change; else the edit is refused. So a
mistake in the cutting costs an edit, never a file.
"""

from state.edit.layout import EditRefused
from state.edit.operations import remove, set_value, value_at

__all__ = ["EditRefused", "remove", "set_value", "value_at"]
