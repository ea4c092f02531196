"""The queue itself, in sentences: as the file, the broker and the ledger have it, and what is to be done to it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from reconciler.diff.policies import applying, carries_keys
from reconciler.explain.known import Known
from reconciler.words import listing, pasted, plural, sentence
from state.desired import Desired, Queue, Worker
from state.observed import ObservedQueue
from state.retries import Implied, dead_letter_of, delay_queues, rejected_of

NAMED = 5  # bindings


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
