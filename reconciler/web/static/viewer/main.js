// The log viewer. It follows the end of the log, or stays exactly where someone reads; older lines come from the server
// when they are wanted, newer ones from the stream, and what is far from the screen is let go.

import { copy, isTyping, setClass, setHidden, setText } from "../dom.js";
import { count, plural } from "../format.js";
import { ApiError, getJson, Stream } from "../net.js";
import { expand, finder, isLong } from "./line.js";
import { Pages } from "./pages.js";
import { LogWindow } from "./window.js";

const FLUSH = 120; // milliseconds between two changes of the page
const PAGE = 400; // lines asked for at once
const ROOM = 1_200; // lines kept ready below what is seen; more are only counted
const TOO_FAST = 400; // lines of one flush that nobody could follow with the eye …
const SCREENFUL = 250; // … of which only the newest are shown
const MISSED = 3_000; // lines missed in a pause that are fetched one after another
const NEAR = 900; // pixels from an end at which more is loaded
const GAP = 2_000_000; // bytes to the end of the log, or another file of it, over which it is not worth counting every line between
const HIDDEN = 20_000; // milliseconds out of sight after which the stream is given up

const $ = (id) => document.getElementById(id);
const { pid, worker, queue, slot } = document.body.dataset;
const log = $("log");
const pages = new Pages(pid);
const win = new LogWindow(log, $("lines"));

let filter = {};
let following = true;
let paused = false;
let ended = false;
let missing = null; // why there is no log
let connection = "connecting";
let position = 0; // the number of the byte the stream has come to; numbers grow, with gaps between the files of a log
let incoming = [];
let flushing = 0;
let ahead = false; // there are lines after those of the window that were counted, or dropped, and not kept
let unseen = 0; // new lines since following ended
let roughly = false; // … and more, uncounted
let countedTo = 0;
let received = 0; // for the rate
let loading = null; // the AbortController of the page that is on its way
let older = true; // is there more before the window?
let target = null; // the line a link names, until it is in the middle
let marked = null;

// -- the stream -------------------------------------------------------------------------------------------------

const stream = new Stream(
  () => `/logs/workers/stream_logs/${encodeURIComponent(pid)}?${new URLSearchParams({ after: position, ...filter })}`,
  { message: onLine, end: onEnd },
  (state) => {
    connection = state;
    showState();
  },
);

function onLine(event) {
  const end = Number(event.lastEventId);
  received += 1;
  if (end <= position) {
    toTail(); // the file has begun anew
    return;
  }
  position = end;
  if (!following && end > countedTo) {
    unseen += 1;
    countedTo = end;
  }
  if (!paused && !ahead) incoming.push({ text: event.data, end });
  else ahead = true;
  if (following && incoming.length > 4 * TOO_FAST) incoming.splice(0, incoming.length - TOO_FAST - 1);
  schedule();
}

function onEnd() {
  stream.stop();
  ended = true;
  flush();
  showState();
  findSuccessor();
}

/** Lets the stream go on from byte `at`. */
function streamFrom(at) {
  stream.stop();
  ended = false;
  position = at;
  incoming = [];
  stream.start();
  showState();
}

function schedule() {
  flushing ||= setTimeout(() => (document.hidden ? flush() : requestAnimationFrame(flush)), FLUSH);
}

function flush() {
  clearTimeout(flushing);
  flushing = 0;
  const batch = incoming;
  incoming = [];
  if (batch.length) {
    if (following) appendFollowing(batch);
    else appendBelow(batch);
  }
  showNewer();
  showEmpty();
}

function appendFollowing(batch) {
  if (batch.length > TOO_FAST) {
    const [before, ...newest] = batch.slice(-SCREENFUL - 1); // what lies before is read when someone scrolls up
    win.clear(before.end);
    older = true;
    win.append(newest);
  } else {
    win.append(batch);
  }
  if (win.full) {
    win.trimTop();
    older = true;
  }
  toBottom();
}

function appendBelow(batch) {
  win.keepingPlace(() => (win.append(batch), showEmpty()));
  if (target !== null) center();
  if (win.linesBelow() > ROOM) getAhead();
}

/** From here on lines are counted, not kept. Far from the end of the file not even that, between here and there. */
async function getAhead() {
  ahead = true;
  incoming = [];
  const page = await pages.read({}, 1, null).catch(() => null);
  if (!page || !ahead || page.end - win.end < GAP) return;
  roughly = true;
  countedTo = page.end;
  streamFrom(page.end);
  showNewer();
}

// -- where we are -----------------------------------------------------------------------------------------------

const fromTop = () => log.scrollTop;
const fromBottom = () => log.scrollHeight - log.scrollTop - log.clientHeight;
let lastTop = 0;

function toBottom() {
  showEmpty();
  log.scrollTop = log.scrollHeight;
  lastTop = log.scrollTop;
}

function setFollowing(on) {
  if (on === following) return;
  following = on;
  unseen = 0;
  roughly = false;
  countedTo = Math.max(position, win.end);
  $("follow").setAttribute("aria-pressed", String(on));
  showNewer();
}

function onScroll() {
  const up = log.scrollTop < lastTop - 1;
  lastTop = log.scrollTop;
  if (following && up && fromBottom() > 4) setFollowing(false);
  else if (!following && !ahead && !paused && target === null && fromBottom() <= 4) setFollowing(true);
  more();
}

/** Loads what may be wanted next, at either end. */
function more() {
  if (fromTop() < NEAR && older && !loading && !missing) loadOlder();
  if (ahead && !paused && fromBottom() < NEAR) {
    ahead = false;
    streamFrom(win.end);
  }
}

async function loadOlder() {
  const control = (loading = new AbortController());
  showOlder(Object.keys(filter).length ? "Searching older lines …" : "Loading older lines …");
  try {
    const page = await pages.read(filter, PAGE, win.start, control.signal);
    win.keepingPlace(() => put(page));
    if (!following && win.trimBottom()) {
      ahead = true;
      incoming = [];
    }
  } catch (error) {
    if (control.signal.aborted) return;
    showOlder("Older lines could not be loaded.");
    setTimeout(() => loading === control && ((loading = null), more()), 2000);
    return;
  }
  loading = null;
  if (following) toBottom();
  showEmpty();
  more();
}

/** A page before the window. A page without lines still moves its beginning. */
function put(page) {
  older = page.start > 0;
  if (page.lines.length) win.prepend(page);
  else if (win.chunks.length) win.chunks[0].start = page.start;
  else win.at = page.start;
  showOlder(older ? "" : "The log begins here");
  showEmpty();
}

/** Shows the end of the log and follows it. */
async function toTail() {
  const control = restart();
  setFollowing(true);
  try {
    const page = await pages.read(filter, PAGE, null, control.signal);
    win.clear(page.end);
    put(page);
    loading = null;
    toBottom();
    if (!paused) streamFrom(page.end);
    more();
  } catch (error) {
    failed(error, control, toTail);
  }
  showEmpty();
}

/** Shows what is around byte `end`; 0 is the beginning. */
async function toOffset(end) {
  const control = restart();
  setFollowing(false);
  roughly = true;
  target = end;
  try {
    const page = await pages.read(filter, PAGE, end, control.signal);
    win.clear(Math.min(end, page.end));
    put(page);
    loading = null;
    countedTo = page.end;
    if (end) mark(win.lineAt(end));
    center();
    if (page.end < end) target = null;
    if (!paused) streamFrom(win.end);
    more();
  } catch (error) {
    failed(error, control, () => toOffset(end));
  }
  showEmpty();
}

/** Stops what is on its way. */
function restart() {
  loading?.abort();
  stream.stop();
  incoming = [];
  ahead = false;
  missing = null;
  target = null;
  marked = null;
  return (loading = new AbortController());
}

function failed(error, control, again) {
  if (control.signal.aborted) return;
  loading = null;
  if (error instanceof ApiError && error.status < 500) {
    missing = error.message;
    win.clear(0);
  } else {
    connection = "reconnecting";
    setTimeout(() => !loading && !control.signal.aborted && again(), 1500);
  }
  showState();
}

/** Puts the line of a link into the middle, as soon as there is enough below it. */
function center() {
  const node = target ? win.lineAt(target) : null;
  if (target === 0) log.scrollTop = 0;
  if (node) node.scrollIntoView({ block: "center", inline: "start" });
  lastTop = log.scrollTop;
  if (fromBottom() > log.clientHeight / 2 || ended) target = null;
}

// -- what is shown beside the lines -----------------------------------------------------------------------------

function showState() {
  const [word, tone, pulse] = missing
    ? ["No log", "bad"]
    : paused
      ? ["Paused", "warn"]
      : connection === "reconnecting"
        ? ["Reconnecting", "warn", true]
        : ended
          ? ["Ended", "mute"]
          : connection === "live"
            ? ["Live", "ok"]
            : ["Connecting", "mute", true];
  setText($("state"), word);
  setClass($("state"), `pill tone-${tone}${pulse ? " pulse" : ""}`);
}

function showNewer() {
  const some = !following && (unseen > 0 || ahead || fromBottom() > 200);
  setHidden($("newer"), !(some || (paused && unseen > 0)));
  const text = roughly || !unseen ? "To the newest lines" : plural(unseen, "new line");
  setText($("newer"), `${text} ↓`);
}

/** Its line is there whenever lines are, so that nothing moves when it says something. */
function showOlder(text) {
  setText($("older"), text || "\u00a0");
}

function showEmpty() {
  const empty = win.lines === 0;
  const filtered = Object.keys(filter).length > 0;
  const text = missing ?? (loading ? "Loading …" : older && filtered ? "Searching …" : filtered ? "No line matches." : ended ? "This log is empty." : "Nothing was written yet.");
  setHidden($("empty"), !empty);
  setText($("empty"), text);
  setHidden($("older"), empty);
}

let toasting = 0;
function toast(text) {
  clearTimeout(toasting);
  setText($("toast"), text);
  setHidden($("toast"), false);
  toasting = setTimeout(() => setHidden($("toast"), true), 2500);
}

setInterval(() => {
  setText($("loaded"), win.lines ? `${plural(win.lines, "line")} in the page` : "");
  setText($("rate"), received ? `${count(received)} lines/s` : "");
  received = 0;
}, 1000);

/** A worker that has ended may have a successor in its slot. */
async function findSuccessor() {
  if (!worker) return;
  const query = new URLSearchParams({ queue_name: queue, worker_name: worker });
  const answer = await getJson(`/worker/list?${query}`).catch(() => null);
  const next = answer?.workers.find((w) => String(w.slot) === slot && w.pid && String(w.pid) !== pid);
  if (!next || !ended) return;
  $("successor").href = `/workers/view-logs/${encodeURIComponent(next.pid)}`;
  setText($("successor"), `now pid ${next.pid} →`);
  setHidden($("successor"), false);
}

// -- what people do ---------------------------------------------------------------------------------------------

function setPaused(on) {
  if (on === paused || missing) return;
  if (on) flush();
  paused = on;
  const button = $("pause");
  button.setAttribute("aria-pressed", String(on));
  button.setAttribute("aria-label", on ? "Go on" : "Pause");
  if (on) {
    unseen = 0;
    countedTo = position;
    setFollowing(false);
  } else {
    goOn();
  }
  showState();
  showNewer();
}

function goOn() {
  if (fromBottom() > 4) more();
  else if (unseen > MISSED || !stream.running) toTail();
  else {
    ahead = false;
    streamFrom(win.end);
    setFollowing(true);
  }
}

function follow() {
  if (paused) {
    paused = false;
    $("pause").setAttribute("aria-pressed", "false");
    $("pause").setAttribute("aria-label", "Pause");
  }
  if (ahead || incoming.length || target !== null || missing || (!stream.running && !ended)) toTail();
  else {
    setFollowing(true);
    toBottom();
  }
  showState();
}

function setWrap(on) {
  const change = () => document.body.classList.toggle("wrap", on);
  if (following) change(), toBottom();
  else win.keepingPlace(change);
  $("wrap").setAttribute("aria-pressed", String(on));
  remember("reconciler.wrap", on ? "1" : "0");
}

function applyFilter() {
  const q = $("q").value;
  const level = $("level").value;
  filter = { ...(q && { q }), ...(level && { level }) };
  win.find = finder(q);
  const query = new URLSearchParams(filter);
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  toTail();
}

let typing = 0;
$("q").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(applyFilter, 250);
});

function clearFilter() {
  if (!$("q").value && !$("level").value) return;
  $("q").value = "";
  $("level").value = "";
  applyFilter();
}

function mark(node) {
  marked?.classList.remove("marked");
  marked = node;
  node?.classList.add("marked");
}

function moveMark(step) {
  const from = marked?.isConnected ? win.neighbour(marked, step) : win.firstSeen();
  if (!from) return;
  if (following) setFollowing(false);
  mark(from);
  from.scrollIntoView({ block: "nearest", inline: "start" });
}

async function copyLink(node) {
  if (!node?.isConnected) return toast("Mark a line first (j, k)");
  mark(node);
  if (node.line.end === null) return toast("Links to these lines are not possible");
  const link = `${location.origin}${location.pathname}#${node.line.end}`;
  history.replaceState(null, "", link);
  return toast((await copy(link)) ? "Link copied" : "The link is in the address bar");
}

log.addEventListener("scroll", onScroll, { passive: true });
function leave(event) {
  target = null;
  if (event.deltaY < 0 && log.scrollHeight > log.clientHeight) setFollowing(false);
}

// A turn of the wheel is heard before the next lines pull the page down again.
log.addEventListener("wheel", leave, { passive: true });
log.addEventListener("touchmove", () => (target = null), { passive: true });
log.addEventListener("click", (event) => {
  const link = event.target.closest(".at");
  const all = event.target.closest(".all");
  if (link) {
    event.preventDefault();
    copyLink(link.parentElement);
  }
  if (all) win.keepingPlace(() => expand(all.parentElement, win.find));
});
new ResizeObserver(() => following && toBottom()).observe(log);

$("level").addEventListener("change", applyFilter);
$("pause").addEventListener("click", () => setPaused(!paused));
$("follow").addEventListener("click", follow);
$("newer").addEventListener("click", () => {
  follow();
  log.focus({ preventScroll: true });
});
$("wrap").addEventListener("click", () => setWrap(!document.body.classList.contains("wrap")));
$("help").addEventListener("click", () => $("keys").showModal());
$("keys-close").addEventListener("click", () => $("keys").close());
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  log.focus();
});

const KEYS = {
  "/": () => $("q").focus(),
  "?": () => $("keys").showModal(),
  " ": () => setPaused(!paused),
  f: follow,
  End: follow,
  g: () => toOffset(0),
  Home: () => toOffset(0),
  j: () => moveMark(1),
  k: () => moveMark(-1),
  c: () => copyLink(marked),
  w: () => setWrap(!document.body.classList.contains("wrap")),
  Escape: clearFilter,
  Enter: () => marked && isLong(marked) && win.keepingPlace(() => expand(marked, win.find)),
};

// The log has the focus from the start, for its keys; its ring is for those who walk with Tab.
addEventListener("keydown", (event) => event.key === "Tab" && document.body.classList.add("keyboard"));
addEventListener("pointerdown", () => document.body.classList.remove("keyboard"));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (isTyping(event)) {
    if (event.key === "Escape") {
      clearFilter();
      log.focus({ preventScroll: true });
    }
    return;
  }
  const onButton = event.target.matches("button, a");
  if (onButton && (event.key === " " || event.key === "Enter")) return;
  const action = KEYS[event.key];
  if (!action) return;
  if (event.key !== "Enter" || marked) event.preventDefault();
  action();
});

addEventListener("hashchange", () => fromHash() ?? toTail());

let hiding = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => stream.stop(), HIDDEN);
  } else if (!stream.running && !ended && !missing && !loading) {
    if (following) toTail();
    else if (!ahead) streamFrom(win.end);
    else streamFrom(position);
  }
});

// -- the beginning ----------------------------------------------------------------------------------------------

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // not kept
  }
}

function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function fromHash() {
  const found = /^#(\d{1,16})$/.exec(location.hash);
  return found ? toOffset(Number(found[1])) : null;
}

const asked = new URLSearchParams(location.search);
$("q").value = asked.get("q") ?? "";
$("level").value = asked.get("level")?.toUpperCase() ?? "";
filter = { ...($("q").value && { q: $("q").value }), ...($("level").value && { level: $("level").value }) };
win.find = finder($("q").value);
setWrap((recall("reconciler.wrap") ?? (matchMedia("(max-width: 720px)").matches ? "1" : "0")) === "1");
log.focus({ preventScroll: true });
if (fromHash() === null) toTail();
