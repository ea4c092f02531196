"""What the endpoints ask of queues.yaml, as edits of its text. Each is redone on newer text if the file moved on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from reconciler.web.answers import ApiError
from state.desired import Desired, Queue, queue_with_defaults
from state.edit import EditRefused, remove, set_value, value_at
from state.file import Edit
from state.reader import parse


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
        if queue not in parse(text.encode()).queues:
            raise no_such_queue(queue)
        for worker, count in counts.items():
            path = ("queues", queue, "workers", worker)
            text = set_value(text, (*path, "count") if isinstance(value_at(text, path), dict) else path, count)
        return text

    return edit


def zero_all(queue: str) -> Edit:
    def edit(text: str) -> str:
        found = parse(text.encode()).all_queues().get(queue)
        if found is None:
            raise no_such_queue(queue)
        scaled = [name for name, worker in found.workers.items() if worker.autoscale]
        if scaled and found.pause_at(time.time()) is None:
            way_out = f"pause the queue first, POST /queue/pause/{queue}, and resume it after"
            raise ApiError(409, f"{scaled[0]} is autoscaled, so its number is not in the file ({way_out})")
        counts = {name: 0 for name, worker in found.workers.items() if worker.count and name not in scaled}
        return set_counts(queue, counts)(text) if counts else text

    return edit


def pause_queue(name: str, pause: Mapping[str, Any]) -> Edit:
    """`pause`: the reason and the end, each only if there is one."""

    def edit(text: str) -> str:
        if name not in parse(text.encode()).queues:
            raise no_such_queue(name)
        return set_value(text, ("queues", name, "paused"), dict(pause) or True)

    return edit


def resume_queue(name: str) -> Edit:
    """Takes the key out; where a default or a merge pauses the queue, it says `paused: false`."""

    def edit(text: str) -> str:
        path = ("queues", name, "paused")
        found = parse(text.encode()).queues.get(name)
        if found is None:
            raise no_such_queue(name)
        if found.paused is None:
            return text
        with suppress(EditRefused):
            text = remove(text, path)
        return text if parse(text.encode()).queues[name].paused is None else set_value(text, path, False)

    return edit
