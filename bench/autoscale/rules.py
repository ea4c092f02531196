"""The rules: what is seen of the queue in, the number of processes out.

KEDA's is written from its documentation (RabbitMQ scaler, mode QueueLength, over HTTP, so that unacknowledged messages
count as they do with us) and that of the Kubernetes autoscaler that does the work for it from one replica on.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from reconciler.autoscale import decide, remember
from state.autoscale import Policy, Sample

IDLE_LOOK, BUSY_LOOK = 0.5, 1.0  # seconds between our looks at the queue: while at zero, and else


class Rule(Protocol):
    name: str

    def count(self, now: float, ready: int, unacknowledged: int, current: int) -> int:
        """Called every step of the simulation; looks at the queue only when it would."""
        ...


class Ours:
    def __init__(self, policy: Policy, name: str = "ours") -> None:
        self.name = name
        self._policy = policy
        self._samples: tuple[Sample, ...] = ()
        self._due = 0.0

    def count(self, now: float, ready: int, unacknowledged: int, current: int) -> int:
        if now < self._due:
            return current
        self._samples = remember(self._samples, Sample(now, ready, unacknowledged), self._policy.horizon)
        decision = decide(self._policy, self._samples, current, now)
        self._due = now + (BUSY_LOOK if decision.count else IDLE_LOOK)
        return decision.count


class Keda:
    """The operator switches between zero and one, the horizontal pod autoscaler does the rest."""

    SYNC = 15.0  # --horizontal-pod-autoscaler-sync-period; for the whole cluster

    def __init__(self, policy: Policy, poll: float, cooldown: float, window: float, phase: float, name: str) -> None:
        self.name = name
        self._policy, self._poll, self._cooldown, self._window = policy, poll, cooldown, window
        self._next_poll, self._next_sync = phase * poll, phase * self.SYNC
        self._active_at = -math.inf
        self._asked: deque[tuple[float, int]] = deque()

    def count(self, now: float, ready: int, unacknowledged: int, current: int) -> int:
        messages = ready + unacknowledged
        if now >= self._next_poll:
            self._next_poll += self._poll
            current = self._switch(now, messages, current)
        if now >= self._next_sync:
            self._next_sync += self.SYNC
            current = self._sync(now, messages, current) if current else 0
        return current

    def _switch(self, now: float, messages: int, current: int) -> int:
        if messages > 0:
            self._active_at = now
            return current or 1
        over = now - self._active_at >= self._cooldown
        return self._policy.min if over else current

    def _sync(self, now: float, messages: int, current: int) -> int:
        ratio = messages / (current * self._policy.backlog)
        asked = current if abs(1 - ratio) <= 0.1 else math.ceil(messages / self._policy.backlog)
        asked = min(max(asked, self._policy.min, 1), self._policy.max)
        self._asked.append((now, asked))
        while self._asked[0][0] < now - self._window:
            self._asked.popleft()
        if asked > current:
            return min(asked, max(current * 2, current + 4))  # its default: the larger of both in 15 s
        return min(current, max(count for _, count in self._asked))


def rules(policy: Policy, phase: float) -> list[Rule]:
    """`phase`, from 0 to 1, is where in its intervals KEDA stands when the load begins."""
    return [
        Ours(policy),
        Keda(policy, poll=30, cooldown=300, window=300, phase=phase, name="KEDA"),
        Keda(policy, poll=1, cooldown=policy.cooldown, window=policy.window, phase=phase, name="KEDA, tuned"),
    ]
