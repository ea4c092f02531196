// The few DOM helpers that both pages use. Text from outside only ever goes in as text.

/** A new element. `props` are properties; `data`, `aria` and `class` are what they say. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key === "class") node.className = value;
    else if (key === "data") Object.assign(node.dataset, value);
    else if (key === "aria") for (const [name, v] of Object.entries(value)) node.setAttribute(`aria-${name}`, v);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Sets text only where it differs, so that a selection and the layout stay untouched. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A line drawing of 16 × 16. */
export function icon(path) {
  const shape = svg("path", { d: path });
  const attributes = {
    viewBox: "0 0 16 16",
    fill: "none",
    stroke: "currentColor",
    "stroke-width": "1.6",
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
    "aria-hidden": "true",
  };
  return svg("svg", attributes, shape);
}

/** Is the person typing somewhere, so that single keys are text? */
export function isTyping(event) {
  return event.target.matches?.("input, textarea, select, [contenteditable]") ?? false;
}

/** Copies, also where the clipboard API is missing because the page came over plain HTTP. Says whether it worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { value: text, class: "sr-only", readOnly: true });
    const before = document.activeElement;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus?.({ preventScroll: true });
    return done;
  }
}
