// The list of queues: rows are made once, a few hundred per frame, and patched in place by name ever after.

import { setHidden } from "../dom.js";
import { matches } from "./model.js";
import { QueueRow } from "./row.js";

const PER_FRAME = 120;

export class QueueList {
  constructor(root, history) {
    this.root = root;
    this.history = history;
    this.rows = new Map();
    this.queues = new Map();
    this.seen = new Set(); // rows on the screen, or nearly
    this.filter = "all";
    this.text = "";
    this.sort = "name";
    this.order = [];
    this.onShown = () => {};
    this.observer = new IntersectionObserver((entries) => this.crossed(entries), { rootMargin: "200px" });
  }

  update(queues, now) {
    this.queues = queues;
    for (const [name, row] of this.rows) {
      const queue = queues.get(name);
      if (queue) row.update(queue, now);
      else this.drop(name, row);
    }
    this.arrange();
    this.draw(now);
  }

  setFilter(filter, text) {
    this.filter = filter;
    this.text = text.trim().toLowerCase();
    this.show();
  }

  setSort(sort) {
    this.sort = sort;
    this.arrange(true);
  }

  drop(name, row) {
    this.observer.unobserve(row.el);
    this.seen.delete(row);
    row.el.remove();
    this.rows.delete(name);
  }

  /** The names in the order wanted. By messages they move only while nobody points at them or is in them. */
  arrange(now = false) {
    const names = [...this.queues.keys()];
    const busy = this.root.matches(":hover, :focus-within");
    if (this.sort === "messages" && (now || !busy)) {
      names.sort((a, b) => (this.queues.get(b).messages ?? -1) - (this.queues.get(a).messages ?? -1));
    } else if (this.sort === "messages") {
      const place = new Map(this.order.map((name, index) => [name, index]));
      names.sort((a, b) => (place.get(a) ?? Infinity) - (place.get(b) ?? Infinity) || 0);
    }
    this.order = names;
    this.place();
  }

  /** Puts every row where it belongs; what has no row yet gets one, as many as a frame can take. */
  place() {
    cancelAnimationFrame(this.frame);
    let left = PER_FRAME;
    let cursor = this.root.firstElementChild;
    for (const name of this.order) {
      let row = this.rows.get(name);
      if (!row && left === 0) continue;
      if (!row) {
        left -= 1;
        row = this.make(name);
      }
      if (row.el === cursor) cursor = cursor.nextElementSibling;
      else this.root.insertBefore(row.el, cursor);
    }
    this.show();
    if (left === 0) this.frame = requestAnimationFrame(() => this.place());
  }

  make(name) {
    const row = new QueueRow(name);
    row.update(this.queues.get(name), Date.now());
    this.rows.set(name, row);
    this.observer.observe(row.el);
    return row;
  }

  show() {
    let shown = 0;
    for (const [name, queue] of this.queues) {
      const visible = matches(queue, this.filter, this.text);
      if (visible) shown += 1;
      const row = this.rows.get(name);
      if (row) setHidden(row.el, !visible);
    }
    this.onShown(shown);
  }

  crossed(entries) {
    for (const entry of entries) {
      const row = this.rows.get(entry.target.dataset.name);
      if (!row) continue;
      if (entry.isIntersecting) {
        this.seen.add(row);
        row.draw(this.history, Date.now());
      } else {
        this.seen.delete(row);
      }
    }
  }

  draw(now) {
    for (const row of this.seen) row.draw(this.history, now);
  }

  tick(now) {
    for (const row of this.seen) row.detail?.tick(now);
  }

  /** The row of a name, opened and in sight. */
  reveal(name) {
    const row = this.rows.get(name);
    if (!row) return false;
    row.setOpen(true);
    row.el.scrollIntoView({ block: "nearest" });
    row.toggle.focus({ preventScroll: true });
    return true;
  }

  /** Moves the focus to the next or the previous row that is shown. */
  move(step) {
    const shown = [...this.root.children].filter((node) => !node.hidden);
    const at = shown.indexOf(document.activeElement?.closest?.(".queue"));
    const next = shown[at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.max(0, Math.min(shown.length - 1, at + step))];
    next?.querySelector(".queue-toggle").focus();
  }
}
