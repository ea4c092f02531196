// How serious a line is, by the same rules as the server's filter. Pure.

const LEVELS = {
  TRACE: "debug", DEBUG: "debug", INFO: "info", NOTICE: "info", SUCCESS: "info", WARN: "warn", WARNING: "warn",
  ERR: "error", ERROR: "error", CRITICAL: "fatal", FATAL: "fatal", PANIC: "fatal",
};
const NAMES = Object.keys(LEVELS).sort((a, b) => b.length - a.length).join("|");
const WORD = new RegExp(`(?<![A-Za-z0-9_])(${NAMES})(?![A-Za-z0-9_])`);
const FIELD = new RegExp(`\\b(?:level|lvl|severity|levelname)["']?\\s*[=:]\\s*["']?(${NAMES})\\b`, "i");
const HEAD = 80;

/** "debug", "info", "warn", "error" or "fatal"; null for a line that belongs to the one before it. */
export function levelOf(text) {
  if (/^\s/.test(text)) return null;
  if (text.startsWith("Traceback (most recent call last)")) return "error";
  const found = FIELD.exec(text) ?? WORD.exec(text.slice(0, HEAD));
  return found ? LEVELS[found[1].toUpperCase()] : null;
}

const STAMP = /^\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?/;

/** Where in a line its time ends and its level stands: `{time, level: [from, to] | null}`. */
export function headOf(text) {
  const stamp = STAMP.exec(text);
  if (!stamp) return { time: 0, level: null };
  const word = WORD.exec(text.slice(0, HEAD));
  const near = word && word.index <= stamp[0].length + 12;
  return { time: stamp[0].length, level: near ? [word.index, word.index + word[0].length] : null };
}

const LIFE = /^\d{4}-\d\d-\d\dT\S+ [A-Z]+ +\[\S+\/\S+ \d+\] (?:started|ended): slot \d/;

/** Whether the supervisor wrote it: that the process was started, or how it ended. */
export function isLife(text) {
  return LIFE.test(text);
}
