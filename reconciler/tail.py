"""`reconciler logs`: pages and streams of worker logs on the terminal, those of a queue merged by time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import click
import httpx

from reconciler.client import Client, name_in_path

LOOK_AGAIN_SECONDS = 2.0  # how soon a new worker of a followed queue is noticed
NO_STAMP = ""


@dataclass(frozen=True)
class Source:
    """One worker's log; `label` stands before its lines where there are several."""

    pid: int
    label: str


def show_logs(client: Client, target: str, lines: int, follow: bool) -> None:
    sources = sources_of(client, target)
    pages = {s: client.get(f"/logs/workers/logs/{s.pid}", lines=lines) for s in sources}
    for line in merged(pages)[-lines:]:
        click.echo(line)
    if follow:
        try:
            asyncio.run(follow_all(client, target, {s: page["end"] for s, page in pages.items()}))
        except KeyboardInterrupt:
            pass


def sources_of(client: Client, target: str) -> list[Source]:
    if target.isascii() and target.isdigit() and is_pid(client, target):
        return [Source(int(target), "")]
    found = client.get(f"/worker/{name_in_path(target)}")["workers"]
    return [Source(w["pid"], f"{w['worker_name']}[{w['slot']}] ") for w in found if w["pid"]]


def is_pid(client: Client, target: str) -> bool:
    try:
        client.get(f"/logs/workers/logs/{target}", lines=1)
    except click.ClickException:
        return False
    return True


def merged(pages: dict[Source, dict[str, Any]]) -> list[str]:
    """All lines by their time stamp; a line without one stays behind the line before it."""
    stamped = []
    for source, page in pages.items():
        stamp = NO_STAMP
        for line in page["lines"]:
            stamp = stamp_of(line) or stamp
            stamped.append((stamp, source.label + line))
    return [line for _, line in sorted(stamped, key=lambda item: item[0])]


def stamp_of(line: str) -> str:
    head = line[:24]
    return head if head[:4].isdigit() and head[4:5] == "-" and head[10:11] == "T" else NO_STAMP


async def follow_all(client: Client, target: str, ends: dict[Source, int]) -> None:
    """Follows each log, and those of workers that come later, until all have ended (one pid) or for good (a queue)."""
    async with httpx.AsyncClient(base_url=client.url, timeout=None, trust_env=False) as http:
        tasks = {s: asyncio.create_task(follow_one(http, s, end)) for s, end in ends.items()}
        while not (tasks and all(s.label == "" and t.done() for s, t in tasks.items())):
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            for source in await asyncio.to_thread(sources_of, client, target):
                if source not in tasks:
                    tasks[source] = asyncio.create_task(follow_one(http, source, 0))


async def follow_one(http: httpx.AsyncClient, source: Source, after: int) -> None:
    async with http.stream("GET", f"/logs/workers/stream_logs/{source.pid}", params={"after": after}) as answer:
        event = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: ") and event != "end":
                click.echo(source.label + line[6:])
            elif not line:
                event = ""
