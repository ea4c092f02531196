// − number + for one pool of workers: several clicks become one request, and the answer stands beside it.

import { el, icon, setHidden, setText } from "../dom.js";
import { ApiError, postJson } from "../net.js";

const SETTLE = 450; // milliseconds after the last click
const SHOWN = 8_000; // how long a good answer stays

export class Stepper {
  constructor(queue, pool) {
    this.queue = queue;
    this.pool = pool;
    this.desired = 0;
    this.wish = null; // what the person asked for and the file does not say yet
    this.sent = 0;
    this.timer = 0;
    this.input = el("input", {
      class: "stepper-number",
      type: "text",
      inputMode: "numeric",
      autocomplete: "off",
      spellcheck: false,
      aria: { label: `Workers of ${pool}` },
    });
    this.less = this.button("M4 8h8", `One ${pool} less`, -1);
    this.more = this.button("M8 4v8M4 8h8", `One ${pool} more`, 1);
    this.said = el("span", { class: "stepper-said", role: "status" });
    const box = el("span", { class: "stepper-box" }, this.less, this.input, this.more);
    this.el = el("span", { class: "stepper" }, box, this.said);
    this.input.addEventListener("change", () => this.typed());
    this.input.addEventListener("keydown", (event) => this.key(event));
  }

  button(path, label, step) {
    const button = el("button", { type: "button", class: "stepper-button", aria: { label } }, icon(path));
    button.addEventListener("click", () => this.wishFor(Math.max(0, (this.wish ?? this.desired) + step), SETTLE));
    return button;
  }

  /** What the file says now. */
  update(desired) {
    this.desired = desired;
    if (this.wish === null && document.activeElement !== this.input) this.show();
  }

  show() {
    const text = String(this.wish ?? this.desired);
    if (this.input.value !== text) this.input.value = text;
    this.less.disabled = (this.wish ?? this.desired) <= 0;
  }

  key(event) {
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      event.preventDefault();
      this.wishFor(Math.max(0, (this.wish ?? this.desired) + (event.key === "ArrowUp" ? 1 : -1)), SETTLE);
    } else if (event.key === "Enter") {
      this.typed();
    } else if (event.key === "Escape") {
      clearTimeout(this.timer);
      this.wish = null;
      this.show();
    }
  }

  typed() {
    const text = this.input.value.trim();
    if (Number(text) === (this.wish ?? this.desired) && text !== "") return;
    if (/^\d{1,6}$/.test(text)) this.wishFor(Number(text), 0);
    else this.say(`${text || "nothing"} is not a number of workers`, "bad");
  }

  wishFor(count, delay) {
    this.wish = count;
    this.show();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(count), delay);
  }

  async send(count) {
    const number = ++this.sent;
    this.say(`setting to ${count} …`, "mute");
    try {
      const url = `/worker/scale/${encodeURIComponent(this.queue)}`;
      const answer = await postJson(url, { worker_name: this.pool, count });
      if (number === this.sent) this.say(answer.message ?? "done", answer.success === false ? "warn" : "ok", SHOWN);
      this.desired = count;
    } catch (error) {
      const text = error instanceof ApiError ? error.message : "nobody answered; it was not changed";
      if (number === this.sent) this.say(text, "bad");
    }
    if (number === this.sent && this.wish === count) {
      this.wish = null;
      this.show();
    }
  }

  say(text, tone, forMs = 0) {
    this.said.className = `stepper-said tone-${tone}`;
    setText(this.said, text);
    setHidden(this.said, !text);
    clearTimeout(this.silence);
    if (forMs) this.silence = setTimeout(() => this.say("", "mute"), forMs);
  }
}
