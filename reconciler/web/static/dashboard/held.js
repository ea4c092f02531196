// What waits for a person: the banner, and the dialog that lists what a confirmation would delete.

import { el, setHidden, setText } from "../dom.js";
import { exact, plural, visible } from "../format.js";
import { ApiError, getJson, postJson } from "../net.js";

const $ = (id) => document.getElementById(id);
const LISTED = 8; // queues named in the banner for each reason

export class HeldBanner {
  constructor(onStatus, onError) {
    this.onStatus = onStatus;
    this.onError = onError;
    this.dialog = $("confirm");
    this.asked = null; // the digest of the plan that the dialog shows
    $("held-confirm").addEventListener("click", () => this.ask());
    $("confirm-yes").addEventListener("click", () => this.confirm());
    $("confirm-again").addEventListener("click", () => this.ask());
    $("confirm-no").addEventListener("click", () => this.dialog.close());
  }

  update(held) {
    this.held = held;
    setHidden($("held"), held === null);
    if (held === null) return;
    const deletions = held.actions.filter((action) => action.needs_confirmation);
    setText($("held-title"), deletions.length ? `${plural(deletions.length, "deletion")} waiting for your word` : `${plural(held.actions.length, "change")} held back`);
    setHidden($("held-confirm"), !held.needs_confirmation);
    const text = JSON.stringify(held.actions);
    if (text === this.shown) return;
    this.shown = text;
    $("held-list").replaceChildren(...[...byReason(held.actions)].map(([reason, names]) => sentence(names, reason)));
  }

  /** Shows the plan as it is this moment: its digest is what is confirmed, whatever comes meanwhile. */
  async ask() {
    $("held-confirm").disabled = true;
    try {
      this.review(await getJson("/plan"));
    } catch (error) {
      this.onError(error instanceof ApiError ? error.message : "The daemon does not answer.");
    }
    $("held-confirm").disabled = false;
  }

  review(plan) {
    const actions = (plan.held?.actions ?? []).filter((action) => action.needs_confirmation);
    if (!actions.length) return;
    this.asked = plan.digest;
    // What the file said of it last: without that word, a queue that is not empty stays, confirmed or not.
    for (const action of actions) action.loses = plan.basis.ledger[`queue ${action.queue}`]?.split(",")[0] === "delete";
    const lost = actions.reduce((sum, action) => sum + (action.loses ? (action.messages ?? 0) : 0), 0);
    const queues = plural(actions.length, actions.every((action) => !action.kind) ? "queue" : "thing");
    setText($("confirm-title"), `Delete ${queues} at the broker?`);
    const note = lost ? " Deleted messages do not come back." : " What is not empty stays until it is.";
    setText($("confirm-text"), `Revision ${plan.revision.slice(0, 12)} no longer lists them.${note}`);
    setText($("confirm-yes"), lost ? `Delete ${queues}, ${plural(lost, "message")}` : `Delete ${queues}`);
    $("confirm-list").replaceChildren(...actions.map(line));
    const others = plan.unmanaged?.count ?? 0;
    setText($("confirm-others"), others ? `${plural(others, "other queue")} on this vhost ${others === 1 ? "is" : "are"} not ours, and left alone.` : "");
    setText($("confirm-digest"), `plan ${plan.digest.slice(0, 12)}…`);
    setText($("confirm-error"), "");
    setHidden($("confirm-again"), true);
    setHidden($("confirm-yes"), false);
    $("confirm-yes").disabled = false;
    if (!this.dialog.open) this.dialog.showModal();
  }

  async confirm() {
    $("confirm-yes").disabled = true;
    try {
      this.onStatus(await postJson("/sync", { confirm: this.asked }));
      this.dialog.close();
    } catch (error) {
      const moved = error instanceof ApiError && Array.isArray(error.body?.moved);
      setText($("confirm-error"), error instanceof ApiError ? visible(error.message) : "Nobody answered. Nothing was confirmed.");
      setHidden($("confirm-again"), !moved);
      setHidden($("confirm-yes"), moved);
      $("confirm-yes").disabled = false;
    }
  }
}

function byReason(actions) {
  const reasons = new Map();
  for (const action of actions) reasons.set(action.reason, [...(reasons.get(action.reason) ?? []), called(action)]);
  return reasons;
}

/** A queue by its name alone, anything else with its kind. */
function called({ queue, kind }) {
  return kind ? `${kind} ${queue}` : queue;
}

/** **a**, **b** and 3 more: the reason */
function sentence(names, reason) {
  const item = el("li");
  names.slice(0, LISTED).forEach((name, index) => item.append(index ? ", " : "", el("b", {}, el("bdi", {}, visible(name)))));
  if (names.length > LISTED) item.append(` and ${exact(names.length - LISTED)} more`);
  item.append(`: ${visible(reason)}`);
  return item;
}

function line(action) {
  const count = action.messages ?? null;
  const text = count === null ? "messages not known" : count === 0 ? "empty" : `${plural(count, "message")}${flight(action)}`;
  const parts = [["worker", action.workers], ["binding", action.bindings]].filter(([, number]) => number);
  const cost = [text, ...parts.map(([noun, number]) => plural(number, noun))].join(", ");
  const stays = count && !action.loses ? ": stays until it is empty" : "";
  const tone = count && action.loses ? "confirm-count is-some" : "confirm-count";
  return el("li", {}, el("bdi", { class: "confirm-name" }, visible(called(action))), el("span", { class: tone, title: exact(count) }, cost + stays));
}

function flight(action) {
  const number = action.messages_unacknowledged;
  return number ? ` (${exact(number)} in flight)` : number === null ? ", in flight not known" : "";
}
