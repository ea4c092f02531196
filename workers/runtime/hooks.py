"""Keeps the at-fork hooks of some standard modules out of the zygote's forks; its children have them.

threading, logging and loguru have locks held or renewed around each fork, for another thread might hold them, and
random seeds itself anew. The zygote has one thread and holds no lock, so there is nothing to do; but doing it costs
each child half a megabyte of pages that it shares no longer, since Python counts references in whatever it runs. What
a worker forks itself later is forked with all of them, and the hooks of other modules always run.

Imported before anything that would import those modules, so it imports nothing itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

WITHHELD = frozenset({"threading", "logging", "loguru._locks_machinery", "random"})
_register = os.register_at_fork
_before: list[Callable[[], None]] = []  # the one registered last comes first
_in_parent: list[Callable[[], None]] = []
_in_child: list[Callable[[], None]] = []
_given_back = False


def withhold() -> None:
    """From now on."""
    _register(
        before=lambda: _run(_before),
        after_in_parent=lambda: _run(_in_parent),
        after_in_child=lambda: _run(_in_child),
    )
    os.register_at_fork = _sorted_out


def give_back() -> None:
    """In the child: does for it what the hooks were for; from now on they run."""
    global _given_back
    _given_back = True
    os.register_at_fork = _register
    if random := sys.modules.get("random"):
        generator = random._inst
        super(type(generator), generator).seed()  # what its own seed() comes to, in fewer pages
        generator.gauss_next = None
    if threading := sys.modules.get("threading"):
        threading._main_thread._native_id = threading.get_native_id()


def _run(hooks: list[Callable[[], None]]) -> None:
    if _given_back:
        for hook in hooks:
            hook()


def _sorted_out(
    *,
    before: Callable[[], None] | None = None,
    after_in_child: Callable[[], None] | None = None,
    after_in_parent: Callable[[], None] | None = None,
) -> None:
    hooks = {"before": before, "after_in_child": after_in_child, "after_in_parent": after_in_parent}
    if sys._getframe(1).f_globals.get("__name__") not in WITHHELD:
        _register(**{name: hook for name, hook in hooks.items() if hook})
        return
    if before:
        _before.insert(0, before)
    if after_in_child:
        _in_child.append(after_in_child)
    if after_in_parent:
        _in_parent.append(after_in_parent)
