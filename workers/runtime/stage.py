"""What the processes of one pool have in common, put in place before they are forked."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from contextlib import suppress

from . import log
from .main import Prepared, prepare


class Stage:
    """The environment that the next children share, put in place before they are forked, and what comes of it.

    `prepared` is None if they would not get far with it: each says itself what is wrong.
    """

    def __init__(self, name: str) -> None:
        self.prepared: Prepared | None = None
        self._name = name
        self._bare = dict(os.environ)
        self._now: Mapping[str, str | None] = {}

    def set(self, wanted: Mapping[str, str | None]) -> None:
        """What differs from the zygote's own; None is for a variable that is to be missing."""
        if wanted == self._now:
            return
        for variable in {**self._now, **wanted}:
            value = wanted[variable] if variable in wanted else self._bare.get(variable)
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value
        self._now = wanted
        log.set_up(os.environ, self._name)
        self._prepare()

    def _prepare(self) -> None:
        before, self.prepared = self.prepared, None
        if before:
            before.wire.discard()
            del before
            gc.collect()  # it does not happen by itself here; the module and all that it imports are frozen
        with suppress(ValueError):
            prepared = prepare(self._name, os.environ)
            if prepared.wire.can_be_renewed:
                self.prepared = prepared
            else:
                prepared.wire.discard()
