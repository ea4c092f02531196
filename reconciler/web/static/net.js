// JSON over HTTP, and server-sent events that come back by themselves.

/** An answer that is an error, in the server's words. */
export class ApiError extends Error {
  constructor(status, body) {
    super(sentence(status, body));
    this.status = status;
    this.body = body;
  }
}

function sentence(status, body) {
  const details = (body?.details ?? []).map((d) => `${d.path ? `${d.path}: ` : ""}${d.message}`);
  return [body?.error ?? `the server answered ${status}`, ...details.filter((d) => !body?.error?.includes(d))].join("; ");
}

/** The JSON of an answer. Throws ApiError for 4xx and 5xx, TypeError if nobody answers. */
export async function getJson(url, options = {}) {
  const response = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store", ...options });
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, body);
  return body;
}

/** A body that is text. Throws as `getJson` does. */
export async function getText(url) {
  const response = await fetch(url, { cache: "no-store" });
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => null));
  return response.text();
}

export function postJson(url, body) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  return getJson(url, { method: "POST", headers, body: JSON.stringify(body) });
}

const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;

/**
 * An EventSource that is opened again after every end, with a growing pause, at whatever `url()` then says.
 * `on` maps event names to handlers; `state` hears "connecting", "live" and "reconnecting".
 */
export class Stream {
  constructor(url, on, state = () => {}) {
    this.url = url;
    this.on = on;
    this.state = state;
    this.source = null;
    this.timer = 0;
    this.failures = 0;
  }

  get running() {
    return this.source !== null || this.timer !== 0;
  }

  start() {
    if (this.running) return;
    this.state(this.failures ? "reconnecting" : "connecting");
    const source = (this.source = new EventSource(this.url()));
    source.onopen = () => {
      this.failures = 0;
      this.state("live");
    };
    source.onerror = () => this.lost();
    for (const [name, handler] of Object.entries(this.on)) {
      source.addEventListener(name, (event) => this.source === source && handler(event));
    }
  }

  stop() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    this.timer = 0;
    this.failures = 0;
  }

  lost() {
    this.source?.close();
    this.source = null;
    this.failures += 1;
    this.state("reconnecting");
    const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** (this.failures - 1)) * (0.8 + 0.4 * Math.random());
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.start();
    }, delay);
  }
}
