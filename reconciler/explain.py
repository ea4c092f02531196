"""Why a queue and its workers are as they are, in sentences, from what the last turn saw and planned. Pure."""

from __future__ import annotations

import difflib
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.diff.policies import applying, carries_keys
from reconciler.drift import Drift
from reconciler.plan import Plan
from state.desired import Desired, Queue, Worker
from state.ledger import Owned
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker, WorkerState
from state.retries import Implied, dead_letter_of, delay_queues, rejected_of

WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
HOUR = 3600.0
NAMED = 5  # bindings
CRASH_LOOP = re.compile(r" \(crash loop: [^()]*\)$")


@dataclass(frozen=True)
class Known:
    """What is known of a queue at `now`, in seconds since the epoch. `status` is the body of `/status`."""

    name: str
    desired: Desired
    broker: ObservedBroker | None
    plan: Plan
    status: Mapping[str, Any]
    now: float
    owned: Mapping[str, Owned] = field(default_factory=dict)
    workers: Sequence[ObservedWorker] = ()
    drifts: Sequence[Drift] = ()

    @property
    def queue(self) -> Queue | None:
        return self.desired.all_queues().get(self.name)

    @property
    def seen(self) -> ObservedQueue | None:
        return self.broker.queues.get(self.name) if self.broker else None


def is_known(known: Known) -> bool:
    """Is it in the file, at the broker or in the ledger, or are there workers on it?"""
    return bool(known.queue or known.seen or known.name in known.owned or known.workers)


def near(known: Known) -> list[str]:
    """The names that somebody may have meant, nearest first."""
    names = {*known.desired.all_queues(), *(known.broker.queues if known.broker else ()), *known.owned}
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(known.name.casefold(), folded, n=3, cutoff=0.5)
    return [folded[name] for name in found]


def explain(known: Known) -> list[str]:
    """One fact a sentence: what it is, whose it is, what holds it up, each number of workers, what others did."""
    return [
        *of_the_file(known),
        *of_the_broker(known),
        *of_the_plan(known),
        *of_the_pause(known),
        *of_the_workers(known),
        *of_the_drifts(known),
    ]


# -- the file, the broker, the ledger ------------------------------------------------------------------------------


def of_the_file(known: Known) -> Iterator[str]:
    queue, name = known.queue, known.name
    if fault := known.status["file_error"]:
        more = len(fault.splitlines()) - 1
        others = f" (and {plural(more, 'more fault')})" if more else ""
        yield (
            f"The file has faults, so revision {known.status['revision'][:12]} stays in force: "
            f"{fault.splitlines()[0]}{others}."
        )
    if queue is None:
        foreign = ", and not ours either: it is left alone" if is_foreign(known) else ""
        yield f"Queue {name} is not in the file{foreign}."
    elif name not in known.desired.queues:
        yield f"Queue {name} is not listed itself: {implied(name, queue, known.desired)}."
    else:
        pools = [f"{count_of(worker)} {name}" for name, worker in queue.workers.items()]
        drained = f"to be drained by {listing(pools)}" if pools else "without workers"
        yield f"Queue {name} is in the file as a {'' if queue.durable else 'transient '}{queue.type} queue, {drained}."


def implied(name: str, queue: Queue, desired: Desired) -> str:
    """What a queue is for that the file asks for without naming it."""
    if users := [n for n, q in desired.queues.items() if dead_letter_of(n, q) == name]:
        return f"it is where {listing(users)} {'dead-letters' if len(users) == 1 else 'dead-letter'} to"
    of = queue.of if isinstance(queue, Implied) else ""
    if name == rejected_of(of):
        return f"RabbitMQ puts into it what is rejected in {of}, so that it is counted and tried again"
    return f"messages that failed in {of} wait in it for their next try"


def count_of(worker: Worker) -> str:
    return f"{worker.autoscale.min} to {worker.autoscale.max}" if worker.autoscale else str(worker.count)


def is_foreign(known: Known) -> bool:
    return known.seen is not None and known.name not in known.owned


def of_the_broker(known: Known) -> Iterator[str]:
    seen = known.seen
    if known.broker is None:
        yield f"The broker cannot be seen: {known.status['broker']['error'] or 'not connected yet'}."
        return
    if seen is None:
        yield "It is not at the broker."
    else:
        yield f"At the broker it holds {contents(seen)}{consumers(seen)}."
        if seen.state not in ("running", "idle", "flow", ""):
            yield f"The broker says that it is {seen.state}."
        yield from of_the_bindings(known)
        yield from of_the_policies(known, seen)
    yield from of_the_failures(known)
    yield from of_the_ledger(known)


def of_the_bindings(known: Known) -> Iterator[str]:
    bindings = known.broker.bindings if known.broker else None
    found = sorted(str(b) for b in bindings or () if (b.destination_type, b.destination) == ("queue", known.name))
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        yield f"Messages are routed to it by {plural(len(found), 'binding')}: {'; '.join(found[:NAMED])}{more}."


def of_the_failures(known: Known) -> Iterator[str]:
    """How many messages of it wait for another try, and how many have none left."""
    queue, queues = known.desired.queues.get(known.name), known.broker.queues if known.broker else {}
    if queue is None:
        return
    delays = set(delay_queues(known.name, queue.retry)) if queue.retry else set()
    if waiting := sum(queues[name].messages for name in delays if name in queues):
        yield f"{plural(waiting, 'message')} of it {have('wait', waiting)} for the next try."
    dead = dead_letter_of(known.name, queue)
    if dead is not None and dead in queues and (messages := queues[dead].messages):
        why = shlex.join(["reconciler", "dead-letters", known.name])
        yield f"{plural(messages, 'dead letter')} {have('lie', messages)} in {dead} ({why} says why they failed)."


def have(verb: str, number: int) -> str:
    return verb if number != 1 else f"{verb}s"


def of_the_policies(known: Known, seen: ObservedQueue) -> Iterator[str]:
    policies = known.broker.policies if known.broker else None
    if policies and seen.type and (policy := applying(policies.values(), known.name, seen.type)):
        sets = ", ".join(f"{key}: {value}" for key, value in sorted(policy.definition.items()))
        own = " (its own keys in the file)" if carries_keys(policy) else ""
        yield f"Policy {policy.name}{own} applies to it: {sets}."


def contents(seen: ObservedQueue) -> str:
    if seen.unacknowledged is None:
        return f"{plural(seen.ready, 'ready message')} (without the management API, those in flight cannot be seen)"
    if not seen.messages:
        return "no message"
    return f"{plural(seen.messages, 'message')} ({seen.ready:,} ready, {seen.unacknowledged:,} in flight)"


def consumers(seen: ObservedQueue) -> str:
    return "" if seen.consumers is None else f" and has {plural(seen.consumers, 'consumer')}"


def of_the_ledger(known: Known) -> Iterator[str]:
    owned = known.owned.get(known.name)
    if owned is None:
        if known.queue and known.seen:
            yield (
                "It was there before it was in the file, so it is not ours and is never deleted by us "
                f"(reconciler adopt {pasted(known.name)} makes it ours)."
            )
    elif known.queue is None:
        yield f"It is ours: we made it or were told to adopt it, and the file said on_remove: {owned.on_remove}."
    else:
        removal = {
            "keep": "out of the file it stays, and is given up",
            "delete-if-empty": "out of the file it is deleted once it is empty and unused",
            "delete": "out of the file it is deleted with its messages",
        }
        yield f"It is ours: {removal[owned.on_remove]} (on_remove: {owned.on_remove})."


# -- what is to be done, and what is not done ----------------------------------------------------------------------


def of_the_plan(known: Known) -> Iterator[str]:
    for held in known.plan.held:
        if held.queue == known.name:
            yield f"Held, because {sentence(held.reason)}"
    for step in known.plan.under_way:
        if step.queue == known.name:
            yield f"It is being replaced by a queue of other properties: {sentence(step.text)}"
    for action in known.plan.actions:
        if action.name == known.name:
            yield f"The next step is to {action} ({action.cost})."


def of_the_pause(known: Known) -> Iterator[str]:
    paused = known.status["queues"].get(known.name, {}).get("paused")
    if paused:
        reason = f', because "{paused["reason"]}"' if paused["reason"] else ""
        until = paused["until"] or f"reconciler resume {pasted(known.name)}"
        yield f"It has been paused since {paused['since']}{reason}: its workers stand still until {until}."


# -- workers -------------------------------------------------------------------------------------------------------


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


# -- drift ---------------------------------------------------------------------------------------------------------


def of_the_drifts(known: Known) -> Iterator[str]:
    """Who kept changing it, apart for what was mended and what was only seen."""
    for corrected in (True, False):
        drifts = [d for d in known.drifts if d.corrected == corrected]
        recent = [d for d in drifts if d.at > known.now - HOUR]
        if not drifts:
            continue
        counted = recent or drifts
        last = counted[-1]
        within = "an hour" if recent else "a day"
        yield (
            f"Drift was {'corrected' if corrected else 'seen'} {times(len(counted))} within {within} "
            f"(last {ago(known.now - last.at)}: {last.what}), {blamed(counted)}."
        )


def blamed(drifts: Sequence[Drift]) -> str:
    culprits = Counter(drift.by for drift in reversed(drifts))
    unknown = culprits.pop(None, 0)
    if not culprits:
        return "and RabbitMQ does not tell by whom (no other connection was seen then; the HTTP API leaves no trace)"
    if len(culprits) == 1 and not unknown:
        return f"as far as RabbitMQ tells by {next(iter(culprits))}"
    parts = [f"{times(number)} by {by}" for by, number in culprits.items()]
    return f"as far as RabbitMQ tells {'; '.join(parts)}" + (f"; {times(unknown)} by nobody knows whom" * bool(unknown))


# -- words ---------------------------------------------------------------------------------------------------------


def word(number: int) -> str:
    return WORDS[number] if number < len(WORDS) else f"{number:,}"


def is_are(number: int) -> str:
    return "is" if number == 1 else "are"


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{word(number)} times")


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plural_of(workers: Sequence[ObservedWorker]) -> str:
    return str(sum(w.state in (WorkerState.READY, WorkerState.STOPPING) for w in workers))


def listing(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "nothing"


def ago(seconds: float) -> str:
    if seconds < 90:
        return f"{max(0, seconds):.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"


def sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def pasted(name: str) -> str:
    """A name as an argument of a command that a person pastes into a shell."""
    return f"{'-- ' if name.startswith('-') else ''}{shlex.quote(name)}"
