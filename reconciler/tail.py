"""`reconciler logs`: pages and streams of worker logs on the terminal, those of a queue merged by time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import click
import httpx

from reconciler.client import Client, NoDaemon, name_in_path

LOOK_AGAIN_SECONDS = 2.0  # how soon a new worker of a followed queue is noticed


@dataclass(frozen=True)
class Source:
    """One worker's log; `label` stands before its lines where there are several."""

    pid: int
    label: str


def show_logs(client: Client, target: str, lines: int, follow: bool) -> None:
    sources = sources_of(client, target)
    if [source.label for source in sources] == [""]:
        page = client.get(f"/logs/workers/logs/{target}", lines=lines)
        shown, ends = page["lines"], {sources[0]: page["end"]}
    else:
        ends = {s: client.get(f"/logs/workers/logs/{s.pid}", lines=1)["end"] for s in sources}
        shown = merged(client.get("/logs/search", queue_name=target, lines=lines)["lines"], ends)
    for line in shown:
        click.echo(line)
    if follow:
        try:
            asyncio.run(follow_all(client, target, ends))
        except KeyboardInterrupt:
            pass


def sources_of(client: Client, target: str) -> list[Source]:
    if target.isascii() and target.isdigit() and is_pid(client, target):
        return [Source(int(target), "")]
    found = workers_of(client, target)
    return [Source(w["pid"], f"{w['worker_name']}[{w['slot']}] ") for w in found if w["pid"]]


def is_pid(client: Client, target: str) -> bool:
    try:
        client.get(f"/logs/workers/logs/{target}", lines=1)
    except NoDaemon:
        raise
    except click.ClickException:
        return False
    return True


def workers_of(client: Client, target: str) -> list[dict[str, Any]]:
    try:
        return list(client.get(f"/worker/{name_in_path(target)}")["workers"])
    except NoDaemon:
        raise
    except click.ClickException:
        raise click.ClickException(
            f"{target} is neither a queue of the file nor the pid of a worker (reconciler status lists the queues)"
        ) from None


def merged(lines: list[dict[str, Any]], ends: dict[Source, int]) -> list[str]:
    """Each behind the worker it is of, those that have ended too; what came after `ends` is left to following."""
    seen = {source.pid: end for source, end in ends.items()}
    return [
        f"{line['worker_name']}[{line['slot']}] {line['line']}"
        for line in lines
        if line["offset"] <= seen.get(line["pid"], line["offset"])
    ]


async def follow_all(client: Client, target: str, ends: dict[Source, int]) -> None:
    """Follows each log, and those of workers that come later, until it has ended (one pid) or for good (a queue)."""
    async with httpx.AsyncClient(base_url=client.url, timeout=None, trust_env=False) as http:
        tasks = {s: asyncio.create_task(follow_one(http, s, end)) for s, end in ends.items()}
        if any(source.label == "" for source in tasks):
            await asyncio.gather(*tasks.values())
            return
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            for source in await asyncio.to_thread(sources_of, client, target):
                if source not in tasks:
                    tasks[source] = asyncio.create_task(follow_one(http, source, 0))


async def follow_one(http: httpx.AsyncClient, source: Source, after: int) -> None:
    """Until the worker has ended, or the daemon is gone."""
    path = f"/logs/workers/stream_logs/{source.pid}"
    with contextlib.suppress(httpx.HTTPError):
        async with http.stream("GET", path, params={"after": after}) as answer:
            await show_stream(answer, source.label)


async def lines_of(answer: httpx.Response) -> AsyncIterator[str]:
    """Ended by a line feed alone: httpx's own also ends them at U+2028 and the like, which a log may hold."""
    rest = b""
    async for data in answer.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


async def show_stream(answer: httpx.Response, label: str) -> None:
    event = ""
    async for line in lines_of(answer):
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: ") and event != "end":
            click.echo(label + line[6:])
        elif not line:
            event = ""
