// One pool of workers in an opened queue: its head with the stepper, and a row for each process.

import { el, setAttribute, setClass, setHidden, setText } from "../dom.js";
import { bytes, count, duration, plural, time, visible } from "../format.js";
import { Stepper } from "./stepper.js";

const AT_FIRST = 60; // rows shown before someone asks for all
const TONES = { ready: "ok", starting: "info", stopping: "info", backoff: "bad", fatal: "bad", exited: "mute" };
const COLUMNS = ["Slot", "State", "PID", "Uptime", "Processed", "Failed", "Restarts", "Memory", "CPU", "Log"];

export class PoolView {
  constructor(queue, name) {
    this.rows = new Map();
    this.all = false;
    this.stepper = new Stepper(queue, name);
    this.count = el("span", { class: "pool-count" });
    this.restarts = el("span", { class: "pool-restarts" });
    this.title = el("h3", { class: "pool-name", title: name }, el("bdi", {}, visible(name)));
    this.body = el("tbody");
    const head = el("tr", {}, ...COLUMNS.map((text) => el("th", { scope: "col" }, text)));
    const caption = el("caption", { class: "sr-only" }, `Workers of ${name}`);
    this.table = el("table", { class: "workers" }, caption, el("thead", {}, head), this.body);
    this.more = el("button", { type: "button", class: "button quiet more", hidden: true });
    this.more.addEventListener("click", () => {
      this.all = true;
      this.update(this.pool, Date.now());
    });
    const top = el("div", { class: "pool-head" }, this.title, this.count, this.restarts, this.stepper.el);
    this.el = el("section", { class: "pool" }, top, this.table, this.more);
  }

  update(pool, now) {
    this.pool = pool;
    this.stepper.update(pool.desired);
    setHidden(this.stepper.el, !pool.declared || pool.autoscale !== undefined);
    const wanted = pool.paused ? `paused, ${count(pool.desired)} when it is resumed` : `${count(pool.ready)} of ${count(pool.desired)} ready`;
    const scaling = pool.autoscale ? ` · autoscaled ${count(pool.autoscale.min)}–${count(pool.autoscale.max)}: ${pool.autoscale.reason}` : "";
    const text = pool.declared ? wanted + scaling : "no longer in the file";
    setText(this.count, text);
    setText(this.restarts, pool.restarts ? plural(pool.restarts, "restart") : "");
    this.fill(this.chosen(pool.workers), now);
    setHidden(this.table, pool.workers.length === 0);
    const left = pool.workers.length - this.rows.size;
    setHidden(this.more, left <= 0);
    setText(this.more, `Show ${count(left)} more`);
  }

  /** All of them, or those that are not ready before those that are. */
  chosen(workers) {
    if (this.all || workers.length <= AT_FIRST) return workers;
    const unwell = workers.filter((worker) => worker.state !== "ready").slice(0, AT_FIRST);
    const well = workers.filter((worker) => worker.state === "ready").slice(0, AT_FIRST - unwell.length);
    const kept = new Set([...unwell, ...well]);
    return workers.filter((worker) => kept.has(worker));
  }

  fill(workers, now) {
    const keys = new Set();
    let after = null;
    for (const worker of workers) {
      let key = `${worker.slot ?? worker.pid}`;
      while (keys.has(key)) key += "+";
      keys.add(key);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = new WorkerRow()));
      row.update(worker, now);
      const next = after ? after.nextSibling : this.body.firstChild;
      if (row.el !== next) this.body.insertBefore(row.el, next);
      after = row.el;
    }
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.el.remove();
      this.rows.delete(key);
    }
  }

  tick(now) {
    for (const row of this.rows.values()) row.tick(now);
  }
}

class WorkerRow {
  constructor() {
    this.cells = Object.fromEntries(COLUMNS.map((name) => [name, el("td", { data: { label: name } })]));
    this.state = el("span", { class: "state" });
    this.reason = el("span", { class: "state-reason", hidden: true });
    this.cells.State.append(this.state, this.reason);
    this.cells.State.className = "cell-state";
    this.link = el("a", { class: "log-link" }, "Log");
    this.cells.Log.append(this.link);
    this.el = el("tr", {}, ...Object.values(this.cells));
  }

  update(worker, now) {
    this.worker = worker;
    const running = ["starting", "ready", "stopping"].includes(worker.state);
    setText(this.cells.Slot, String(worker.slot ?? "–"));
    setText(this.cells.PID, worker.pid === null ? "–" : String(worker.pid));
    setText(this.cells.Processed, count(worker.processed));
    setText(this.cells.Failed, count(worker.failed));
    setClass(this.cells.Failed, worker.failed ? "some-failed" : "");
    setText(this.cells.Restarts, count(worker.restarts));
    setText(this.cells.Memory, bytes(running ? worker.rss_bytes : null));
    const cpu = running ? worker.cpu_percent : null;
    setText(this.cells.CPU, cpu === null || cpu === undefined ? "–" : `${cpu.toFixed(1)} %`);
    setClass(this.state, `state tone-${TONES[worker.state] ?? "mute"}`);
    this.showLink(worker);
    this.tick(now);
  }

  showLink(worker) {
    const url = localPath(worker.view_url);
    setHidden(this.link, url === null);
    if (url === null) return;
    setAttribute(this.link, "href", url);
    setAttribute(this.link, "aria-label", `Log of slot ${worker.slot}, process ${worker.pid}`);
  }

  /** What changes with the clock alone. */
  tick(now) {
    const { state, started_at: started, reason, retry_at: retry } = this.worker;
    const since = time(started);
    const runs = since !== null && ["starting", "ready", "stopping"].includes(state);
    setText(this.cells.Uptime, runs ? duration(now - since) : "–");
    const due = time(retry);
    const again = state !== "backoff" || due === null ? "" : due > now ? `, again in ${duration(due - now + 999)}` : ", again now";
    setText(this.state, state + again);
    setHidden(this.reason, !reason);
    setText(this.reason, visible(reason ?? ""));
  }
}

/** Only ever a path of this server, whatever the answer says. */
function localPath(url) {
  return typeof url === "string" && /^\/(?![/\\])/.test(url) ? url : null;
}
