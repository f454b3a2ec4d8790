// Thumbnails in order of need, a few at a time, and not at all when they have been scrolled past.
// The browser decodes them off the main thread.

// Chromium opens six connections to a host of HTTP/1.1; one stays free for the studio's answers.
const AT_ONCE = 5;

export class Thumbnails {
  #queue = []; // {image, address, later}, the most wanted first
  #loading = new Set();
  #waiters = [];

  /**
   * Load these, `{image, address}` in order of need, and forget what was wanted before. Those that
   * are `later`, which nobody looks at yet, come one at a time: keys are answered meanwhile.
   */
  want(wanted) {
    this.#queue = wanted.filter(({ image }) => !image.src && !this.#loading.has(image));
    this.#fill();
  }

  /** Stop loading into an image that is not shown any longer. */
  drop(image) {
    this.#loading.delete(image);
    image.removeAttribute("src");
  }

  /** Wait until nothing that is wanted is missing. */
  async drained() {
    if (this.#loading.size + this.#queue.length > 0) await new Promise((resolve) => this.#waiters.push(resolve));
  }

  #fill() {
    while (this.#queue.length > 0 && this.#loading.size < (this.#queue[0].later ? 1 : AT_ONCE)) {
      const { image, address } = this.#queue.shift();
      this.#loading.add(image);
      const ended = () => {
        if (this.#loading.delete(image)) this.#fill();
      };
      image.addEventListener("load", ended, { once: true });
      image.addEventListener("error", ended, { once: true });
      image.src = address;
    }
    if (this.#loading.size === 0) for (const tell of this.#waiters.splice(0)) tell();
  }
}
