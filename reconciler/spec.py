"""From the file's words about a worker to the process that runs it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from reconciler.settings import Runtime
from state.desired import Desired, Worker
from state.processes import Pool, WorkerSpec

NO_CODE: Mapping[str, str] = {}


def specs_of(desired: Desired, runtime: Runtime, code: Mapping[str, str] = NO_CODE) -> dict[Pool, WorkerSpec]:
    """`code`: the digest of each worker module that is in force, by name. Other code is another spec."""
    return {pool: spec_of(pool, worker, runtime, code.get(pool.worker, "")) for pool, worker in desired.pools()}


def spec_of(pool: Pool, worker: Worker, runtime: Runtime, code: str = "") -> WorkerSpec:
    command = tuple(worker.command or python_command(pool, runtime))
    env = environment(pool, worker, runtime)
    cwd = str(runtime.workers.parent)
    digest = digest_of(command, env, cwd, worker.grace, "" if worker.command else code)
    return WorkerSpec(pool, command, env, cwd, worker.grace, digest)


def python_command(pool: Pool, runtime: Runtime) -> tuple[str, ...]:
    # -P keeps the current folder, where the user's own `workers` may lie, out of the import path.
    return runtime.python, "-P", runtime.entry, "run", pool.worker


def environment(pool: Pool, worker: Worker, runtime: Runtime) -> dict[str, str]:
    """What is set on top of the daemon's environment; the worker's own `env` has the last word."""
    return {
        "AMQP_URL": runtime.amqp_url,
        "QUEUE_NAME": pool.queue,
        "WORKER_NAME": pool.worker,
        "PREFETCH": str(worker.prefetch),
        "WORKERS_FOLDER": str(runtime.workers),
        **worker.env,
    }


def digest_of(command: tuple[str, ...], env: Mapping[str, str], cwd: str, grace: float, code: str) -> str:
    text = json.dumps([command, sorted(env.items()), cwd, grace, code])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
