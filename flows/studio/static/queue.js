// A label's queue, as the studio deals it out to this tab, and what to say when others have the rest.

import { post } from "./post.js";
import { reviewer } from "./reviewer.js";
import { tab } from "./tab.js";

// How long an empty page waits before it looks again: longer each time, because each asks the store.
const FIRST_WAIT_MS = 3000;
const LAST_WAIT_MS = 15_000;

export class Queue {
  #path;
  #asked; // what is asked for, but for where a page starts
  #watching = null; // what tells one `watch` from those before it

  constructor({ path = "/api/queue", ...asked }) {
    this.#path = path;
    this.#asked = asked;
    // Others are asked what this tab leaves undecided.
    addEventListener("pagehide", () => this.#tell("release", { keepalive: true }).catch(() => undefined));
  }

  /**
   * Return the page that starts after the picture `from` ("": the first): {pictures, total, next,
   * held, holders}, where `next` is null on the last; of clusters all there is. Throws an Error with a sentence.
   */
  async page(from) {
    this.unwatch();
    return this.#ask(from);
  }

  async #ask(from) {
    const query = new URLSearchParams({ ...this.#asked, holder: tab, reviewer: reviewer() });
    if (from) query.set("after", from);
    let answer;
    try {
      answer = await fetch(`${this.#path}?${query}`);
    } catch {
      throw new Error("The studio does not answer.");
    }
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    return body;
  }

  /**
   * Say in `place` that nothing waits, or who has what is left on the screen, with a button that
   * takes it over. `again()` is called when the queue is worth asking again.
   */
  sayEmpty(place, { held, holders }, again) {
    if (held === 0) {
      place.textContent = document.querySelector("[data-nothing]").dataset.nothing;
      return;
    }
    const words = document.createElement("span");
    words.textContent = heldWords(held, holders);
    const button = document.createElement("button");
    button.type = "button";
    button.id = "take-over";
    button.textContent = held === 1 ? "Take it over" : "Take them over";
    button.addEventListener("click", async () => {
      try {
        await this.#tell("claim");
        again();
      } catch (error) {
        words.textContent = error.message;
      }
    });
    place.replaceChildren(words, button);
  }

  /**
   * Look again now and then while this tab can be seen, and call `again()` when `isNew(picture)` of
   * one that is to be asked by then, or when others hold more or less than `held`.
   */
  async watch({ held }, isNew, again) {
    const watch = (this.#watching = {});
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(wait * 1.5, LAST_WAIT_MS)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      await seen();
      if (this.#watching !== watch) return;
      const found = await this.#ask("").catch(() => ({ held, pictures: [] })); // it is asked again
      if (this.#watching !== watch) return;
      const pictures = found.pictures ?? found.clusters.flat();
      if (found.held !== held || pictures.some((each) => !each.again && isNew(each))) {
        again();
        return;
      }
    }
  }

  /** Look no more. */
  unwatch() {
    this.#watching = null;
  }

  #tell(what, options) {
    return post(`/api/queue/${what}`, { label: this.#asked.label, holder: tab }, options);
  }
}

/** Wait until this tab can be seen: what a hidden one asks for, nobody else is asked. */
async function seen() {
  while (document.hidden) {
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

function heldWords(held, holders) {
  const me = reviewer() || document.getElementById("reviewer").placeholder;
  const others = holders.filter((each) => each !== me);
  const where = others.length === 0 ? "in another tab of yours" : `on the screen of ${others.join(" and ")}`;
  return held === 1 ? `The last picture is ${where}.` : `The last ${held} pictures are ${where}.`;
}
