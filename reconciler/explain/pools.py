"""Each number of workers in sentences, and why not all that are wanted run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.explain.known import Known
from reconciler.words import is_are, sentence, times, word
from state.processes import ObservedWorker, WorkerState

CRASH_LOOP = re.compile(r" \(crash loop: [^()]*\)$")


def of_the_workers(known: Known) -> Iterator[str]:
    by_worker: dict[str, list[ObservedWorker]] = {}
    for worker in known.workers:
        by_worker.setdefault(worker.pool.worker, []).append(worker)
    shown = known.status["queues"].get(known.name, {}).get("workers", {})
    for name, pool in shown.items():
        paused = known.status["queues"][known.name]["paused"] is not None
        yield from of_a_pool(name, pool, by_worker.pop(name, []), 0 if paused else pool["desired"], known)
    for name, workers in by_worker.items():
        yield f"{name}: desired 0, running {plural_of(workers)}, because it is not in the file any more."


def of_a_pool(
    name: str, pool: Mapping[str, Any], workers: Sequence[ObservedWorker], wanted: int, known: Known
) -> Iterator[str]:
    ready = sum(w.state == WorkerState.READY for w in workers)
    why = because(workers, wanted, known.now)
    scaling = pool.get("autoscale")
    ends = f" (autoscaled: {scaling['reason']})" if scaling and scaling.get("reason") else ""
    yield f"{name}: desired {wanted}{ends}, running {ready}{f' because {why}' if why else ''}."
    if pool["restarts"] and not any(w.state == WorkerState.BACKOFF for w in workers):
        yield f"{name}: its present processes were restarted {times(pool['restarts'])}."
    if pool.get("spawn_reason"):
        yield f"{name}: its processes are started one by one rather than forked: {sentence(pool['spawn_reason'])}"


def because(workers: Sequence[ObservedWorker], wanted: int, now: float) -> str:
    """Why not all that are wanted run, or why more do."""
    kept = [w for w in workers if not w.leaves]
    parts = [in_state(state, [w for w in kept if w.state == state], now) for state in TOLD]
    if (missing := wanted - len(kept)) > 0:
        parts.append(f"{word(missing)} {is_are(missing)} not started yet")
    elif missing < 0:
        parts.append(f"{word(-missing)} {is_are(-missing)} to be stopped")
    if leaving := len(workers) - len(kept):
        doing = "finishes its message and goes" if leaving == 1 else "finish their messages and go"
        parts.append(f"{word(leaving)} {doing}")
    return "; ".join(filter(None, parts))


TOLD = (WorkerState.FATAL, WorkerState.BACKOFF, WorkerState.STARTING, WorkerState.STOPPING, WorkerState.EXITED)
PHRASES = {
    WorkerState.FATAL: "given up until its code, its entry or a restart changes that",
    WorkerState.BACKOFF: "in backoff",
    WorkerState.STARTING: "starting",
    WorkerState.STOPPING: "being replaced",
    WorkerState.EXITED: "exited",
}


def in_state(state: WorkerState, workers: Sequence[ObservedWorker], now: float) -> str:
    if not workers:
        return ""
    text = f"{word(len(workers))} {is_are(len(workers))} {PHRASES[state]}"
    reasons = Counter(quoted_reason(w.reason) for w in workers if w.reason).most_common(2)
    if reasons:
        text += f" ({' or '.join(reason for reason, _ in reasons)})"
    if loops := sum(CRASH_LOOP.search(w.reason or "") is not None for w in workers):
        text += f", {'all' if loops == len(workers) > 1 else word(loops)} in a crash loop"
    due = min((w.retry_at for w in workers if w.retry_at is not None), default=None)
    if state == WorkerState.BACKOFF and due is not None:
        text += f", next try in {max(0, round(due - now))} s"
    return text


def quoted_reason(reason: str) -> str:
    """exit code 1: "ModuleNotFoundError: boto3", the process's own words in quotes; how often it died is another's."""
    how, colon, words = CRASH_LOOP.sub("", reason).partition(": ")
    is_ending = how.startswith(("exit code", "exit status", "killed by"))
    return f'{how}: "{words}"' if colon and is_ending and words != "out of memory" else how + colon + words


def plural_of(workers: Sequence[ObservedWorker]) -> str:
    return str(sum(w.state in (WorkerState.READY, WorkerState.STOPPING) for w in workers))
