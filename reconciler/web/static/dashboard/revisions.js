// What was in force before: a dialog with the revisions, what changed since each, and the way back to it.

import { el, setHidden, setText } from "../dom.js";
import { ago, time, visible } from "../format.js";
import { ApiError, getJson, getText, postJson } from "../net.js";

const $ = (id) => document.getElementById(id);
const LISTED = 100;
const TONES = { synced: "ok", held: "warn", faults: "bad", pending: "info", superseded: "mute" };
const WAYS = { file: "by hand", api: "by the API", cli: "by the command line", git: "by git", rollback: "rolled back" };

export class Revisions {
  constructor(onWritten) {
    this.onWritten = onWritten;
    this.dialog = $("revisions");
    this.chosen = null; // the revision whose difference is shown
    $("revisions-open").addEventListener("click", () => this.open());
    $("revisions-close").addEventListener("click", () => this.dialog.close());
    $("revisions-back").addEventListener("click", () => this.list());
    $("revisions-write").addEventListener("click", () => this.rollBack());
  }

  async open() {
    this.dialog.showModal();
    await this.list();
  }

  async list() {
    this.show(null);
    try {
      const found = await getJson(`/history?limit=${LISTED}`);
      setText($("revisions-note"), found.error ?? (found.revisions.length ? "" : "Nothing was in force yet."));
      const current = found.revisions.find((entry) => entry.in_force && entry.revision === found.in_force);
      $("revisions-list").replaceChildren(...found.revisions.map((entry) => this.item(entry, entry === current)));
    } catch (error) {
      this.fail(error);
    }
  }

  item(entry, current) {
    const at = time(entry.at);
    const when = el("time", { dateTime: entry.at, title: new Date(at).toLocaleString() }, ago(Date.now() - at));
    const by = [entry.by && visible(entry.by.replace(/ <.*>$/, "")), WAYS[entry.via] ?? entry.via].filter(Boolean).join(", ");
    const commit = entry.commit ? ` · commit ${entry.commit.slice(0, 8)}` : "";
    const result = el("span", { class: `pill tone-${TONES[entry.result] ?? "mute"}`, title: visible(entry.reason ?? "") }, entry.result);
    const label = `Compare with revision ${entry.revision.slice(0, 8)}`;
    const look = current
      ? el("span", { class: "revision-now" }, "In force")
      : el("button", { class: "button", type: "button", aria: { label }, onclick: () => this.compare(entry) }, "Compare");
    return el(
      "li",
      { class: "revision" },
      el("div", { class: "revision-text" },
        el("b", {}, visible(entry.text || "edit")),
        el("span", { class: "revision-sub" }, when, ` · ${by}`, ` · `, el("span", { class: "mono" }, entry.revision.slice(0, 8)), commit),
        entry.reason ? el("span", { class: "revision-sub" }, visible(entry.reason)) : null),
      result,
      look,
    );
  }

  async compare(entry) {
    this.show(entry.revision);
    setText($("revisions-title"), `From what is in force to revision ${entry.revision.slice(0, 8)}`);
    $("revisions-diff").replaceChildren();
    try {
      const { in_force: now } = await getJson("/history?limit=1");
      const text = await getText(`/history/${now}/diff?to=${entry.revision}`);
      $("revisions-diff").replaceChildren(...text.split("\n").slice(2).map(diffLine));
      setText($("revisions-note"), text ? "" : "It says the same as what is in force.");
      $("revisions-write").disabled = !text || !entry.in_force;
    } catch (error) {
      this.fail(error);
    }
  }

  /** The list, or the difference to `revision`. */
  show(revision) {
    this.chosen = revision;
    setText($("revisions-note"), "");
    if (revision === null) setText($("revisions-title"), "History");
    setHidden($("revisions-list"), revision !== null);
    for (const id of ["revisions-diff", "revisions-back", "revisions-write"]) setHidden($(id), revision === null);
    $("revisions-write").disabled = true;
  }

  async rollBack() {
    $("revisions-write").disabled = true;
    try {
      const answer = await postJson(`/rollback/${this.chosen}?wait=5`, {});
      await this.list();
      setText($("revisions-note"), visible(answer.message));
      this.onWritten();
    } catch (error) {
      this.fail(error);
      $("revisions-write").disabled = false;
    }
  }

  fail(error) {
    setText($("revisions-note"), error instanceof ApiError ? visible(error.message) : "The daemon does not answer.");
  }
}

function diffLine(line) {
  const kind = { "+": "is-added", "-": "is-removed", "@": "is-place" }[line[0]] ?? "";
  return el("span", { class: `diff-line ${kind}` }, `${visible(line)}\n`);
}
