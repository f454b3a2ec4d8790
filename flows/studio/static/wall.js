// A wall of tiles as high as the whole list, of which only those near the window exist. The page's
// own scroll bar tells the truth, and where one was is found again after a reload or going back.

import { Thumbnails } from "./thumbnails.js";

const GAP = 8;
const CAPTION = 26;
const CHUNK = 120; // pictures that are asked for together
const KEPT_CHUNKS = 40;
const OVERSCAN_ROWS = 2;
const RETRY_MS = 2000;

export class Wall extends EventTarget {
  #holder;
  #query;
  #listing = "";
  #chunks = new Map(); // number to rows; the most recently used last
  #asked = new Map(); // number to AbortController
  #tiles = new Map(); // position to element
  #thumbnails = new Thumbnails();
  #describe;
  #painting = 0;
  #columns = 1;
  #side = 128;
  #restored = false;
  total = null;

  /**
   * `holder` is the element that gets the tiles. `query` is the filter as URLSearchParams.
   * `describe(tile, row, position)` is called whenever a tile is shown, its row undefined until
   * that is there. Events: "rows" when rows have come, "trouble" (detail: a sentence, or "").
   */
  constructor({ holder, query, describe }) {
    super();
    this.#holder = holder;
    this.#query = query;
    this.#describe = describe;
    history.scrollRestoration = "manual";
    addEventListener("scroll", () => this.paint(), { passive: true });
    addEventListener("scrollend", () => this.#remember());
    addEventListener("pagehide", () => this.#remember());
    new ResizeObserver(() => this.#resized()).observe(holder);
    this.#ask(0, history.state?.picture ?? "");
  }

  get columns() {
    return this.#columns;
  }

  /** The row at a position, or undefined while it is not there. */
  row(position) {
    return this.#chunks.get(Math.floor(position / CHUNK))?.[position % CHUNK];
  }

  /** The tile at a position, or undefined when it is not near the window. */
  tile(position) {
    return this.#tiles.get(position);
  }

  /** Positions of the tiles that can be seen in full, first to last. */
  inView() {
    const { top, bottom } = this.#window();
    const first = Math.ceil(top / this.#rowHeight) * this.#columns;
    const last = Math.floor((bottom + GAP) / this.#rowHeight) * this.#columns;
    return range(Math.max(0, first), Math.min(last, this.total ?? 0));
  }

  /** Positions of the tiles that a rectangle touches, in pixels of the wall. */
  touching({ left, top, right, bottom }) {
    const width = this.#side + GAP;
    const columns = range(Math.max(0, Math.floor((left + GAP) / width)), Math.min(this.#columns, Math.floor(right / width) + 1));
    const rows = range(Math.max(0, Math.floor((top + GAP) / this.#rowHeight)), Math.floor(Math.max(0, bottom) / this.#rowHeight) + 1);
    return rows.flatMap((row) => columns.map((column) => row * this.#columns + column)).filter((at) => at < (this.total ?? 0));
  }

  /** Scroll as little as it takes for a tile to be seen in full. */
  reveal(position) {
    const top = Math.floor(position / this.#columns) * this.#rowHeight;
    const window_ = this.#window();
    if (top < window_.top) scrollBy(0, top - window_.top - GAP);
    else if (top + this.#rowHeight > window_.bottom) scrollBy(0, top + this.#rowHeight - window_.bottom);
    this.paint();
  }

  /** Return `{sha256, answer}` of the pictures from one position to another, both included. */
  async run(from, to) {
    const rows = range(from, to + 1).map((at) => this.row(at));
    if (rows.every((row) => row !== undefined)) return rows;
    const asked = new URLSearchParams(this.#query);
    asked.set("listing", this.#listing);
    asked.set("start", from);
    asked.set("limit", to - from + 1);
    const body = await answerOf(await fetch(`/api/images/run?${asked}`));
    return body.pictures;
  }

  /** Show what has changed: at most once a frame. */
  paint() {
    this.#painting ||= requestAnimationFrame(() => {
      this.#painting = 0;
      this.#paint();
    });
  }

  get #rowHeight() {
    return this.#side + CAPTION + GAP;
  }

  /** The part of the wall that the window shows, in pixels of the wall; bars cover the rest. */
  #window() {
    const top = -this.#holder.getBoundingClientRect().top;
    const bar = document.getElementById("bar").getBoundingClientRect();
    // On a small window the bar stands at the bottom.
    if (bar.top > innerHeight / 2) return { top: top + document.querySelector(".top").getBoundingClientRect().bottom, bottom: top + bar.top };
    return { top: top + Math.max(0, bar.bottom), bottom: top + innerHeight };
  }

  #resized() {
    const at = this.#topmost();
    const width = this.#holder.clientWidth;
    const least = width < 560 ? 104 : 136;
    this.#columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    this.#side = (width - GAP * (this.#columns - 1)) / this.#columns;
    for (const tile of this.#tiles.values()) this.#remove(tile);
    this.#tiles.clear();
    this.#setHeight();
    if (this.#restored) this.#scrollTo(at);
    this.paint();
  }

  #setHeight() {
    if (this.total === null) return;
    const rows = Math.ceil(this.total / this.#columns);
    this.#holder.style.height = `${Math.max(0, rows * this.#rowHeight - GAP)}px`;
  }

  #paint() {
    if (this.total === null) return;
    const { top, bottom } = this.#window();
    const rows = [Math.floor(top / this.#rowHeight) - OVERSCAN_ROWS, Math.ceil(bottom / this.#rowHeight) + OVERSCAN_ROWS];
    const first = Math.max(0, rows[0] * this.#columns);
    const end = Math.min(this.total, rows[1] * this.#columns);
    for (const [position, tile] of this.#tiles) {
      if (position >= first && position < end) continue;
      this.#remove(tile);
      this.#tiles.delete(position);
    }
    this.#askFor(first, end);
    const seen = Math.min(end, Math.max(0, Math.floor(top / this.#rowHeight)) * this.#columns);
    const wanted = [];
    // What is seen first, as one reads; what lies above it is for those who turn back.
    for (const position of [...range(seen, end), ...range(first, seen).reverse()]) {
      const tile = this.#tiles.get(position) ?? this.#add(position);
      const row = this.row(position);
      this.#describe(tile, row, position);
      if (row) wanted.push({ image: tile.firstChild, address: `/pictures/${row.sha256}/thumbnail.jpg` });
    }
    this.#thumbnails.want(wanted);
  }

  #add(position) {
    const tile = document.createElement("div");
    tile.className = "tile";
    tile.id = `tile-${position}`;
    tile.dataset.position = position;
    tile.setAttribute("role", "option");
    tile.setAttribute("aria-setsize", this.total);
    tile.setAttribute("aria-posinset", position + 1);
    const image = document.createElement("img");
    image.decoding = "async";
    image.draggable = false;
    image.alt = "";
    const caption = document.createElement("span");
    caption.className = "caption";
    tile.append(image, caption);
    tile.style.width = `${this.#side}px`;
    tile.style.height = `${this.#side + CAPTION}px`;
    const left = (position % this.#columns) * (this.#side + GAP);
    tile.style.transform = `translate(${left}px, ${Math.floor(position / this.#columns) * this.#rowHeight}px)`;
    this.#tiles.set(position, tile);
    // In the order of the list, for those who hear the page.
    const after = [...this.#holder.children].find((each) => Number(each.dataset.position) > position);
    this.#holder.insertBefore(tile, after ?? null);
    return tile;
  }

  #remove(tile) {
    this.#thumbnails.drop(tile.firstChild);
    tile.remove();
  }

  #askFor(first, end) {
    const needed = new Set(range(Math.floor(first / CHUNK), Math.ceil(end / CHUNK)));
    for (const [number, asking] of this.#asked) {
      if (!needed.has(number)) asking.abort(); // scrolled past
    }
    for (const number of needed) {
      if (!this.#chunks.has(number) && !this.#asked.has(number)) this.#ask(number);
    }
  }

  async #ask(number, anchor = "") {
    const asking = new AbortController();
    this.#asked.set(number, asking);
    const asked = new URLSearchParams(this.#query);
    asked.set("listing", this.#listing);
    asked.set("start", number * CHUNK);
    asked.set("limit", CHUNK);
    if (anchor) asked.set("anchor", anchor);
    let body;
    try {
      body = await answerOf(await fetch(`/api/images?${asked}`, { signal: asking.signal }));
    } catch (error) {
      this.#asked.delete(number);
      if (error.name === "AbortError") return;
      this.#tell("trouble", sentence(error));
      setTimeout(() => (this.total === null ? this.#ask(0, anchor) : this.paint()), RETRY_MS);
      return;
    }
    this.#asked.delete(number);
    this.#take(number, body);
    this.#tell("trouble", "");
  }

  #take(number, body) {
    if (body.listing !== this.#listing) {
      // The list was made anew: what was known of the old one says nothing about positions.
      this.#chunks.clear();
      [this.#listing, this.total] = [body.listing, body.total];
      this.#setHeight();
    }
    this.#chunks.set(number, body.pictures);
    for (const old of this.#chunks.keys()) {
      if (this.#chunks.size <= KEPT_CHUNKS) break;
      this.#chunks.delete(old);
    }
    if (!this.#restored) {
      this.#restored = true;
      const { position = 0, offset = 0 } = history.state ?? {};
      if (position > 0 || offset > 0) this.#scrollTo({ position: body.anchor ?? position, offset });
    }
    this.#tell("rows");
    this.paint();
  }

  #topmost() {
    const top = -this.#holder.getBoundingClientRect().top;
    const row = Math.max(0, Math.floor(top / this.#rowHeight));
    return { position: row * this.#columns, offset: Math.round(top - row * this.#rowHeight) };
  }

  #scrollTo({ position, offset }) {
    const top = this.#holder.getBoundingClientRect().top + scrollY;
    scrollTo(0, top + Math.floor(position / this.#columns) * this.#rowHeight + offset);
  }

  #remember() {
    if (!this.#restored) return;
    const at = scrollY === 0 ? { position: 0, offset: 0 } : this.#topmost();
    history.replaceState({ ...at, picture: this.row(at.position)?.sha256 }, "");
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function range(from, end) {
  return Array.from({ length: Math.max(0, end - from) }, (_, index) => from + index);
}

async function answerOf(answer) {
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof body.detail === "string" ? body.detail : `The studio answered ${answer.status}.`);
  return body;
}

function sentence(error) {
  return error instanceof TypeError ? "The studio does not answer." : error.message;
}
