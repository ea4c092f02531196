// The head of the page: the one word, the facts below it, and the banners for what needs a person.

import { el, setClass, setHidden, setText } from "../dom.js";
import { ago, count, milliseconds, plural, time, visible } from "../format.js";

const $ = (id) => document.getElementById(id);

export class Head {
  constructor() {
    this.status = null;
  }

  update(status, state, sum, now) {
    this.status = status;
    this.pill(state);
    setText($("revision"), status.revision ? status.revision.slice(0, 12) : "none yet");
    $("revision").title = status.revision ?? "";
    this.git(status);
    setText($("broker"), status.broker.version ? `RabbitMQ ${status.broker.version}` : status.broker.connected ? "connected" : "away");
    setText($("queues-sum"), count(sum.all));
    setText($("queues-sub"), sum.unmanaged ? `${count(sum.unmanaged)} unmanaged` : "all managed");
    setText($("workers-sum"), `${count(sum.ready)}/${count(sum.desired)}`);
    setText($("messages-sum"), count(sum.messages));
    this.blind(status.broker);
    this.faults(status);
    this.warnings(status);
    this.tick(now);
  }

  /** The commit in force and its branch; what git cannot do is told with what it means. */
  git({ commit, git }) {
    const branch = git?.branch ? ` on ${visible(git.branch)}` : "";
    setText($("commit"), commit ? `commit ${commit.slice(0, 8)}${branch}` : git ? "not committed" : "");
    $("commit").title = [commit, git?.url ?? git?.repository, git?.path].filter(Boolean).join("\n");
    setHidden($("git"), !git?.error);
    const follows = git?.mode === "follow";
    setText($("git-title"), follows ? `Following ${visible(git.url)} is in trouble` : "Writes are not committed to git");
    setText($("git-text"), git?.error ? visible(git.error) : "");
    setText($("git-note"), follows ? "What was taken last stays in force." : "The file is written all the same, and committed once git takes it.");
  }

  pill({ word, tone, moving }) {
    setText($("state"), word);
    setClass($("state"), `pill tone-${tone}${moving ? " pulse" : ""}`);
    document.title = word === "Synced" ? "queue-reconciler" : `${word} · queue-reconciler`;
  }

  tick(now) {
    const last = this.status?.last_reconcile;
    const at = time(last?.at);
    setText($("last"), at === null ? "–" : ago(now - at));
    setText($("last-sub"), at === null ? "" : [milliseconds(last.seconds), last.trigger].filter(Boolean).join(", "));
    $("last").title = at === null ? "" : new Date(at).toLocaleString();
  }

  /** Without the management API some things cannot be seen; that is worth a word, not an alarm. */
  blind(broker) {
    const cannot = broker.cannot_see ?? [];
    setText($("broker-sub"), broker.error ?? (cannot.length ? `AMQP only: no ${cannot.join(", ")}` : broker.management ? "management on" : ""));
    $("broker-sub").title = [broker.error, broker.management_error].filter(Boolean).join("\n") || $("broker-sub").textContent;
  }

  faults(status) {
    const faults = (status.file_error ?? "").split("\n").filter(Boolean);
    setHidden($("faults"), faults.length === 0);
    setText($("faults-title"), `queues.yaml has ${plural(faults.length, "fault")}`);
    const text = faults.join("\n");
    if (this.faultText === text) return;
    this.faultText = text;
    $("faults-list").replaceChildren(...faults.map(faultLine));
  }

  /** What this version of RabbitMQ will refuse, or do otherwise. Folded: some of it stays for as long as the file does. */
  warnings({ warnings = [], broker }) {
    setHidden($("warnings"), warnings.length === 0);
    const things = plural(warnings.length, "thing");
    setText($("warnings-title"), `RabbitMQ ${broker.version ?? ""} will not do ${things} as queues.yaml says`);
    const text = JSON.stringify(warnings);
    if (this.warningText === text) return;
    this.warningText = text;
    const lines = warnings.map(({ path, message, severity }) => `${path}: ${severity === "error" ? "refused: " : ""}${message}`);
    $("warnings-list").replaceChildren(...lines.map(faultLine));
  }
}

/** `file:12:7: path: what (fix)`, its place set apart. */
function faultLine(fault) {
  const found = /^(.*?:\d+:\d+:?|[^\s:]+:)\s*(.*)$/s.exec(fault);
  if (!found) return el("li", {}, visible(fault));
  return el("li", {}, el("b", {}, visible(found[1])), " ", visible(found[2]));
}

/** What stands between the page and the truth; null for nothing. `stale`: what is shown is old. */
export function showNotice(text, stale = false) {
  setHidden($("notice"), text === null);
  setText($("notice-text"), text ?? "");
  document.body.classList.toggle("is-stale", stale);
}
