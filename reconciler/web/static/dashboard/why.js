// "Why?" in an opened queue: the sentences of /explain, asked for again as long as they are shown.

import { el, setAttribute, setHidden, setText } from "../dom.js";
import { visible } from "../format.js";
import { ApiError, getJson } from "../net.js";

const AGAIN = 3_000; // milliseconds between two questions

export class Why {
  constructor(queue) {
    this.url = `/explain/${encodeURIComponent(queue)}`;
    this.open = false;
    this.asked = -Infinity;
    this.list = el("ul", { class: "why-list", hidden: true, role: "list" });
    this.button = el("button", { type: "button", class: "button quiet why-button" }, "Why is it like that?");
    setAttribute(this.button, "aria-expanded", "false");
    this.button.addEventListener("click", () => this.toggle());
    this.el = el("div", { class: "why" }, this.button, this.list);
  }

  toggle() {
    this.open = !this.open;
    setAttribute(this.button, "aria-expanded", String(this.open));
    setText(this.button, this.open ? "Close" : "Why is it like that?");
    setHidden(this.list, true);
    this.list.replaceChildren();
    this.asked = -Infinity;
    this.tick();
  }

  /** Asks, if it is open and time for it. */
  async tick() {
    if (!this.open || performance.now() < this.asked + AGAIN) return;
    this.asked = performance.now();
    try {
      this.show((await getJson(this.url)).sentences);
    } catch (error) {
      this.show([error instanceof ApiError ? error.message : "The daemon does not answer."]);
    }
  }

  /** Changes only the sentences that differ, so that a selection stays. */
  show(sentences) {
    if (!this.open) return; // closed while the question was under way
    while (this.list.children.length > sentences.length) this.list.lastElementChild.remove();
    sentences.forEach((sentence, index) => {
      if (!this.list.children[index]) this.list.append(el("li"));
      setText(this.list.children[index], visible(sentence));
    });
    setHidden(this.list, false);
  }
}
