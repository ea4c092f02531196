"""From the file's words about a worker to the process that runs it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from reconciler.settings import Runtime
from state.desired import Desired, Queue, Worker
from state.processes import Limits, LogRules, Pool, WorkerSpec
from state.retries import dead_letter_of, delay_queues

PLAIN_QUEUE = Queue()
NO_CODE: Mapping[str, str] = {}


def specs_of(desired: Desired, runtime: Runtime, code: Mapping[str, str] = NO_CODE) -> dict[Pool, WorkerSpec]:
    """`code`: the digest of each worker module that is in force, by name. Other code is another spec."""
    return {
        pool: spec_of(pool, worker, runtime, code.get(pool.worker, ""), desired.queues[pool.queue])
        for pool, worker in desired.pools()
    }


def spec_of(pool: Pool, worker: Worker, runtime: Runtime, code: str = "", queue: Queue = PLAIN_QUEUE) -> WorkerSpec:
    command = tuple(worker.command or python_command(pool, runtime))
    env = environment(pool, worker, runtime, queue)
    cwd = str(runtime.workers.parent)
    code = "" if worker.command else code
    limits, rules = limits_of(worker), log_rules_of(worker)
    # What a process is born with, and what the supervisor applies to it while it runs.
    born = [command, sorted(env.items()), cwd, worker.grace, code, worker.forked, asdict(kernel_part(limits))]
    applied = [worker.max_restarts, asdict(limits), asdict(rules)]
    return WorkerSpec(
        pool=pool,
        command=command,
        env=env,
        cwd=cwd,
        grace=worker.grace,
        digest=digest_of(born),
        module=None if worker.command else pool.worker,
        code=code,
        zygote=worker.forked,
        max_restarts=worker.max_restarts,
        limits=limits,
        log=rules,
        terms=digest_of(applied),
    )


def python_command(pool: Pool, runtime: Runtime) -> tuple[str, ...]:
    # -P keeps the current folder, where the user's own `workers` may lie, out of the import path.
    return runtime.python, "-P", runtime.entry, "run", pool.worker


def environment(pool: Pool, worker: Worker, runtime: Runtime, queue: Queue = PLAIN_QUEUE) -> dict[str, str]:
    """What is set on top of the daemon's environment; the worker's own `env` has the last word."""
    given = {
        "AMQP_URL": runtime.amqp_url,
        "QUEUE_NAME": pool.queue,
        "WORKER_NAME": pool.worker,
        "PREFETCH": str(worker.prefetch),
        "WORKERS_FOLDER": str(runtime.workers),
    }
    if (dead := dead_letter_of(pool.queue, queue)) is not None:
        given["QUEUE_DEAD_LETTER"] = dead
    if queue.retry is not None:
        delays = delay_queues(pool.queue, queue.retry)
        given["QUEUE_RETRY"] = json.dumps({"attempts": queue.retry.attempts, "queues": delays}, ensure_ascii=False)
    if worker.log_format is not None:
        given["LOG_FORMAT"] = worker.log_format
    if worker.watchdog is not None:  # as sd_watchdog_enabled(3) has it
        given["WATCHDOG_USEC"] = str(round(worker.watchdog * 1_000_000))
    return {**given, **worker.env}


def limits_of(worker: Worker) -> Limits:
    return Limits(
        watchdog=worker.watchdog,
        message_timeout=worker.message_timeout,
        max_memory=worker.max_memory,
        max_messages=worker.max_messages,
        max_age=worker.max_age,
        nice=worker.nice,
        cpu_affinity=tuple(sorted(set(worker.cpu_affinity or ()))),
        user=worker.user,
        rlimits=worker.limits,
    )


def kernel_part(limits: Limits) -> Limits:
    """The limits that are set before a process begins, and never after."""
    return Limits(nice=limits.nice, cpu_affinity=limits.cpu_affinity, user=limits.user, rlimits=limits.rlimits)


def log_rules_of(worker: Worker) -> LogRules:
    return LogRules(max_bytes=worker.log_max, keep=worker.log_keep, max_age=worker.log_age)


def digest_of(parts: list[Any]) -> str:
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
