"""What the endpoints ask of queues.yaml, as edits of its text. Each is redone on newer text if the file moved on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from reconciler.web.answers import ApiError
from state.desired import Desired, Queue, queue_with_defaults
from state.edit import remove, set_value
from state.file import Edit
from state.reader import Loader, parse


class AlreadyThere(Exception):
    """The file lists the queue with the same properties: nothing is to be written."""


def no_such_queue(name: str) -> ApiError:
    return ApiError(404, f"queue {name} is not in queues.yaml (POST /queue/create makes it)")


def create_queue(name: str, properties: Mapping[str, Any]) -> Edit:
    def edit(text: str) -> str:
        desired = parse(text.encode())
        queue = validated(properties, desired)
        if (known := desired.queues.get(name)) is None:
            return set_value(text, ("queues", name), dict(properties))
        if known == queue:
            raise AlreadyThere
        raise ApiError(
            409, f"queue {name} is in queues.yaml with other properties ({how(known, queue)}; edit it there)"
        )

    return edit


def validated(properties: Mapping[str, Any], desired: Desired) -> Queue:
    """The queue that `properties` and the file's defaults describe. Raises pydantic's ValidationError."""
    return Queue.model_validate(queue_with_defaults(properties, desired.defaults.queue, desired.defaults.worker))


def how(known: Queue, asked: Queue) -> str:
    have, want = known.model_dump(), asked.model_dump()
    return "; ".join(f"{key} is {have[key]!r}, asked for is {want[key]!r}" for key in have if have[key] != want[key])


def remove_queue(name: str) -> Edit:
    def edit(text: str) -> str:
        if name not in parse(text.encode()).queues:
            raise no_such_queue(name)
        return remove(text, ("queues", name))

    return edit


def set_counts(queue: str, counts: Mapping[str, int]) -> Edit:
    """Sets the number of processes of each worker named; one that the queue does not list yet is added."""

    def edit(text: str) -> str:
        raw = yaml.load(text, Loader=Loader)
        if queue not in raw["queues"]:
            raise no_such_queue(queue)
        listed = raw["queues"][queue].get("workers") or {}
        for worker, count in counts.items():
            path = ("queues", queue, "workers", worker)
            text = set_value(text, (*path, "count") if isinstance(listed.get(worker), dict) else path, count)
        return text

    return edit


def zero_all(queue: str) -> Edit:
    def edit(text: str) -> str:
        found = parse(text.encode()).all_queues().get(queue)
        if found is None:
            raise no_such_queue(queue)
        counts = {name: 0 for name, worker in found.workers.items() if worker.count}
        return set_counts(queue, counts)(text) if counts else text

    return edit
