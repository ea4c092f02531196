// The last hundred things that happened, newest first.

import { el } from "../dom.js";
import { clock, time, visible } from "../format.js";

const KEPT = 100;
const TONES = { held: "warn", drift: "warn", action: "info", plan: "info", git: "info" };

export class Feed {
  constructor(root, empty, onQueue) {
    this.root = root;
    this.empty = empty;
    this.known = [];
    this.waiting = [];
    this.onQueue = onQueue;
  }

  /** Events of one moment come in one go. After a new start the server counts from 1 again, so the time counts too. */
  add(event) {
    const key = `${event.id} ${event.at}`;
    if (this.known.includes(key)) return false;
    this.known.push(key);
    if (this.known.length > 1200) this.known.splice(0, 100);
    this.waiting.push(event);
    if (this.waiting.length > KEPT) this.waiting.shift();
    this.frame ??= requestAnimationFrame(() => this.flush());
    return true;
  }

  flush() {
    this.frame = null;
    const items = this.waiting.map((event) => this.item(event)).reverse();
    this.waiting = [];
    this.root.prepend(...items);
    while (this.root.children.length > KEPT) this.root.lastElementChild.remove();
    this.empty.hidden = true;
  }

  item(event) {
    const at = time(event.at) ?? Date.now();
    const queue = event.data?.queue;
    const text = visible(String(event.text));
    const body =
      typeof queue === "string"
        ? el("button", { type: "button", class: "event-text event-link", onclick: () => this.onQueue(queue) }, text)
        : el("span", { class: "event-text" }, text);
    const when = el("time", { class: "event-time", dateTime: new Date(at).toISOString(), title: new Date(at).toLocaleString() }, clock(at));
    const kind = el("span", { class: `event-kind tone-${TONES[event.kind] ?? "mute"}` }, event.kind);
    return el("li", { class: "event" }, when, kind, body);
  }
}
