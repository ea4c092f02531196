"""The worker that every supervisor runs: our runtime and a handler that does nothing."""

from __future__ import annotations

import json

from .base import BaseWorker


class Work(BaseWorker):
    def process_message(self, ch, method, properties, body):  # type: ignore[no-untyped-def]
        json.loads(body)
        return True
