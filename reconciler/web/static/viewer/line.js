// One line of a log as an element. All of it is text: nothing in a log can become an element.

import { el } from "../dom.js";
import { count } from "../format.js";
import { bare, runs } from "./ansi.js";
import { headOf, isLife, levelOf } from "./level.js";

const LONG = 2_000; // characters; a longer line is shown in part until someone asks
const PART = 1_000;

/** `end` is the byte offset after the line, or null if it is not known. `before` is the level of the line before. */
export function makeLine(text, end, before, find) {
  const plain = bare(text.length > 400 ? text.slice(0, 400) : text);
  const own = levelOf(plain);
  const node = document.createElement("div");
  node.line = { text: text.replace(/[\r\u240d]$/, ""), end, own, life: isLife(plain) };
  setLevel(node, own ?? before);
  fill(node, find, false);
  return node;
}

export function setLevel(node, level) {
  node.line.level = level;
  node.className = (level ? `ln l-${level}${node.line.own ? "" : " cont"}` : "ln") + (node.line.life ? " life" : "");
}

export function isLong(node) {
  return node.line.text.length > LONG;
}

/** Shows all of a long line, or again only its beginning. */
export function expand(node, find) {
  fill(node, find, !node.line.all);
}

function fill(node, find, all) {
  const { text, end } = node.line;
  node.line.all = all;
  node.replaceChildren();
  if (end !== null) {
    const link = document.createElement("a");
    link.className = "at";
    link.href = `#${end}`;
    link.tabIndex = -1;
    link.title = "Copy a link to this line";
    link.setAttribute("aria-label", "Copy a link to this line");
    node.append(link);
  }
  const long = text.length > LONG;
  const shown = long && !all ? cut(text) : text;
  write(node, shown, find);
  if (long) {
    const label = all ? "show less" : `show all ${count(text.length)} characters`;
    node.append(" ", el("button", { type: "button", class: "all", tabIndex: -1 }, label));
  }
}

/** The beginning, not ending inside a character or an escape sequence; how long it is stays at the end. */
function cut(text) {
  const tail = / … \([\d,]+ bytes\)$/.exec(text);
  const part = text.slice(0, PART).replace(/[\ud800-\udbff]$/, "").replace(/\u001b[^m]{0,40}$/, "");
  return `${part} …${tail ? ` (${tail[0].slice(4)}` : ""}`;
}

function write(node, text, find) {
  const pieces = runs(text);
  const head = pieces[0] && !pieces[0].control ? headOf(pieces[0].text) : { time: 0, level: null };
  const marks = find ? found(pieces, find) : [];
  let at = 0;
  pieces.forEach((piece, index) => {
    const cuts = index === 0 ? [0, head.time, ...(head.level ?? [])] : [0];
    for (const [from, to] of spans(piece.text, at, cuts, marks)) {
      const name = index === 0 ? part(head, from) : "";
      append(node, piece, piece.text.slice(from, to), name, isMarked(marks, at + from));
    }
    at += piece.text.length;
  });
}

function part(head, from) {
  if (from < head.time) return "time";
  return head.level && from >= head.level[0] && from < head.level[1] ? "lvl" : "";
}

function append(node, { style, control }, text, name, marked) {
  if (!text) return;
  const classes = [name, control ? "ctl" : "", ...styleClasses(style)].filter(Boolean);
  if (!classes.length && !marked) {
    node.append(text);
    return;
  }
  const span = document.createElement(marked ? "mark" : "span");
  span.className = classes.join(" ");
  if (typeof style.fg === "string") span.style.setProperty("--fg", style.fg);
  if (typeof style.bg === "string") span.style.setProperty("--bgc", style.bg);
  span.textContent = text;
  node.append(span);
}

function styleClasses(style) {
  const classes = [];
  for (const [key, value] of Object.entries(style)) {
    if (value === true) classes.push(`a-${key}`);
    else if (typeof value === "number") classes.push(`${key}-${value}`);
    else classes.push(`${key}-rgb`);
  }
  return classes;
}

// -- what the filter found --------------------------------------------------------------------------------------

/** A pattern for `find`, taken literally, in any case. */
export function finder(text) {
  return text ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu") : null;
}

function found(pieces, find) {
  const whole = pieces.map((piece) => piece.text).join("");
  const marks = [];
  find.lastIndex = 0;
  for (const match of whole.matchAll(find)) {
    if (match[0]) marks.push([match.index, match.index + match[0].length]);
    if (marks.length === 200) break;
  }
  return marks;
}

function isMarked(marks, at) {
  return marks.some(([from, to]) => from <= at && at < to);
}

/** The piece at `at`, cut where something begins or ends. */
function spans(text, at, cuts, marks) {
  const points = new Set([...cuts, text.length]);
  for (const [from, to] of marks) for (const point of [from - at, to - at]) if (point > 0 && point < text.length) points.add(point);
  const sorted = [...points].filter((point) => point <= text.length).sort((a, b) => a - b);
  return sorted.slice(0, -1).map((from, index) => [from, sorted[index + 1]]);
}
