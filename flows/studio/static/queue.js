// A label's queue, as the studio deals it out to this tab, and what to say when others have the rest.

import { post } from "./post.js";
import { holder, reviewer } from "./reviewer.js";

const AGAIN_MS = 5000;

export class Queue {
  #asked; // what is asked for, but for where a page starts
  #timer = 0;

  constructor({ label, order, limit }) {
    this.#asked = { label, order, limit };
    // Others are asked what this tab leaves undecided.
    addEventListener("pagehide", () => this.#tell("release", { keepalive: true }).catch(() => undefined));
  }

  /**
   * Return the page that starts after the picture `from` ("": the first): {pictures, total, next,
   * held, holders}, where `next` is null on the last. Throws an Error with a sentence.
   */
  async page(from) {
    clearTimeout(this.#timer);
    const query = new URLSearchParams({ ...this.#asked, holder: holder(), reviewer: reviewer() });
    if (from) query.set("after", from);
    let answer;
    try {
      answer = await fetch(`/api/queue?${query}`);
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
    this.#watch(held, again);
  }

  /** Call `again` when others hold more or less than `held`. */
  #watch(held, again) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      const found = await this.page("").catch(() => ({ held })); // it is asked again
      if (found.held === held) this.#watch(held, again);
      else again();
    }, AGAIN_MS);
  }

  #tell(what, options) {
    return post(`/api/queue/${what}`, { label: this.#asked.label, holder: holder() }, options);
  }
}

function heldWords(held, holders) {
  const me = reviewer() || document.getElementById("reviewer").placeholder;
  const others = holders.filter((each) => each !== me);
  const where = others.length === 0 ? "in another tab of yours" : `on the screen of ${others.join(" and ")}`;
  return held === 1 ? `The last picture is ${where}.` : `The last ${held} pictures are ${where}.`;
}
