// The part of a log that is in the page: chunks of lines, whole ones added and dropped at both ends. What is read stays
// where it is on the screen, whatever happens above or below.

import { makeLine, setLevel } from "./line.js";

const CHUNK = 200; // lines of a chunk that grows
const MOST_LINES = 3_000;
const MOST_CHARS = 12_000_000;

export class LogWindow {
  constructor(scroller, root) {
    this.scroller = scroller;
    this.root = root;
    this.find = null;
    this.clear(0);
  }

  /** Empties it; what comes next begins at byte `at`. */
  clear(at) {
    this.root.replaceChildren();
    this.chunks = [];
    this.lines = 0;
    this.chars = 0;
    this.at = at;
  }

  get start() {
    return this.chunks[0]?.start ?? this.at;
  }

  get end() {
    return this.chunks.at(-1)?.end ?? this.at;
  }

  /** `lines` are `{text, end}` in order, after what is here. */
  append(lines) {
    let chunk = this.chunks.at(-1);
    let level = chunk?.level ?? null;
    let fresh = null;
    for (const { text, end } of lines) {
      if (!chunk || chunk.closed || chunk.lines >= CHUNK) {
        if (fresh) chunk.el.append(fresh);
        chunk = this.add({ start: this.end, end: this.end, lines: 0, chars: 0, closed: false, level }, this.chunks.length);
        fresh = null;
      }
      fresh ??= document.createDocumentFragment();
      const node = makeLine(text, end, level, this.find);
      fresh.append(node);
      level = chunk.level = node.line.level;
      chunk.end = end;
      this.grow(chunk, 1, text.length);
    }
    if (fresh) chunk.el.append(fresh);
  }

  /** A page that ends where this window begins. `ends` may be null where the server does not say them. */
  prepend({ lines, ends, start }) {
    const chunk = this.add({ start, end: this.start, lines: 0, chars: 0, closed: true, level: null }, 0);
    let level = null;
    const nodes = lines.map((text, index) => {
      const node = makeLine(text, ends ? ends[index] : null, level, this.find);
      level = node.line.level;
      this.grow(chunk, 1, text.length);
      return node;
    });
    chunk.level = level;
    chunk.el.append(...nodes);
    this.hand(level);
  }

  /** Lines that had none before them take their level from the line that now is. */
  hand(level) {
    if (level === null) return;
    for (const chunk of this.chunks.slice(1)) {
      for (const node of chunk.el.children) {
        if (node.line.own) return;
        setLevel(node, level);
      }
      chunk.level = level;
    }
  }

  add(chunk, index) {
    chunk.el = document.createElement("div");
    chunk.el.className = "chunk";
    this.root.insertBefore(chunk.el, this.chunks[index]?.el ?? null);
    this.chunks.splice(index, 0, chunk);
    return chunk;
  }

  grow(chunk, lines, chars) {
    chunk.lines += lines;
    chunk.chars += chars;
    this.lines += lines;
    this.chars += chars;
  }

  get full() {
    return this.lines > MOST_LINES || this.chars > MOST_CHARS;
  }

  /** Drops what is too much from the top; the last chunk stays. */
  trimTop() {
    while (this.full && this.chunks.length > 1) this.drop(0);
  }

  /** Drops what is too much from below, as far as nobody sees it. Says whether something went. */
  trimBottom() {
    let dropped = false;
    const far = this.scroller.getBoundingClientRect().bottom + 2 * this.scroller.clientHeight;
    while (this.full && this.chunks.length > 1 && this.chunks.at(-1).el.getBoundingClientRect().top > far) {
      this.drop(this.chunks.length - 1);
      dropped = true;
    }
    return dropped;
  }

  drop(index) {
    const [chunk] = this.chunks.splice(index, 1);
    chunk.el.remove();
    this.lines -= chunk.lines;
    this.chars -= chunk.chars;
  }

  /** How many lines are below what is seen; whole chunks only. */
  linesBelow() {
    const bottom = this.scroller.getBoundingClientRect().bottom;
    let below = 0;
    for (let i = this.chunks.length - 1; i >= 0 && this.chunks[i].el.getBoundingClientRect().top > bottom; i -= 1) {
      below += this.chunks[i].lines;
    }
    return below;
  }

  /** Does `change` and leaves the line at the top of the screen exactly where it was. */
  keepingPlace(change) {
    const anchor = this.firstSeen();
    const before = anchor?.getBoundingClientRect().top;
    const result = change();
    if (anchor?.isConnected) {
      const moved = anchor.getBoundingClientRect().top - before;
      if (moved) this.scroller.scrollTop += moved;
    }
    return result;
  }

  firstSeen() {
    const top = this.scroller.getBoundingClientRect().top;
    const chunk = this.chunks.find((c) => c.el.getBoundingClientRect().bottom > top);
    if (!chunk) return null;
    const nodes = chunk.el.children;
    let low = 0;
    let high = nodes.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (nodes[middle].getBoundingClientRect().bottom > top) high = middle;
      else low = middle + 1;
    }
    return nodes[low] ?? null;
  }

  /** The line that ends at byte `end`. */
  lineAt(end) {
    const chunk = this.chunks.find((c) => c.start < end && end <= c.end);
    return chunk ? ([...chunk.el.children].find((node) => node.line.end === end) ?? null) : null;
  }

  /** The line before or after a line, over the borders of chunks. */
  neighbour(node, step) {
    const next = step > 0 ? node.nextElementSibling : node.previousElementSibling;
    if (next) return next;
    const chunk = step > 0 ? node.parentElement.nextElementSibling : node.parentElement.previousElementSibling;
    return (step > 0 ? chunk?.firstElementChild : chunk?.lastElementChild) ?? null;
  }
}
