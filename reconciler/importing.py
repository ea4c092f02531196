"""What a broker has → the queues.yaml that says so, with comments on what it cannot say. Pure.

Every entry is judged by the diff itself: it is written in the friendliest form on which a plan has nothing to do, and
if there is none it is left out, with the reason. So the plan after an import is empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from reconciler.diff import Properties, compare
from reconciler.diff.policies import carries_keys, compare_policies, wanted_policies
from state.desired import Desired, Queue
from state.edit.render import Indent, entry
from state.faults import details, dotted
from state.observed import ObservedBinding, ObservedBroker, ObservedExchange, ObservedPolicy, ObservedQueue
from state.retries import in_words
from state.topology import OUR_POLICIES
from state.traits import BY_ARGUMENT, TRAITS, Trait, milliseconds

Entry = dict[str, Any]
T = TypeVar("T")
SECTIONS = ("exchanges", "queues", "policies")
KINDS = {"exchanges": "exchange", "queues": "queue", "policies": "policy"}


@dataclass
class Draft:
    """The file's sections, each name with its forms, the friendliest first; and what is left out, with the reason."""

    forms: dict[str, dict[str, list[Entry]]] = field(default_factory=lambda: {section: {} for section in SECTIONS})
    left_out: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        found = {section: {name: forms[0] for name, forms in self.forms[section].items()} for section in SECTIONS}
        return {"version": 1} | {
            section: found[section] for section in SECTIONS if found[section] or section == "queues"
        }

    def give_up(self, section: str, name: str, reason: str) -> None:
        """The friendliest form does not hold: the next one, or none."""
        forms = self.forms[section].get(name, [])
        del forms[:1]
        if not forms:
            self.forms[section].pop(name, None)
            self.left_out.append(f"{KINDS[section]} {name}: {reason}")


def draft(seen: ObservedBroker) -> Draft:
    """What of `seen` a file can say. Bindings stand at their destination."""
    made = Draft()
    for exchange in by_name(seen.exchanges):
        add(made, "exchanges", exchange.name, [exchange_entry(exchange)], partial(why_not_exchange, exchange))
    for queue in by_name(seen.queues):
        forms = [queue_entry(queue, friendly=True), queue_entry(queue, friendly=False)]
        add(made, "queues", queue.name, forms, partial(why_not_queue, queue))
    carried = {p.name: p for p in by_name(seen.policies) if carries_keys(p)}
    for policy in by_name(seen.policies):
        if policy.name in carried:
            continue
        add(made, "policies", policy.name, [policy_entry(policy)], partial(why_not_policy, policy))
    drop_strange_dead_letters(made)
    add_bindings(made, seen.bindings or ())
    for policy in carried.values():
        fold(made, policy, seen)
    return made


def by_name(things: Mapping[str, T] | None) -> Iterator[T]:
    return (thing for _, thing in sorted((things or {}).items()))


def add(made: Draft, section: str, name: str, forms: list[Entry], why_not: Callable[[Entry], str | None]) -> None:
    made.forms[section][name] = forms
    while (forms := made.forms[section].get(name, [])) and (reason := why_not(forms[0])):
        made.give_up(section, name, reason)


def faults_of(model: Any, data: Any) -> list[tuple[tuple[str, ...], str]]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return details(error)
    return []


def first_fault(model: Any, data: Any) -> tuple[tuple[str, ...], str] | None:
    return next(iter(faults_of(model, data)), None)


def short(fault: tuple[tuple[str, ...], str] | None, name: str) -> str | None:
    """Where in the entry, and what. The line of what is left out begins with the kind and the name already."""
    if fault is None:
        return None
    path, message = fault
    inner = dotted(path[2:] if path[1:2] == (name,) else path)
    return f"{inner}: {message}" if inner else message


# -- exchanges and policies ----------------------------------------------------------------------------------------


def exchange_entry(seen: ObservedExchange) -> Entry:
    made: Entry = {} if seen.type == "direct" else {"type": seen.type}
    made |= {} if seen.durable else {"durable": False}
    made |= {key: True for key in ("auto_delete", "internal") if getattr(seen, key)}
    return made | ({"arguments": dict(seen.arguments)} if seen.arguments else {})


def why_not_exchange(seen: ObservedExchange, made: Entry) -> str | None:
    return short(first_fault(Desired, {"version": 1, "queues": {}, "exchanges": {seen.name: made}}), seen.name)


def policy_entry(seen: ObservedPolicy) -> Entry:
    made: Entry = {"pattern": seen.pattern}
    made |= {"apply_to": seen.apply_to} if seen.apply_to != "all" else {}
    made |= {"priority": seen.priority} if seen.priority else {}
    return made | {"definition": dict(seen.definition)}


def why_not_policy(seen: ObservedPolicy, made: Entry) -> str | None:
    return short(first_fault(Desired, {"version": 1, "queues": {}, "policies": {seen.name: made}}), seen.name)


def fold(made: Draft, policy: ObservedPolicy, seen: ObservedBroker) -> None:
    """A policy that some queues.yaml made of a queue's own keys becomes those keys again, if it is just theirs."""
    name = policy.name.removeprefix(OUR_POLICIES)
    forms = made.forms["queues"].get(name)
    if forms:
        before = forms[0]
        forms[0] = own_keys(policy, before.get("type", "classic")) | before
        if not faults_of(Desired, made.data()):
            wanted = wanted_policies(Desired.model_validate(made.data()), seen.queues, seen.policies).get(policy.name)
            if wanted and not list(compare_policies(wanted.rule, policy)):
                return
        forms[0] = before
    made.left_out.append(f"policy {policy.name}: it carries keys of a queue in some other queues.yaml")


def own_keys(policy: ObservedPolicy, kind: str) -> Entry:
    known = [t for t in TRAITS if t.policy and t.policy in policy.definition and kind in t.types]
    return {trait.key: in_file(trait, policy.definition[str(trait.policy)]) for trait in known}


def in_file(trait: Trait, value: Any) -> Any:
    """A policy's value as the file writes it: 60000 is 1m."""
    return in_words(value) if trait.written is milliseconds and isinstance(value, int) and value > 0 else value


# -- queues --------------------------------------------------------------------------------------------------------


def queue_entry(seen: ObservedQueue, *, friendly: bool) -> Entry:
    """`friendly`: with the keys that say exactly what an argument says; the rest stay arguments."""
    arguments = {key: value for key, value in (seen.arguments or {}).items() if key != "x-queue-type"}
    made: Entry = {} if seen.type in ("classic", None) else {"type": seen.type}
    made |= {} if seen.durable else {"durable": False}
    if friendly:
        for trait in TRAITS:
            if trait.policy is None and trait.argument in arguments and seen.type in trait.types:
                made[trait.key] = arguments.pop(trait.argument)
        if arguments.get("x-dead-letter-exchange") == "" and "x-dead-letter-routing-key" in arguments:
            made["dead_letter"] = arguments.pop("x-dead-letter-routing-key")
            del arguments["x-dead-letter-exchange"]
    return made | ({"arguments": arguments} if arguments else {})


def why_not_queue(seen: ObservedQueue, made: Entry) -> str | None:
    if seen.exclusive:
        return "it is exclusive: it belongs to one connection, and goes with it"
    if seen.name.startswith("amq."):
        return "RabbitMQ named it itself, for the client that asked for a queue without a name"
    if seen.auto_delete:
        return "it is auto-delete: RabbitMQ deletes it with its last consumer"
    if fault := short(first_fault(Desired, {"version": 1, "queues": {seen.name: made}}), seen.name):
        return fault
    have = Properties.seen(seen)
    if have is None:
        return "without the management API its properties cannot be seen"
    return "; ".join(map(str, compare(Properties.wanted(Queue.model_validate(made)), have))) or None


def drop_strange_dead_letters(made: Draft) -> None:
    """`dead_letter` makes its queue if it is not listed: so only for one that is."""
    for name, forms in list(made.forms["queues"].items()):
        if forms[0].get("dead_letter", name) not in made.forms["queues"]:
            made.give_up("queues", name, "")


# -- bindings ------------------------------------------------------------------------------------------------------


def add_bindings(made: Draft, bindings: Iterable[ObservedBinding]) -> None:
    for binding in sorted(bindings, key=lambda b: b.key):
        section = "queues" if binding.destination_type == "queue" else "exchanges"
        forms = made.forms[section].get(binding.destination)
        if forms is None:
            if binding.destination.startswith("amq.") and section == "exchanges":
                made.left_out.append(f"binding {binding}: the exchange at its end is RabbitMQ's own")
        elif fault := first_fault(Queue, {"bindings": [binding_entry(binding)]}):
            path, reason = fault
            made.left_out.append(f"binding {binding}: {dotted(path[2:])}: {reason}")
        else:
            for form in forms:
                form.setdefault("bindings", []).append(binding_entry(binding))


def binding_entry(binding: ObservedBinding) -> Entry:
    made: Entry = {"exchange": binding.source}
    made |= {"routing_key": binding.routing_key} if binding.routing_key else {}
    return made | ({"arguments": dict(binding.arguments)} if binding.arguments else {})


# -- the text ------------------------------------------------------------------------------------------------------


def written(made: Draft, origin: str) -> str:
    """The draft as the text of a queues.yaml."""
    return "\n".join([*head(origin), "version: 1", *sections(made), *of_what_is_left_out(made.left_out)]) + "\n"


def head(origin: str) -> Iterator[str]:
    yield f"# What {on_one_line(origin)} has, as reconciler import saw it; reconciler plan on it has nothing to do."
    yield "#"
    yield "# Nothing of it is ours yet: what leaves this file stays there, unless reconciler adopt has made it ours."
    yield "# To have workers drain a queue, add them to it: workers: {send_email: 5} for workers/send_email.py."


def sections(made: Draft) -> Iterator[str]:
    data = made.data()
    for section in SECTIONS:
        if section not in data:
            continue
        yield ""
        yield f"{section}:" if data[section] else f"{section}: {{}}"
        for name, value in data[section].items():
            yield from (f"  # {note}" for note in notes(section, value))
            yield from entry(name, value, 2, Indent())


def notes(section: str, made: Entry) -> Iterator[str]:
    """What somebody who takes over this entry would want to know."""
    if section != "queues":
        return
    movable = [BY_ARGUMENT[key] for key in made.get("arguments", {}) if key in BY_ARGUMENT]
    if keys := [trait.key for trait in movable if trait.policy]:
        one = len(keys) == 1
        yield (
            f"{', '.join(trait.argument for trait in movable if trait.policy)} {'is' if one else 'are'} fixed as "
            f"{'an argument' if one else 'arguments'}; {', '.join(keys)} would be a policy, that can be edited later"
        )


def of_what_is_left_out(left_out: list[str]) -> Iterator[str]:
    if left_out:
        yield ""
        yield "# Left out, and left alone:"
        yield from (f"#   {on_one_line(reason)}" for reason in left_out)


def on_one_line(words: str) -> str:
    """As it stands in a comment: what would end the line, or cannot be seen, is escaped."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in words)
