// /status, /queue/list and /worker/list as one list of queues. Pure.

/**
 * What the page shows of each queue, in the order of their names.
 * `list` may be null (the broker is away): what an earlier one said of type and arguments stays.
 */
export function merge(status, list, workers, before = new Map()) {
  const listed = new Map((list ?? []).map((queue) => [queue.name, queue]));
  const byQueue = Map.groupBy ? Map.groupBy(workers, (w) => w.queue_name) : groupBy(workers);
  const held = new Map((status.held?.actions ?? []).map((action) => [action.queue, action]));
  const names = new Set([...Object.keys(status.queues), ...listed.keys()]);
  if (!list) for (const [name, queue] of before) if (!queue.managed) names.add(name);
  const queues = new Map();
  for (const name of [...names].sort(byName)) {
    const seen = listed.get(name) ?? (list ? null : before.get(name)?.seen) ?? null;
    queues.set(name, one(name, status.queues[name], seen, byQueue.get(name) ?? [], held.get(name), !list));
  }
  return queues;
}

const collator = new Intl.Collator("en", { numeric: true });

export function byName(a, b) {
  return collator.compare(a, b) || (a < b ? -1 : 1);
}

function groupBy(workers) {
  const groups = new Map();
  for (const worker of workers) {
    if (!groups.has(worker.queue_name)) groups.set(worker.queue_name, []);
    groups.get(worker.queue_name).push(worker);
  }
  return groups;
}

function one(name, status, seen, workers, held, away) {
  const managed = status !== undefined;
  const total = status?.messages ?? (away ? null : (seen?.messages ?? null));
  const unacknowledged = away ? null : (seen?.messages_unacknowledged ?? null);
  const queue = {
    name,
    managed,
    seen,
    held: held ?? null,
    paused: status?.paused ?? null,
    type: seen?.type ?? null,
    durable: seen?.durable ?? null,
    state: seen?.state ?? null,
    messages: total,
    ready: away ? total : (seen?.messages_ready ?? total),
    unacknowledged,
    reason: held?.reason ?? status?.reason ?? null,
    pools: poolsOf(status?.workers ?? {}, workers),
  };
  for (const pool of queue.pools) pool.paused = queue.paused !== null;
  return Object.assign(queue, assess(queue, status));
}

function poolsOf(wanted, workers) {
  const pools = new Map();
  for (const [name, pool] of Object.entries(wanted)) pools.set(name, { name, declared: true, ...pool, workers: [] });
  for (const worker of workers) {
    const name = worker.worker_name;
    if (!pools.has(name)) pools.set(name, { name, declared: false, desired: 0, ready: 0, restarts: 0, workers: [] });
    pools.get(name).workers.push(worker);
  }
  for (const pool of pools.values()) pool.workers.sort((a, b) => (a.slot ?? 0) - (b.slot ?? 0) || (a.pid ?? 0) - (b.pid ?? 0));
  return [...pools.values()];
}

const BROKEN = new Set(["backoff", "fatal"]);
const MOVING = new Set(["starting", "stopping"]);

/** The word, its tone, and whether a person should look. Under way is not a problem: it ends by itself. */
function assess(queue, status) {
  if (queue.held) return { badge: "Held", tone: "warn", problem: true, working: false };
  if (!queue.managed) return { badge: "Unmanaged", tone: "mute", problem: false, working: false };
  const states = queue.pools.flatMap((pool) => pool.workers.map((worker) => worker.state));
  const broken = states.some((state) => BROKEN.has(state));
  if (queue.paused && status.healthy) {
    return status.synced
      ? { badge: "Paused", tone: "mute", problem: false, working: false }
      : { badge: "Pausing", tone: "info", problem: false, working: true };
  }
  const short = queue.pools.some((pool) => pool.declared && pool.ready !== pool.desired);
  const moving = states.some((state) => MOVING.has(state)) || (short && !status.synced);
  if (broken) return { badge: "Unhealthy", tone: "bad", problem: true, working: false };
  if (!status.healthy && moving) return { badge: "Working", tone: "info", problem: false, working: true };
  if (!status.synced) return { badge: "Not synced", tone: "warn", problem: true, working: false };
  if (!status.healthy) return { badge: "Unhealthy", tone: "bad", problem: true, working: false };
  return { badge: "Synced", tone: "ok", problem: false, working: false };
}

/** The state of the whole, worst first. */
export function overall(status, queues) {
  if (!status.broker.connected) return { word: "Broker away", tone: "bad" };
  if (status.file_error) return { word: "File has faults", tone: "bad" };
  if (status.held) return { word: "Held", tone: "warn" };
  const all = [...queues.values()];
  const problems = all.filter((queue) => queue.problem).length;
  if (all.some((queue) => queue.tone === "bad")) return { word: "Unhealthy", tone: "bad", problems };
  if (status.pending.length || !status.synced || !status.healthy) return { word: "Working", tone: "info", moving: true };
  return { word: "Synced", tone: "ok" };
}

/** How many queues each filter shows, and the sums for the head of the page. */
export function totals(queues) {
  const sum = { all: 0, problems: 0, managed: 0, unmanaged: 0, messages: null, ready: 0, desired: 0 };
  for (const queue of queues.values()) {
    sum.all += 1;
    sum[queue.managed ? "managed" : "unmanaged"] += 1;
    if (queue.problem) sum.problems += 1;
    if (queue.messages !== null) sum.messages = (sum.messages ?? 0) + queue.messages;
    for (const pool of queue.pools) {
      sum.ready += pool.ready;
      if (!pool.paused) sum.desired += pool.desired;
    }
  }
  return sum;
}

export function matches(queue, filter, text) {
  if (filter === "problems" && !queue.problem) return false;
  if (filter === "managed" && !queue.managed) return false;
  if (filter === "unmanaged" && queue.managed) return false;
  if (!text) return true;
  return queue.name.toLowerCase().includes(text) || queue.pools.some((pool) => pool.name.toLowerCase().includes(text));
}
