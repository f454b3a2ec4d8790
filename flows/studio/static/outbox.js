// Decisions on their way to the bucket. One that is not acknowledged stays in this browser's
// storage, through reloads, and is sent again until the studio has saved it.

import { reviewer } from "./reviewer.js";
import { sentence } from "./shell.js";

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8000;
const MAX_BATCH = 200;

export class Outbox {
  #prefix = `cratedig.pending.${document.body.dataset.project}.`;
  #pending = []; // oldest first
  #sending = false;
  #failing = false;
  #said = "";
  #wait = FIRST_RETRY_MS;
  #timer = 0;
  #listener;

  /**
   * `listener({state, said, pending})` is called after every change: state is "saved", "sending"
   * or "failing", `said` a sentence of the studio's when it fails. `saved(id)` and
   * `refused(id, reason)` are called once for each decision.
   */
  constructor({ changed, saved = () => {}, refused = () => {} }) {
    this.#listener = { changed, saved, refused };
    this.#pending = this.#stored();
    addEventListener("online", () => this.#retryNow());
    addEventListener("beforeunload", (event) => {
      if (this.#pending.length > 0 && !this.#isStored) event.preventDefault();
    });
    this.#tell();
    this.#send();
  }

  /** Add a decision about `sha256`; return its id, by which `saved` will name it. */
  add({ sha256, label, answer, given = "plain" }) {
    const decision = { id: newId(), sha256, label, answer, given, who: reviewer() };
    this.#pending.push(decision);
    this.#store(decision);
    this.#tell();
    this.#send();
    return decision.id;
  }

  /** The answer that is on its way for a picture and a label, or undefined. */
  waiting(sha256, label) {
    return this.#pending.findLast((each) => each.sha256 === sha256 && each.label === label)?.answer;
  }

  /** Wait until everything that was added is saved or refused. */
  async settled() {
    while (this.#pending.length > 0) await new Promise((resolve) => this.#waiters.push(resolve));
  }

  #waiters = [];
  #isStored = true;

  #store(decision) {
    try {
      localStorage.setItem(this.#prefix + decision.id, JSON.stringify(decision));
    } catch {
      this.#isStored = false; // storage is full or forbidden: leaving the page will ask first
    }
  }

  #stored() {
    const found = [];
    for (let index = 0; index < localStorage.length; index += 1) {
      const key = localStorage.key(index);
      if (key.startsWith(this.#prefix)) found.push(JSON.parse(localStorage.getItem(key)));
    }
    return found.sort((a, b) => (a.id < b.id ? -1 : 1)); // an id begins with its time
  }

  #settle(id) {
    localStorage.removeItem(this.#prefix + id);
    this.#pending = this.#pending.filter((each) => each.id !== id);
  }

  #retryNow() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#wait = FIRST_RETRY_MS;
    this.#send();
  }

  async #send() {
    // One request at a time keeps the order in which the decisions were made.
    if (this.#sending || this.#timer !== 0 || this.#pending.length === 0) return;
    this.#sending = true;
    this.#tell();
    const who = this.#pending[0].who;
    const others = this.#pending.findIndex((each) => each.who !== who);
    const batch = this.#pending.slice(0, others === -1 ? MAX_BATCH : Math.min(others, MAX_BATCH));
    const problem = await this.#sendBatch(batch, who);
    this.#sending = false;
    this.#failing = problem !== null;
    this.#said = problem ?? "";
    if (problem === null) {
      this.#wait = FIRST_RETRY_MS;
      this.#tell();
      this.#send();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#send();
    }, this.#wait);
    this.#wait = Math.min(this.#wait * 2, LAST_RETRY_MS);
    this.#tell();
  }

  /** Send decisions; return null when the studio dealt with them, else what is the matter. */
  async #sendBatch(batch, who) {
    const decisions = batch.map(({ who: _, ...decision }) => decision);
    let answer;
    try {
      answer = await fetch("/api/decisions", {
        method: "POST",
        headers: { "content-type": "application/json", "x-cratedig-studio": "1" },
        body: JSON.stringify({ decisions, reviewer: who ?? "" }),
      });
    } catch {
      return "The studio does not answer.";
    }
    const body = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      const said = typeof body.detail === "string" ? body.detail : `The studio answered ${answer.status}`;
      return said.endsWith(".") ? said : `${said}.`;
    }
    for (const id of body.saved) {
      this.#settle(id);
      this.#listener.saved(id);
    }
    for (const { id, reason } of body.refused) {
      this.#settle(id);
      this.#listener.refused(id, reason);
    }
    return null;
  }

  #tell() {
    const pending = this.#pending.length;
    const state = pending === 0 ? "saved" : this.#failing ? "failing" : "sending";
    this.#listener.changed({ state, said: this.#said, pending });
    for (const tell of this.#waiters.splice(0)) tell();
  }
}

let count = 0;

/** Return an id that sorts by time: 9 characters of time, 4 of count, then random ones. */
function newId() {
  count += 1;
  const random = crypto.getRandomValues(new Uint32Array(2));
  return [
    Date.now().toString(36).padStart(9, "0"),
    count.toString(36).padStart(4, "0"),
    random[0].toString(36).padStart(7, "0") + random[1].toString(36).padStart(7, "0"),
  ].join("-");
}

/** Show the outbox's state in the element `saving` (class .saving, with a .words inside). */
export function showState(saving, { state, said, pending }) {
  saving.dataset.state = state;
  const decisions = pending === 1 ? "1 decision" : `${pending} decisions`;
  saving.querySelector(".words").textContent = {
    saved: "All decisions are saved.",
    sending: `Saving ${decisions} …`,
    failing: `${sentence(said)} ${decisions} ${pending === 1 ? "is" : "are"} kept in this browser, and sent when it answers.`,
  }[state];
}
