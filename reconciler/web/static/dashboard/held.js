// What waits for a person: the banner, and the dialog that lists what a confirmation would delete.

import { el, setHidden, setText } from "../dom.js";
import { exact, plural, visible } from "../format.js";
import { ApiError, postJson } from "../net.js";

const $ = (id) => document.getElementById(id);
const LISTED = 8; // queues named in the banner for each reason

export class HeldBanner {
  constructor(onStatus) {
    this.onStatus = onStatus;
    this.dialog = $("confirm");
    this.asked = null; // what the open dialog shows: exactly this is confirmed, whatever comes meanwhile
    $("held-confirm").addEventListener("click", () => this.ask());
    $("confirm-yes").addEventListener("click", () => this.confirm());
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

  ask() {
    const actions = this.held.actions.filter((action) => action.needs_confirmation);
    this.asked = { revision: this.held.revision };
    const messages = actions.reduce((sum, action) => sum + (action.messages ?? 0), 0);
    const queues = plural(actions.length, "queue");
    setText($("confirm-title"), `Delete ${queues} at the broker?`);
    setText($("confirm-text"), `Revision ${this.held.revision.slice(0, 12)} no longer lists them. Deleted messages do not come back.`);
    setText($("confirm-yes"), messages ? `Delete ${queues}, ${plural(messages, "message")}` : `Delete ${queues}`);
    $("confirm-list").replaceChildren(...actions.map(line));
    setText($("confirm-error"), "");
    $("confirm-yes").disabled = false;
    this.dialog.showModal();
  }

  async confirm() {
    $("confirm-yes").disabled = true;
    try {
      this.onStatus(await postJson("/sync", { confirm: this.asked.revision }));
      this.dialog.close();
    } catch (error) {
      setText($("confirm-error"), error instanceof ApiError ? error.message : "Nobody answered. Nothing was confirmed.");
      $("confirm-yes").disabled = false;
    }
  }
}

function byReason(actions) {
  const reasons = new Map();
  for (const { queue, reason } of actions) reasons.set(reason, [...(reasons.get(reason) ?? []), queue]);
  return reasons;
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
  const text = count === null ? "messages not known" : count === 0 ? "empty" : plural(count, "message");
  return el("li", {}, el("bdi", { class: "confirm-name" }, visible(action.queue)), el("span", { class: count ? "confirm-count is-some" : "confirm-count", title: exact(count) }, text));
}
