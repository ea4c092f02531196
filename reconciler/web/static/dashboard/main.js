// The dashboard: asks every two seconds while someone looks, at once when something happened, and patches what changed.

import { copy, isTyping, setHidden, setText } from "../dom.js";
import { count, duration, visible } from "../format.js";
import { ApiError, getJson, postJson, Stream } from "../net.js";
import { Feed } from "./feed.js";
import { Head, showNotice } from "./head.js";
import { HeldBanner } from "./held.js";
import { History } from "./history.js";
import { QueueList } from "./list.js";
import { merge, overall, totals } from "./model.js";
import { Revisions } from "./revisions.js";

const POLL = 2_000;
const SOON = 120; // after an event; more of them in that time are one
const KINDS = ["plan", "action", "held", "worker", "drift", "file", "broker", "git"];

const $ = (id) => document.getElementById(id);

const history = new History();
const list = new QueueList($("queues"), history);
const head = new Head();
const held = new HeldBanner((status) => show(status, null), (text) => say(text));
new Revisions(() => soon());
const feed = new Feed($("events"), $("events-empty"), (queue) => reveal(queue));

const known = { queues: new Map(), list: null, workers: [] };
let answered = Date.now();
let took = 0; // milliseconds the last look took: a slow server is asked less often
let timer = 0;
let due = Infinity; // when the next look is
let looking = false;
let again = false;

// -- looking ---------------------------------------------------------------------------------------------------

async function look() {
  if (looking) {
    again = true;
    return;
  }
  looking = true;
  clearTimeout(timer);
  due = Infinity;
  const started = performance.now();
  try {
    const [status, queues, workers] = await Promise.allSettled([
      getJson("/status"),
      getJson("/queue/list"),
      getJson("/worker/list"),
    ]);
    if (status.status === "rejected") throw status.reason;
    if (workers.status === "fulfilled") known.workers = workers.value.workers;
    show(status.value, queues.status === "fulfilled" ? queues.value.queues : null);
    answered = Date.now();
    showNotice(away(status.value.broker));
  } catch (error) {
    unanswered(error);
  }
  took = performance.now() - started;
  looking = false;
  plan(again ? Math.max(SOON, took * 3) : Math.max(POLL, took * 6));
  again = false;
}

/** The next look, `delay` from now unless an earlier one is planned. None while nobody looks. */
function plan(delay) {
  if (document.hidden || performance.now() + delay >= due) return;
  clearTimeout(timer);
  due = performance.now() + delay;
  timer = setTimeout(look, delay);
}

function soon() {
  if (looking) again = true;
  else plan(Math.max(SOON, took * 3));
}

function show(status, queues) {
  const now = Date.now();
  if (queues === null && status.broker.connected) queues = known.list;
  known.list = queues;
  known.queues = merge(status, queues, known.workers, known.queues);
  history.add(known.queues, now);
  const sum = totals(known.queues);
  head.update(status, overall(status, known.queues), sum, now);
  held.update(status.held);
  for (const filter of ["all", "problems", "managed", "unmanaged"]) setText($(`count-${filter}`), count(sum[filter]));
  $("count-problems").classList.toggle("is-some", sum.problems > 0);
  setHidden($("start"), sum.managed > 0 || Boolean(status.file_error));
  setHidden($("panel"), sum.all === 0);
  setHidden($("loading"), true);
  list.update(known.queues, now);
}

function away(broker) {
  return broker.connected ? null : `The broker is away${broker.error ? `: ${visible(broker.error)}` : ""}. It is tried again by itself.`;
}

function unanswered(error) {
  const silent = Date.now() - answered;
  const first = error instanceof ApiError && error.status === 503;
  const shown = known.queues.size ? `What you see is ${duration(silent)} old.` : "";
  showNotice(first ? error.message : `The daemon does not answer. ${shown}`, !first);
  if (!first) head.pill({ word: "No answer", tone: "bad" });
}

// -- what happens ----------------------------------------------------------------------------------------------

const heard = (message) => {
  let event;
  try {
    event = JSON.parse(message.data);
  } catch {
    return;
  }
  if (feed.add(event)) soon();
};
const events = new Stream(() => "/events", Object.fromEntries(KINDS.map((kind) => [kind, heard])));

function attend() {
  if (document.hidden) {
    clearTimeout(timer);
    due = Infinity;
    events.stop();
  } else {
    events.start();
    look();
  }
}

setInterval(() => {
  if (document.hidden) return;
  const now = Date.now();
  head.tick(now);
  list.tick(now);
}, 1000);

// -- what people do --------------------------------------------------------------------------------------------

async function syncNow() {
  const button = $("sync");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  setText($("sync-text"), "Syncing …");
  try {
    show(await postJson("/sync", {}), known.list);
    say("");
  } catch (error) {
    say(error instanceof ApiError ? error.message : "The daemon does not answer.");
  }
  button.removeAttribute("aria-disabled");
  setText($("sync-text"), "Sync now");
  soon();
}

function say(text) {
  setText($("alert-text"), text);
  setHidden($("alert"), !text);
}

function applyFilter() {
  const filter = document.querySelector("input[name=filter]:checked").value;
  list.setFilter(filter, $("search").value);
}

list.onShown = (shown) => setHidden($("nothing"), shown > 0 || known.queues.size === 0);

function reveal(queue) {
  if (!known.queues.has(queue)) return;
  clearSearch();
  list.reveal(queue);
}

function clearSearch() {
  $("search").value = "";
  document.querySelector("input[name=filter][value=all]").checked = true;
  applyFilter();
}

$("sync").addEventListener("click", syncNow);
$("search").addEventListener("input", applyFilter);
$("sort").addEventListener("change", () => list.setSort($("sort").value));
$("nothing-clear").addEventListener("click", clearSearch);
$("alert-close").addEventListener("click", () => say(""));
$("help").addEventListener("click", () => $("keys").showModal());
$("keys-close").addEventListener("click", () => $("keys").close());
$("start-copy").addEventListener("click", async () => {
  setText($("start-copy"), (await copy($("start-yaml").textContent)) ? "Copied" : "Select it and copy");
  setTimeout(() => setText($("start-copy"), "Copy"), 2000);
});
for (const radio of document.querySelectorAll("input[name=filter]")) radio.addEventListener("change", applyFilter);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && event.target === $("search")) {
    clearSearch();
    return;
  }
  if (event.key === "ArrowDown" && event.target === $("search")) {
    event.preventDefault();
    list.move(1);
    return;
  }
  if (isTyping(event)) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

const KEYS = {
  "/": () => $("search").focus(),
  "?": () => $("keys").showModal(),
  j: () => list.move(1),
  k: () => list.move(-1),
  p: () => {
    document.querySelector("input[name=filter][value=problems]").checked = true;
    applyFilter();
  },
  s: syncNow,
};

document.addEventListener("visibilitychange", attend);
attend();
