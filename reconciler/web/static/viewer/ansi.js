// Terminal text → runs of plain text with a style. Pure; knows nothing of the DOM.
// Colours and weights are kept; every other escape sequence and control character becomes text that can be seen.

import { UNSEEN, stand } from "../format.js";

const SPECIAL = new RegExp(
  [
    "\\u001b\\[([0-9;:]*)m", // a style (SGR)
    "\\u001b\\[[0-?]*[ -/]*[@-~]", // any other command (CSI)
    "\\u001b[\\]PX^_][^\\u0007\\u001b]*(?:\\u0007|\\u001b\\\\)?", // titles, links and the like (OSC, DCS, …)
    UNSEEN.source,
  ].join("|"),
  "g",
);

const PLAIN = Object.freeze({});

/**
 * `[{text, style, control}]`. A style holds what differs from plain: `fg` and `bg` (0–15, or "rgb(…)"), `bold`, `dim`,
 * `italic`, `underline`, `reverse`, `strike`. It never goes beyond its line.
 */
export function runs(text) {
  if (text.search(SPECIAL) < 0) return [{ text, style: PLAIN, control: false }];
  const found = [];
  let style = PLAIN;
  let at = 0;
  for (const match of text.matchAll(SPECIAL)) {
    if (match.index > at) found.push({ text: text.slice(at, match.index), style, control: false });
    at = match.index + match[0].length;
    if (match[1] !== undefined) style = styled(style, match[1]);
    else found.push({ text: shown(match[0]), style: PLAIN, control: true });
  }
  if (at < text.length) found.push({ text: text.slice(at), style, control: false });
  return found;
}

function shown(sequence) {
  return sequence.replace(UNSEEN, (c) => stand(c.codePointAt(0)));
}

/** What is left of a text without its styles: what people search in. */
export function bare(text) {
  return text.replace(/\u001b\[[0-9;:]*m/g, "");
}

const ON = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strike" };
const OFF = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["reverse"], 29: ["strike"], 39: ["fg"], 49: ["bg"] };

function styled(before, parameters) {
  const style = { ...before };
  const codes = parameters.split(";");
  for (let i = 0; i < codes.length; i += 1) {
    const [head, ...rest] = codes[i].split(":");
    const code = head === "" ? 0 : Number(head);
    if (code === 0) clear(style);
    else if (code === 4 && rest[0] === "0") delete style.underline;
    else if (code === 21) style.underline = true;
    else if (ON[code]) style[ON[code]] = true;
    else if (OFF[code]) for (const key of OFF[code]) delete style[key];
    else if (code === 38 || code === 48) {
      const [colour, used] = rest.length ? [colonColour(rest), 0] : semicolonColour(codes.slice(i + 1));
      i += used;
      if (colour !== null) style[code === 38 ? "fg" : "bg"] = colour;
    } else basic(style, code);
  }
  return style;
}

function clear(style) {
  for (const key of Object.keys(style)) delete style[key];
}

function basic(style, code) {
  if (code >= 30 && code <= 37) style.fg = code - 30;
  else if (code >= 90 && code <= 97) style.fg = code - 82;
  else if (code >= 40 && code <= 47) style.bg = code - 40;
  else if (code >= 100 && code <= 107) style.bg = code - 92;
}

/** After 38 or 48: `5;N` or `2;R;G;B`. Returns the colour and how many codes it took. */
function semicolonColour(codes) {
  if (codes[0] === "5") return [indexed(codes[1]), 2];
  if (codes[0] === "2") return [rgb(codes.slice(1, 4)), 4];
  return [null, 0];
}

/** `5:N`, `2:R:G:B`, or `2:SPACE:R:G:B`. */
function colonColour(parts) {
  if (parts[0] === "5") return indexed(parts[1]);
  if (parts[0] === "2") return rgb(parts.length > 4 ? parts.slice(2, 5) : parts.slice(1, 4));
  return null;
}

function indexed(text) {
  const n = byte(text);
  if (n === null || n < 16) return n;
  if (n >= 232) return `rgb(${Array(3).fill(8 + (n - 232) * 10)})`;
  const level = (value) => (value ? 55 + value * 40 : 0);
  const cube = n - 16;
  return `rgb(${[Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map(level)})`;
}

function rgb(parts) {
  const values = parts.map(byte);
  return values.length === 3 && !values.includes(null) ? `rgb(${values})` : null;
}

function byte(text) {
  return /^\d{1,3}$/.test(text ?? "") && Number(text) < 256 ? Number(text) : null;
}
