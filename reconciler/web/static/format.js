// Numbers, times and sizes for people. Pure.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** 12,345; from a million on 1.2M; a dash for what is not known. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return value < 1_000_000 ? whole.format(value) : short.format(value);
}

export function exact(value) {
  return value === null || value === undefined ? "not known" : whole.format(value);
}

export function plural(number, one, many = `${one}s`) {
  return `${whole.format(number)} ${number === 1 ? one : many}`;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Milliseconds since the epoch, from ISO text or from seconds; null for neither. */
export function time(value) {
  if (value === null || value === undefined || value === "") return null;
  const result = typeof value === "number" ? value * 1000 : Date.parse(value);
  return Number.isFinite(result) ? result : null;
}

/** 42 s, 5 m 03 s, 3 h 20 m, 4 d 2 h. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} m`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** A coarse distance in time, which does not flicker. */
export function ago(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return seconds >= 10 ? `${Math.round(seconds)} s` : seconds >= 1 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds * 1000)} ms`;
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

/** Text whose control, bidi and invisible characters can be seen and do nothing. Tabs stay. */
export function visible(text) {
  return text.replace(UNSEEN, (c) => stand(c.codePointAt(0)));
}

export const UNSEEN =
  /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u240d\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** ^[ for an escape, ‹202E› for what has no such name. The server sends ␍ for a carriage return. */
export function stand(code) {
  if (code < 0x20 || code === 0x7f) return `^${String.fromCharCode(code ^ 0x40)}`;
  if (code === 0x240d) return "^M";
  return `‹${code.toString(16).toUpperCase().padStart(4, "0")}›`;
}
