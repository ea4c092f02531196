// One queue: a line of two rows of text, always of the same height, and what it opens to.

import { el, icon, setAttribute, setClass, setHidden, setText, svg } from "../dom.js";
import { ago, count, exact, plural, time, visible } from "../format.js";
import { Why } from "./why.js";
import { PoolView } from "./workers.js";

const CHIPS = 2; // pools named in the closed line; the rest is a number
export const SPARK = { width: 96, height: 26 };

let serial = 0;

export class QueueRow {
  constructor(name) {
    this.name = name;
    this.open = false;
    this.id = `queue-${++serial}`;
    this.build();
  }

  build() {
    const shown = visible(this.name);
    this.title = el("bdi", { class: "queue-name" }, shown);
    this.toggle = el("button", { type: "button", class: "queue-toggle", title: shown }, this.title);
    setAttribute(this.toggle, "aria-expanded", "false");
    this.type = el("span", { class: "tag" });
    this.line = el("span", { class: "queue-line" });
    const sub = el("div", { class: "queue-sub" }, this.type, this.line);
    const chevron = el("span", { class: "chevron" }, icon("M6 4l4 4-4 4"));
    this.pools = el("div", { class: "queue-pools" });
    this.chips = [];
    this.area = svg("path", { class: "spark-area" });
    this.curve = svg("path", { class: "spark-line" });
    const box = `0 0 ${SPARK.width} ${SPARK.height}`;
    this.spark = svg("svg", { class: "spark", viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.curve);
    this.ready = figure("ready");
    this.flight = figure("in flight");
    this.badge = el("span", { class: "pill" });
    const head = el(
      "div",
      { class: "queue-head" },
      el("div", { class: "queue-title" }, chevron, el("div", { class: "queue-text" }, this.toggle, sub)),
      this.pools,
      this.spark,
      this.ready.el,
      this.flight.el,
      el("div", { class: "queue-badge" }, this.badge),
    );
    this.el = el("li", { class: "queue", data: { name: this.name } }, head);
    head.addEventListener("click", (event) => this.clicked(event));
  }

  /** The whole line opens it, unless someone is selecting text. */
  clicked(event) {
    if (!event.target.closest("button") && String(getSelection())) return;
    this.setOpen(!this.open);
  }

  update(queue, now) {
    this.queue = queue;
    setText(this.type, queue.type ?? "queue");
    const reason = reasonOf(queue, now);
    setText(this.line, visible(reason ?? describe(queue)));
    setClass(this.line, reason ? `queue-line tone-${queue.tone} is-reason` : "queue-line");
    setAttribute(this.line, "title", queue.reason ?? "");
    this.ready.set(queue.ready);
    this.flight.set(queue.unacknowledged);
    setText(this.badge, queue.badge);
    setClass(this.badge, `pill tone-${queue.tone}${queue.working ? " pulse" : ""}`);
    this.updateChips(queue.pools);
    this.detail?.update(queue, now);
  }

  updateChips(pools) {
    const named = pools.slice(0, CHIPS);
    while (this.chips.length < named.length) {
      const chip = new Chip();
      this.chips.push(chip);
      this.pools.insertBefore(chip.el, this.rest ?? null);
    }
    while (this.chips.length > named.length) this.chips.pop().el.remove();
    named.forEach((pool, index) => this.chips[index].update(pool));
    const more = pools.slice(CHIPS);
    if (more.length && !this.rest) this.pools.append((this.rest = el("span", { class: "chip chip-rest" })));
    if (!this.rest) return;
    setHidden(this.rest, more.length === 0);
    setText(this.rest, `+${more.length}`);
    setAttribute(this.rest, "title", more.map((p) => `${p.name} ${p.ready}/${p.desired}`).join("\n"));
    setClass(this.rest, `chip chip-rest tone-${more.some((p) => !p.paused && p.ready !== p.desired) ? "warn" : "ok"}`);
  }

  draw(history, now) {
    const { line, area } = history.curve(this.name, now, SPARK.width, SPARK.height);
    setAttribute(this.curve, "d", line);
    setAttribute(this.area, "d", area);
  }

  setOpen(open) {
    if (open === this.open) return;
    this.open = open;
    setAttribute(this.toggle, "aria-expanded", String(open));
    this.el.classList.toggle("is-open", open);
    if (open) {
      this.detail = new Detail(this.queue, this.id);
      setAttribute(this.toggle, "aria-controls", this.id);
      this.detail.update(this.queue, Date.now());
      this.el.append(this.detail.el);
    } else {
      this.detail.el.remove();
      this.detail = null;
      this.toggle.removeAttribute("aria-controls");
    }
  }
}

/** What is to be said of it before anything else; of a pause, how long ago it began. */
function reasonOf(queue, now) {
  if (!queue.paused || queue.problem) return queue.reason;
  const { reason, since, until } = queue.paused;
  const parts = [`paused ${ago(now - (time(since) ?? now))}`];
  if (until) parts.push(`until ${new Date(time(until)).toLocaleString("en-GB")}`);
  return parts.join(", ") + (reason ? `: ${reason}` : "");
}

function describe(queue) {
  if (!queue.managed) return "not in queues.yaml, left alone";
  const workers = queue.pools.reduce((sum, pool) => sum + pool.desired, 0);
  const kept = queue.durable === false ? "not durable" : "durable";
  return workers ? `${kept}, ${plural(workers, "worker")}` : `${kept}, no workers`;
}

/** A number in its column; its unit is read out, and shown where there are no columns. */
function figure(unit) {
  const value = el("span", { class: "figure-value" });
  const node = el("div", { class: `figure figure-${unit.replace(" ", "-")}` }, value, el("span", { class: "figure-unit" }, ` ${unit}`));
  return {
    el: node,
    set(number) {
      setText(value, count(number));
      setAttribute(node, "title", `${exact(number)} ${unit}`);
      node.classList.toggle("is-zero", !number);
    },
  };
}

class Chip {
  constructor() {
    this.name = el("bdi", { class: "chip-name" });
    this.count = el("span", { class: "chip-count" });
    this.restarts = el("span", { class: "chip-restarts" });
    this.el = el("span", { class: "chip" }, this.name, this.count, this.restarts);
  }

  update(pool) {
    const broken = pool.workers.some((worker) => worker.state === "backoff" || worker.state === "fatal");
    const asWanted = pool.ready === (pool.paused ? 0 : pool.desired);
    const tone = asWanted ? (pool.ready ? "ok" : "mute") : broken ? "bad" : "info";
    setClass(this.el, `chip tone-${tone}`);
    setText(this.name, visible(pool.name));
    setText(this.count, `${pool.ready}/${pool.desired}`);
    setText(this.restarts, pool.restarts ? `↻\u2009${count(pool.restarts)}` : "");
    const restarts = pool.restarts ? `, ${plural(pool.restarts, "restart")}` : "";
    const scaling = pool.autoscale ? `, autoscaled: ${pool.autoscale.reason}` : "";
    setAttribute(this.el, "title", `${pool.name}: ${pool.ready} of ${pool.desired} ready${restarts}${scaling}`);
  }
}

/** What an opened queue shows below its line. */
class Detail {
  constructor(queue, id) {
    this.views = new Map();
    this.reason = el("p", { class: "detail-reason" });
    this.facts = el("dl", { class: "detail-facts" });
    this.values = {};
    for (const label of ["Name", "Messages", "At the broker", "Arguments"]) {
      this.values[label] = el("dd");
      this.facts.append(el("div", {}, el("dt", {}, label), this.values[label]));
    }
    this.dead = el("a", { target: "_blank", rel: "noopener" });
    this.values["Dead letters"] = el("dd", {}, this.dead);
    this.deadFact = el("div", { hidden: true }, el("dt", {}, "Dead letters"), this.values["Dead letters"]);
    this.facts.append(this.deadFact);
    this.none = el("p", { class: "detail-none", hidden: true });
    this.pools = el("div", { class: "pools" });
    this.why = new Why(queue.name);
    this.el = el("div", { class: "queue-detail", id }, this.reason, this.why.el, this.facts, this.none, this.pools);
  }

  update(queue, now) {
    const reason = reasonOf(queue, now);
    setText(this.reason, visible(reason ?? ""));
    setHidden(this.reason, !reason);
    setClass(this.reason, `detail-reason tone-${queue.tone}`);
    setText(this.values.Name, visible(queue.name));
    setText(this.values.Messages, messages(queue));
    setText(this.values["At the broker"], place(queue));
    setText(this.values.Arguments, visible(argumentsOf(queue)));
    this.updateDead(queue);
    setHidden(this.none, queue.pools.length > 0);
    setText(this.none, queue.managed ? "No workers are declared for this queue." : "This queue is not in queues.yaml; it is shown, and left alone.");
    this.updatePools(queue, now);
  }

  /** How many of its messages have failed for good, with the way to what is known of them. */
  updateDead(queue) {
    const dead = queue.seen?.dead_letters;
    setHidden(this.deadFact, !dead);
    if (!dead) return;
    setText(this.dead, `${exact(dead.messages)} in ${visible(dead.queue)}`);
    setAttribute(this.dead, "href", `/queue/dead-letters/${encodeURIComponent(queue.name)}`);
    setAttribute(this.dead, "title", "By reason, exception and worker, as JSON");
  }

  updatePools(queue, now) {
    const names = new Set();
    for (const pool of queue.pools) {
      names.add(pool.name);
      let view = this.views.get(pool.name);
      if (!view) {
        this.views.set(pool.name, (view = new PoolView(queue.name, pool.name)));
        this.pools.append(view.el);
      }
      view.update(pool, now);
    }
    for (const [name, view] of this.views) {
      if (names.has(name)) continue;
      view.el.remove();
      this.views.delete(name);
    }
  }

  tick(now) {
    this.why.tick();
    for (const view of this.views.values()) view.tick(now);
  }
}

function messages(queue) {
  if (queue.messages === null) return "not known while the broker is away";
  const flight = queue.unacknowledged === null ? "in flight not known" : `${exact(queue.unacknowledged)} in flight`;
  return `${exact(queue.ready)} ready, ${flight}`;
}

function place(queue) {
  if (!queue.seen) return "not there yet";
  const parts = [queue.type, queue.durable === false ? "not durable" : "durable", queue.state, `vhost\u00a0${visible(queue.seen.vhost)}`];
  return parts.filter(Boolean).join(", ");
}

function argumentsOf(queue) {
  const entries = Object.entries(queue.seen?.arguments ?? {});
  return entries.length ? entries.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(", ") : "none";
}
