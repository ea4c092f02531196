"""What the tests of the pure modules are made of: desired states, and queues and workers as they were seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reconciler.settings import Runtime
from reconciler.spec import specs_of
from state.desired import Desired
from state.observed import ObservedBroker, ObservedQueue
from state.processes import ObservedWorker, Pool, WorkerSpec, WorkerState

POOL = Pool("q", "w")
RUNTIME = Runtime(workers=Path("/site/workers"), amqp_url="amqp://here/")


def desired(**queues: Any) -> Desired:
    return Desired.model_validate({"version": 1, "queues": queues})


def specs(of: Desired) -> dict[Pool, WorkerSpec]:
    return specs_of(of, RUNTIME)


def spec(digest: str = "new", pool: Pool = POOL) -> WorkerSpec:
    return WorkerSpec(pool, ("true",), {}, "/", 30, digest)


def there(name: str = "q", **seen: Any) -> ObservedQueue:
    """A queue at the broker, by default a plain one."""
    return ObservedQueue(name, **{"type": "classic", "durable": True, "arguments": {}, "unacknowledged": 0, **seen})


def broker(*queues: ObservedQueue, **seen: Any) -> ObservedBroker:
    """All that a broker has, by default nothing but these queues."""
    empty: dict[str, Any] = {"exchanges": {}, "bindings": frozenset(), "policies": {}}
    return ObservedBroker("here /", "3.13.0", True, {queue.name: queue for queue in queues}, **(empty | seen))


def terms(spec_terms: str, digest: str = "new") -> WorkerSpec:
    """The spec of `spec`, with other limits."""
    return replace(spec(digest), terms=spec_terms)


def worker(slot: int = 0, state: str = "ready", digest: str = "new", pool: Pool = POOL, **seen: Any) -> ObservedWorker:
    return ObservedWorker(pool, slot, 100 + slot, WorkerState(state), digest, 0.0, **seen)
