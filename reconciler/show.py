"""What the command line prints: coloured tables on a terminal, plain aligned text in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from reconciler.costs import called, summary, touched, unmanaged
from reconciler.plan import Result

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

COLOURS = {"in place": "green", "restart": "yellow", "recreate": "magenta", "destructive": "bold red"}
SIGNS = dict.fromkeys(("declare", "declareexchange", "bind", "start"), "+")
SIGNS |= dict.fromkeys(("delete", "deleteexchange", "deletepolicy", "unbind", "stop"), "-")  # the others: ~


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """Columns under a heading: with lines and colours on a terminal, only aligned elsewhere."""
    listed = [list(row) for row in rows]
    if console.is_terminal:
        made = Table(*head, box=None, header_style="bold", padding=(0, 2, 0, 0))
        for row in listed:
            made.add_row(*row)
        return made
    plain = [list(head), *([Text.from_markup(cell).plain for cell in row] for row in listed)]
    widths = [max(len(row[i]) for row in plain) for i in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in plain)
    return Text("\n".join(lines))


def status_view(status: Mapping[str, Any]) -> RenderableType:
    parts: list[RenderableType] = [Text.from_markup(headline(status))]
    if status["file_error"]:
        parts.append(Text(status["file_error"], style="red"))
    if (git := status.get("git")) and git["error"]:
        parts.append(Text(f"git: {git['error']}", style="yellow"))
    if held := status["held"]:
        parts += [
            Text.from_markup(f"[yellow]held[/] {escape(h['queue'])}: {escape(h['reason'])}") for h in held["actions"]
        ]
        if held["needs_confirmation"]:
            parts.append(Text(f"confirm with: reconciler sync --confirm {held['revision']}", style="yellow"))
    parts.append(table(("QUEUE", "MESSAGES", "WORKERS", "READY", "RESTARTS", "STATE"), queue_rows(status["queues"])))
    return Group(*parts)


def headline(status: Mapping[str, Any]) -> str:
    broker = status["broker"]
    synced = "[green]synced[/]" if status["synced"] else "[yellow]not synced[/]"
    healthy = "[green]healthy[/]" if status["healthy"] else "[red]not healthy[/]"
    where = (
        f"RabbitMQ {broker['version']}" if broker["connected"] else f"[red]no broker: {escape(str(broker['error']))}[/]"
    )
    commit = f" (commit {status['commit'][:8]})" if status["commit"] else ""
    return f"{synced}, {healthy}, revision {status['revision'][:12]}{commit}, {where}"


def queue_rows(queues: Mapping[str, Any]) -> Iterable[Sequence[str]]:
    for name, queue in queues.items():
        state = state_of(queue)
        messages = "?" if queue["messages"] is None else f"{queue['messages']:,}"
        workers = list(queue["workers"].items()) or [("-", None)]
        for i, (worker, pool) in enumerate(workers):
            first = i == 0
            ready = f"{pool['ready']}/{pool['desired']}" if pool else "-"
            restarts = str(pool["restarts"]) if pool else "-"
            scaling = pool.get("autoscale") if pool else None
            why = f"[dim]{escape(worker)} autoscaled: {escape(scaling['reason'])}[/]" if scaling else ""
            yield (
                escape(name) if first else "",
                messages if first else "",
                escape(worker),
                ready,
                restarts,
                "; ".join(filter(None, (state if first else "", why))),
            )


def state_of(queue: Mapping[str, Any]) -> str:
    if not (queue["synced"] and queue["healthy"]):
        return f"[red]{escape(queue['reason'] or 'working on it')}[/]"
    return f"[yellow]{escape(queue['reason'] or 'paused')}[/]" if queue.get("paused") else "[green]ok[/]"


def dead_letters_view(found: Mapping[str, Any]) -> RenderableType:
    """Groups of dead letters, the largest first, each with the newest of them."""
    seen = "" if found["counted"] == found["of"] else f" ({found['counted']:,} of {found['of']:,} looked at)"
    parts: list[RenderableType] = [Text(f"{found['count']:,} dead letters in {found['dead_letter']}{seen}")]
    if waiting := sum(found["waiting"].values()):
        parts.append(Text(f"{waiting:,} more wait for their next try"))
    if found["groups"]:
        parts.append(table(("COUNT", "REASON", "WORKER", "EXCEPTION", "NEWEST"), map(group_row, found["groups"])))
    return Group(*parts)


def group_row(group: Mapping[str, Any]) -> Sequence[str]:
    sample = group["sample"]
    said = ": ".join(filter(None, (group["exception"], sample["exception_message"] if group["exception"] else None)))
    newest = " ".join(filter(None, (sample["at"], sample["message_id"])))
    cells = (
        f"{group['count']:,}",
        group["reason"],
        group["worker_name"] or "-",
        first_line(said) or "-",
        newest or "-",
    )
    return tuple(map(escape, cells))


def first_line(text: str, most: int = 100) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= most else line[: most - 1] + "…"


@contextmanager
def live_view() -> Iterator[Callable[[RenderableType], None]]:
    """Something that is shown again and again: in place on a terminal, one after the other elsewhere."""
    if not console.is_terminal:
        yield console.print
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        yield lambda view: live.update(view, refresh=True)


class Progress:
    """A bar of actions done; only on a terminal."""

    def __init__(self) -> None:
        self._bar = RichProgress(console=errors, transient=True, disable=not errors.is_terminal)

    def start(self, total: int) -> None:
        self._task = self._bar.add_task("applying", total=total)

    def told(self, result: Result) -> None:
        self._bar.advance(self._task)
        if result.error is not None:
            errors.print(f"[red]{escape(str(result.action))}: {escape(str(result.error))}[/]")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def progress() -> Progress:
    return Progress()


def waiting(text: str) -> AbstractContextManager[Any]:
    """A spinner on a terminal for what may take more than a moment."""
    return errors.status(text) if errors.is_terminal else nullcontext()


SHOWN_IN_PLACE = 200


def plan_text(plan: Mapping[str, Any], command: str = "apply --plan") -> Text:
    """The plan, a line an action, then in short what it costs and what binds somebody to it.

    `command`: what takes the plan's digest; beside a daemon that is `sync --confirm`.
    """
    held, others = plan["held"], unmanaged(plan)
    lines = [
        f"[magenta]… queue {escape(one['queue'])} is being replaced: {escape(one['text'])}[/]"
        for one in plan["under_way"]
    ]
    lines += action_lines(plan["actions"])
    steps = held["actions"] if held else ()
    lines += [held_line(step) for step in steps if not step["needs_confirmation"]]
    lines += asked_lines([step for step in steps if step["needs_confirmation"]])
    if not lines:
        return Text.from_markup("\n".join(filter(None, ("nothing to do", others))))
    lines += ["", f"[bold]{summary(plan)}[/]", *filter(None, [others])]
    if held and held["needs_confirmation"]:
        lines.append(f"[yellow]allow these deletions with: reconciler {command} {plan['digest']}[/]")
    elif plan["actions"]:
        lines.append(f"[dim]do just this with: reconciler {command} {plan['digest']}[/]")
    return Text.from_markup("\n".join(lines))


def held_line(step: Mapping[str, Any]) -> str:
    return f"[yellow]! {escape(called(step))} is held: {escape(step['reason'])}[/]{in_brackets(touched(step))}"


def asked_lines(steps: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What waits for a person: each by name, and once why."""
    for step in steps:
        yield f"[yellow]? remove {escape(called(step))}[/]{in_brackets(['waits for a person', *touched(step)])}"
    for reason in dict.fromkeys(step["reason"] for step in steps):
        yield f"  [yellow]{escape(reason)}[/]"


def action_lines(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each, but of very many only what costs something."""
    plain = [action for action in actions if action["cost"] == "in place"]
    left_out = plain[SHOWN_IN_PLACE:] if len(plain) > 2 * SHOWN_IN_PLACE else []
    unseen = set(map(id, left_out))
    lines = [action_line(action) for action in actions if id(action) not in unseen]
    return [*lines, f"[dim]… and {len(left_out):,} more in place (--json lists them)[/]"] if left_out else lines


def action_line(action: Mapping[str, Any]) -> str:
    sign, colour = SIGNS.get(action["action"], "~"), COLOURS[action["cost"]]
    return f"[{colour}]{sign} {escape(action['text'])}[/]{in_brackets([action['cost'], *touched(action)])}"


def in_brackets(words: Sequence[str]) -> str:
    return f" [dim]({escape('; '.join(words))})[/]" if words else ""


RESULTS = {"synced": "green", "held": "yellow", "faults": "red", "pending": "cyan", "superseded": "dim"}


def history_view(found: Mapping[str, Any]) -> RenderableType:
    rows, current = [], found["in_force"]
    for entry in found["revisions"]:
        colour = RESULTS.get(entry["result"], "white")
        result = f"[{colour}]{escape(entry['result'])}[/]" + (f": {escape(entry['reason'])}" if entry["reason"] else "")
        mark, current = ("*", None) if entry["revision"] == current and entry["in_force"] else (" ", current)
        commit = entry["commit"][:8] if entry["commit"] else "-"
        names = [escape(str(entry[key] or "-")) for key in ("via", "by", "text")]
        rows.append((mark + entry["revision"][:12], entry["at"][:19].replace("T", " "), *names, commit, result))
    shown: list[RenderableType] = [table(("REVISION", "AT (UTC)", "VIA", "BY", "CHANGE", "COMMIT", "RESULT"), rows)]
    if found["error"]:
        shown.append(Text(found["error"], style="red"))
    return Group(*shown)


def diff_view(lines: Iterable[str]) -> Text:
    styles = {"+++": "bold", "---": "bold", "@@ ": "cyan"}
    colours = {"+": "green", "-": "red"}
    return Text("\n").join(Text(line, styles.get(line[:3], colours.get(line[:1], ""))) for line in lines)
